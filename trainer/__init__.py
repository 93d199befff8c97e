"""Weighted alternating least squares on sparse matrices: training, recommending and their files.

    from trainer import InteractionMatrix, Recommender, TrainOptions, choose, fit

    matrix = InteractionMatrix.from_scipy(ratings)
    config, _ = choose(matrix, TrainOptions())
    model = fit(matrix, config)
    Recommender(model).recommend(42, k=10)

It does not depend on pipelines. These names are imported on first use, so that a command that needs a
light module such as `trainer.errors` does not load NumPy and Numba.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.auto import choose
    from trainer.config import TrainConfig, TrainOptions
    from trainer.matrix import InteractionMatrix
    from trainer.model import Model
    from trainer.recommender import Recommender
    from trainer.training import fit

__all__ = ["InteractionMatrix", "Model", "Recommender", "TrainConfig", "TrainOptions", "choose", "fit"]

_MODULES = {
    "InteractionMatrix": "trainer.matrix",
    "Model": "trainer.model",
    "Recommender": "trainer.recommender",
    "TrainConfig": "trainer.config",
    "TrainOptions": "trainer.config",
    "choose": "trainer.auto",
    "fit": "trainer.training",
}

# Training alternates between the threads of BLAS and those of the kernels. By default idle BLAS threads spin
# and keep the cores busy, which makes training five times slower when anything else runs. OpenBLAS reads the
# variable when NumPy is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

if not TYPE_CHECKING:  # so that type checkers refuse unknown names

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
