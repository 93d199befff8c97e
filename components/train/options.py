"""Options of the refit."""

from pydantic import Field

from trainer.options import Options, group

_DELIVERY = group("Delivery")


class RefitOptions(Options):
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
