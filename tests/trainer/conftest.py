"""An emulated GPU, for the tests of solvers and of ranking."""

from collections.abc import Callable, Iterator

import pytest

from tests.trainer.emulation.device import EmulatedDevice, give, require_compiler
from trainer import solvers


@pytest.fixture
def compiler() -> None:
    """Require what compiles the GPU's kernels for the CPU."""
    require_compiler()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[EmulatedDevice], None]]:
    """Return a function that gives this machine an emulated GPU."""
    yield lambda device: give(monkeypatch, device)
    solvers._automatic.cache_clear()
