"""The model that serves: the champion of a registry, as its steps find it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from components.registry.manifests import Champion, Version
from components.registry.registry import Registry, open_registry
from trainer.errors import InputError, collected
from trainer.model import Model

_REMEDY = "go back to the version before with wals models rollback, or give another registry folder"


@dataclass(frozen=True)
class ServingModel:
    """The champion.

    Attributes:
        registry: the registry that it is in.
        pointer: which version serves, and since when.
        version: manifest of the version.
        model: its model; its arrays last as long as the block of `serving_model`.
    """

    registry: Registry
    pointer: Champion
    version: Version
    model: Model

    def refused(self, problem: str, remedy: str) -> InputError:
        """Return the error for a champion that cannot be used for this run."""
        return _refused(self.registry.address, self.pointer, problem, remedy)


@contextlib.contextmanager
def serving_model(address: str) -> Iterator[ServingModel | None]:
    """Yield the champion of a registry; None if it has none yet.

    Args:
        address: folder of the registry.

    Raises:
        InputError: the registry cannot be used, or the champion is damaged or of another schema.
        WalsError: the registry cannot be reached.
    """
    registry = open_registry(address)
    pointer = registry.champion()
    if pointer is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        problems: list[InputError] = []
        with collected(problems):
            version = registry.version(pointer.version)
            model = Model.load(stack.enter_context(registry.local(pointer.version, "model")))
        if problems:
            found = ", ".join(str(problem).removesuffix(f"; {problem.remedy}") for problem in problems)
            raise _refused(address, pointer, f"cannot be used: {found}", _REMEDY) from problems[0]
        yield ServingModel(registry, pointer, version, model)


def _refused(address: str, pointer: Champion, problem: str, remedy: str) -> InputError:
    return InputError("registry", address, f"the champion, {pointer.version}, {problem}", remedy)
