"""Evaluation: the model on the holdout, compared with a popularity baseline."""
