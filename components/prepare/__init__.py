"""Preparation, the second step: makes dense indices, a holdout and the sparse matrix."""
