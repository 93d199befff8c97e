"""Training: the interaction matrix in, the model out."""
