"""Tuning: trials of hyper-parameters, suggested by Optuna and judged on a validation set."""
