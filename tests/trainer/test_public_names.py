import os
import subprocess
import sys

import pytest

import trainer
from trainer.training import fit


def run(program: str, **variables: str) -> str:
    """Run a program in a separate process and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment | variables,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def test_the_public_names_are_those_of_their_modules() -> None:
    assert trainer.fit is fit
    assert (
        set(trainer.__all__)
        == {"InteractionMatrix", "Model", "Recommender", "TrainConfig", "TrainOptions", "choose", "fit"}
        <= set(dir(trainer))
    )
    for name in trainer.__all__:
        assert getattr(trainer, name).__module__.startswith("trainer.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'trainer' has no attribute 'train'"):
        trainer.train  # type: ignore[attr-defined]  # noqa: B018


def test_errors_do_not_load_numpy_or_numba() -> None:
    loaded = run("import sys, trainer.errors; print({'numpy', 'numba', 'pydantic'} & set(sys.modules))")
    assert loaded == "set()"


def test_threads_of_blas_give_up_their_core_early_unless_set() -> None:
    program = """
import os, sys, trainer
assert "numpy" not in sys.modules
trainer.fit
assert "numpy" in sys.modules
print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""
    assert run(program) == "4"
    assert run(program, OPENBLAS_THREAD_TIMEOUT="20") == "20"
