"""The holdout as an artifact (schema ``wals.holdout`` v1): matrices of what is kept from training.

targets/        a ``wals.matrix`` of the held-out interactions, by which a model is judged
history/        a ``wals.matrix`` of what is known of users who were held out whole; only with split ``users``
_manifest.json  split, seed, fraction, and how many entries the matrices have
"""

from trainer.files import Schema

SCHEMA = Schema("wals.holdout", 1)

TARGETS = "targets"
HISTORY = "history"
