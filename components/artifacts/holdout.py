"""The holdout artifact (schema ``wals.holdout`` v1): matrices of interactions that are not trained on.

targets/        a ``wals.matrix`` of the held-out interactions, which a model has to predict
history/        a ``wals.matrix`` of the known interactions of users held out whole; only with split ``users``
_manifest.json  split, seed, fraction, and the number of entries of the matrices
"""

from trainer.files import Schema

SCHEMA = Schema("wals.holdout", 1)

TARGETS = "targets"
HISTORY = "history"
