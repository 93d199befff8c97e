"""Trains a tiny model, or ranks, as a program: ``python -m components.probe.solving SOLVER train|rank``.

Prints what does it and, on a second line, the GPU that it uses; the line is empty without one. A driver that
does not fit the libraries may also end the process, or let it wait for ever.
"""

import sys
from typing import Any

from trainer.errors import WalsError

_ROWS, _COLUMNS, _DENSITY = 64, 32, 0.2


def main() -> int:
    """Choose as the step does, and train or rank with what is chosen if it is for GPUs."""
    try:
        print("\n".join(_WORK[sys.argv[2]](sys.argv[1])))
    except WalsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _trained(name: str) -> tuple[str, str]:
    # Slow to import, and not in every image.
    from trainer.config import TrainConfig
    from trainer.solvers import DeviceSolver, make_solver

    config = TrainConfig(solver=name, latent_factors=8, num_iters=1)  # type: ignore[arg-type]
    solver = make_solver(config)
    chosen = type(solver).__name__
    if isinstance(solver, DeviceSolver):
        _train(config)
        return chosen, solver.device.name
    if chosen != "TensorFlowCholesky":
        return chosen, ""
    _train(config)
    from trainer.extras import tensorflow

    configuration = tensorflow().config
    details = [
        configuration.experimental.get_device_details(gpu)
        for gpu in configuration.list_physical_devices("GPU")
    ]
    if not details:
        return chosen, ""
    capability = ".".join(map(str, details[0].get("compute_capability", ("unknown",))))
    return chosen, f"{details[0].get('device_name', 'a GPU')}, compute capability {capability}"


def _ranked(name: str) -> tuple[str, str]:
    import numpy as np

    from trainer.config import TrainConfig
    from trainer.ranking import ranking_as_trained, top_k

    with ranking_as_trained(TrainConfig(solver=name)) as device:  # type: ignore[arg-type]
        if device is None:
            return top_k.__name__, ""
        factors = np.eye(_COLUMNS, dtype=np.float32)
        top_k(factors, factors, 1)
        return f"{top_k.__name__} in CUDA", device.name


_WORK = {"train": _trained, "rank": _ranked}


def _train(config: Any) -> None:
    """Train: libraries without code for a GPU fail, or wait for a compiler, only when they compute."""
    from scipy import sparse

    from trainer.matrix import InteractionMatrix
    from trainer.training import fit

    matrix = sparse.random_array((_ROWS, _COLUMNS), density=_DENSITY, format="csr", dtype="float32", rng=1)
    fit(InteractionMatrix.from_scipy(matrix), config)


if __name__ == "__main__":
    sys.exit(main())
