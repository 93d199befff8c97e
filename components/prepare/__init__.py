"""Preparation, the second step: creates dense indices, a holdout and the sparse matrix."""
