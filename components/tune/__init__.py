"""Tuning: trials of hyper-parameters, suggested by Optuna and evaluated on a validation set."""
