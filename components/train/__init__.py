"""Training: from the interaction matrix to the model."""
