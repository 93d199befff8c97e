"""The history of a training, which takes none of the libraries that training itself does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Iteration:
    """One pass over users and items.

    Attributes:
        number: number of the pass, from 1.
        objective: objective after the pass; see `trainer.config.TrainConfig`.
        seconds: wall time of the pass.
        validation: metric of the validation set after the pass, when there is one.
    """

    number: int
    objective: float
    seconds: float
    validation: float | None = None
