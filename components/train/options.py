"""Options of the training step and of the refit."""

from collections.abc import Iterator
from functools import partial
from typing import Annotated

from pydantic import Field

from components.options import RegistryOptions, check_place
from trainer.config import TrainOptions
from trainer.errors import InputError
from trainer.options import AUTO, NumberOrAuto, Options, group, no_credentials, valid_if

CHAMPION = "champion"
"""Value of ``warm_start`` that stands for the model that serves."""

_DELIVERY, _TRAINING = group("Delivery"), group("Training")


class _Interval(Options):
    checkpoint_every: int = Field(default=1, ge=0, le=10_000)


class CheckpointOptions(Options):
    """When and where a training saves its state, so that a retry continues it."""

    checkpoint_every: Annotated[str, NumberOrAuto.of(_Interval, "checkpoint_every")] = Field(
        default=AUTO,
        description="Iterations between checkpoints; 0 writes none, and auto one every five minutes where a "
        "retry finds it: in checkpoint_dir, or beside the model in a mounted bucket.",
        json_schema_extra=_TRAINING,
    )
    checkpoint_dir: Annotated[
        str, no_credentials("omit them"), valid_if(partial(check_place, kind="folder for checkpoints"))
    ] = Field(
        default="",
        description="Folder for checkpoints, on this machine, gs:// or s3://; beside the model if omitted.",
        json_schema_extra=_TRAINING,
    )


class TrainStepOptions(RegistryOptions, CheckpointOptions, TrainOptions):
    """Parameters of the training, and what it starts from."""

    warm_start: Annotated[
        str, no_credentials("omit them"), valid_if(partial(check_place, kind="folder of a model"))
    ] = Field(
        default="",
        description="Model to start from: champion for the registry's, or the folder of a model, on this "
        "machine, gs:// or s3://; random factors if omitted.",
        json_schema_extra=_TRAINING,
    )

    def conflicts(self) -> Iterator[InputError]:
        """See `Options.conflicts`."""
        yield from super().conflicts()
        if self.warm_start == CHAMPION and not self.registry:
            yield InputError("warm_start", CHAMPION, "requires a registry", "give registry")

    @property
    def parameters(self) -> TrainOptions:
        """The parameters of the training."""
        return TrainOptions(**TrainOptions.select(self.model_dump()))


class RefitOptions(CheckpointOptions):
    """What is delivered of a model that the evaluation found good enough."""

    refit_iters: int = Field(
        default=4,
        ge=0,
        le=1000,
        description="Iterations over all interactions, held-out ones included, from the evaluated factors; "
        "0 delivers the evaluated model unchanged.",
        json_schema_extra=_DELIVERY,
    )
    export_saved_model: bool = Field(
        default=False,
        description="Also export the delivered model as a SavedModel for TensorFlow Serving.",
        json_schema_extra=_DELIVERY,
    )
