"""The second step: dense indices, a holdout and the sparse matrix."""
