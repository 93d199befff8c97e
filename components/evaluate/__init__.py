"""Evaluation: the model on the holdout, beside a popularity baseline."""
