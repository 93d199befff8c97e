"""The model that a training starts from: the champion, or one in a folder or a bucket."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.registry import Stored, open_store
from components.registry.serving import serving_model
from components.train.options import CHAMPION, TrainStepOptions
from trainer.config import TrainOptions
from trainer.errors import InputError
from trainer.files import MANIFEST, Manifest, parse_manifest
from trainer.model import FILES, SCHEMA, Model
from trainer.scratch import scratch_folder

FIELD = "warm_start"
"""Option that names the model; errors begin with it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Earlier:
    """A model to start from.

    Attributes:
        name: its version in the registry, or its address.
        model: the model.
    """

    name: str
    model: Model


@contextlib.contextmanager
def earlier_model(options: TrainStepOptions) -> Iterator[Earlier | None]:
    """Yield the model to start from; None for random factors.

    If there is no champion yet, or a training with these parameters cannot continue it, a line in the log
    says so and the factors are random. A model that the user names has to fit.

    Args:
        options: options of the step.

    Raises:
        InputError: the registry or the model cannot be used, or the model does not fit the parameters.
        WalsError: the registry or the store cannot be reached.
    """
    if options.warm_start == CHAMPION:
        with _champion(options) as earlier:
            yield earlier
    elif options.warm_start:
        with _named(options.warm_start) as model:
            if difference := _difference(model, options.parameters):
                remedy = "give the same, or omit warm_start"
                raise InputError(FIELD, options.warm_start, difference, remedy)
            yield Earlier(options.warm_start, model)
    else:
        yield None


@contextlib.contextmanager
def _champion(options: TrainStepOptions) -> Iterator[Earlier | None]:
    with serving_model(options.registry) as serving:
        if serving is None:
            logger.info("warm start: %s has no champion yet; starting from random factors", options.registry)
            yield None
            return
        version = serving.version.name
        if difference := _difference(serving.model, options.parameters):
            logger.warning(
                "warm start: the champion, %s, %s; starting from random factors", version, difference
            )
            yield None
            return
        logger.info("warm start: from the champion, %s", version)
        yield Earlier(version, serving.model)


@contextlib.contextmanager
def _named(address: str) -> Iterator[Model]:
    """Yield the model in a folder or a bucket."""
    if "://" not in address:
        yield Model.load(Path(address))
        return
    with scratch_folder() as scratch:
        store = open_store(FIELD, address)
        (scratch / MANIFEST).write_bytes(check_manifest(store.read(MANIFEST), address))
        for name in FILES:
            store.get(name, scratch / name)
        yield Model.load(scratch)


def check_manifest(stored: Stored | None, address: str) -> bytes:
    """Return the manifest of a model.

    Args:
        stored: the document, or None if there is none.
        address: folder of the model, for errors.

    Raises:
        InputError: it is not that of a model.
    """
    if stored is None:
        raise InputError(FIELD, address, f"has no {MANIFEST}", "give the folder of a finished model")
    parse_manifest(stored.content, f"{address.rstrip('/')}/{MANIFEST}", SCHEMA, Manifest)
    return stored.content


def _difference(model: Model, parameters: TrainOptions) -> str:
    """Return why a training with these parameters cannot continue a model; "" if it can."""
    factors = parameters.given().get("latent_factors", model.config.latent_factors)
    if model.config.latent_factors != factors:
        return f"has {model.config.latent_factors} latent factors, and this training {factors}"
    if model.config.feedback != parameters.feedback:
        return f"was trained on {model.config.feedback} feedback, and this training is {parameters.feedback}"
    return ""
