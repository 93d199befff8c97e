"""The words of a model card that are the same for every model (schema ``wals.model_card`` v1)."""

from trainer.files import Schema

SCHEMA = Schema("wals.model_card", 1)

INTENDED_USE = (
    "Lists of items for users by their past interactions, items similar to an item, and embeddings of both "
    "for other systems.",
    "Scores order the items of one user. They are not probabilities, and scores of different users are not "
    "comparable.",
    "The model is not made for decisions about people, nor for finding out who a user is.",
)
LIMITS = (
    "Users and items without interactions in training have no factors until the next training. A user's "
    "factors can be computed from a list of items (fold-in); an item's cannot.",
    "The holdout consists of past interactions, which depend on what was shown to users. The metrics say "
    "little of items that were hardly ever shown, and do not replace a test with users.",
    "Popular items have the most interactions to learn from. Compare the segments and the long tail of the "
    "evaluation with the baselines.",
    "The model contains the ids of its users and their items. Protect it like the interactions that it was "
    "trained on.",
)
