"""Kernels that images bring: all of a step's, for each level of processors, and used instead of compiling."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from components.miniatures import run_miniature
from components.prebuild import Signatures, in_process, prebuild, signatures_of, signatures_so_far
from tests.components import steps
from trainer.catalogue import CatalogueTables, write_catalogue
from trainer.solvers.cache import PREBUILT
from trainer.solvers.levels import LEVELS, best_level

STEPS = ("prepare", "train", "evaluate", "publish", "tune")

# With the images that they are built into.
pytestmark = pytest.mark.docker


def run_for_real(folder: Path) -> Signatures:
    """Run the pipeline's steps as users do, and return the signatures of the kernels."""
    from components.train.options import RefitOptions, TrainStepOptions
    from components.train.refit import refit
    from components.train.step import train

    steps.extract(source=str(folder / "ratings.csv"), output=folder / "interactions")
    ids = [str(item) for item in range(100, 140)]
    known = pa.table({"item_id": ids, "title": ids, "category": ["one", "two"] * 20})
    write_catalogue(folder / "catalogue", CatalogueTables(known))
    for split, duplicates, solver in (
        ("random", "max", "cg"),
        ("users", "mean", "cholesky"),
        ("last", "last", "ialspp"),
    ):
        run = folder / split
        parts = {name: run / name for name in ("training", "holdout", "vocabulary")}
        reports = {"profile": run / "profile", "profile_report": run / "profile.html"}
        steps.prepare(
            interactions=folder / "interactions", **parts, **reports, split=split, duplicates=duplicates
        )
        options = TrainStepOptions(num_iters=2, solver=solver, feedback="explicit")
        inputs = {"vocabulary": parts["vocabulary"], "training": parts["training"]}
        train(options, matrix=parts["training"], vocabulary=parts["vocabulary"], model=run / "model")
        refit(
            RefitOptions(refit_iters=1),
            **inputs,
            judged=run / "model",
            holdout=parts["holdout"],
            model=run / "refitted",
            saved_model=run / "saved_model",
        )
        steps.evaluate(
            model=run / "model",
            training=parts["training"],
            holdout=parts["holdout"],
            catalogue=folder / "catalogue",
            profile=reports["profile"],
            evaluation=run / "evaluation",
            report=run / "report.html",
            eval_k=5,
        )
        outputs = {name: run / name for name in ("recommendations", "similar_items", "embeddings")}
        published = {"model": run / "refitted", "catalogue": folder / "catalogue", **outputs}
        for most in (0, 2):
            steps.publish(**published, top_k=5, similar_k=5, max_per_category=most)
    return signatures_so_far()


def run_miniatures(names: Sequence[str]) -> Signatures:
    for name in names:
        run_miniature(name)
    return signatures_so_far()


def test_a_run_calls_kernels_only_as_the_miniatures_do(ratings_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(ratings_csv.read_bytes())
    real, miniature = in_process(run_for_real, tmp_path, {}), in_process(run_miniatures, STEPS, {})
    assert len(real) > 10
    for kernel, signatures in miniature.items():
        assert signatures, f"no miniature calls {kernel}"
    for kernel, signatures in real.items():
        assert set(map(str, signatures)) <= set(map(str, miniature[kernel])), kernel


def test_a_step_without_kernels_has_none_to_compile(tmp_path: Path) -> None:
    prebuild("extract", tmp_path / "kernels")
    assert list((tmp_path / "kernels").iterdir()) == []


# Prints the processor that kernels are for, and the kernels that were compiled instead of loaded.
USES = """
from components.miniatures import run_miniature
run_miniature("publish")
from trainer.solvers.kernels import KERNELS
print(KERNELS[0].targetctx.codegen().magic_tuple()[1])
print(*(kernel.py_func.__name__ for kernel in KERNELS if kernel.stats.cache_misses))
"""


def run_python(program: str, **variables: str) -> list[str]:
    """Run a program without Numba's variables but with the given ones, and return its lines."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = [sys.executable, "-c", program]
    run = subprocess.run(
        command, env={**environment, **variables}, check=True, capture_output=True, text=True
    )
    return run.stdout.splitlines()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kernels of publishing as an image has them: nothing there can be written."""
    folder = tmp_path_factory.mktemp("image") / "kernels"
    prebuild("publish", folder)
    everything = [folder, *folder.rglob("*")]
    for path in everything:
        assert path.stat().st_mode & stat.S_IROTH
        path.chmod(path.stat().st_mode & ~0o222)
    yield folder
    for path in everything:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


@pytest.mark.skipif(best_level() is None, reason="requires an x86-64-v3 processor")
def test_nothing_is_compiled_where_an_image_brings_kernels(kernels: Path, tmp_path: Path) -> None:
    assert {path.name for path in kernels.iterdir()} == {level.cpu for level in LEVELS}
    level = best_level()
    assert level
    variables = {PREBUILT: str(kernels), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run_python(USES, **variables) == [level.cpu, ""]


@pytest.mark.skipif(best_level() is None, reason="requires an x86-64-v3 processor")
@pytest.mark.parametrize("case", ["another processor is named", "others can write there", "other sources"])
def test_kernels_that_do_not_fit_or_that_others_could_have_put_there_are_not_used(
    kernels: Path, tmp_path: Path, case: str
) -> None:
    level = best_level()
    assert level
    variables = {PREBUILT: str(kernels)}
    if case == "another processor is named":
        variables["NUMBA_CPU_NAME"] = "x86-64-v2"
    else:
        copied = tmp_path / "kernels"
        subprocess.run(["cp", "-r", kernels, copied], check=True)
        variables[PREBUILT] = str(copied)
        (sources,) = (copied / level.cpu).iterdir()
        if case == "other sources":
            (copied / level.cpu).chmod(0o755)
            sources.rename(sources.with_name("0123456789abcdef"))
        else:
            sources.chmod(0o777)
    program = "from trainer.solvers.cache import prebuilt_level; print(prebuilt_level())"
    assert run_python(program, **variables) == ["None"]


@pytest.mark.parametrize(
    ("lacking", "expected"), [((), "x86-64-v4"), (("avx512bw",), "x86-64-v3"), (("avx2",), None)]
)
def test_the_level_is_the_latest_that_the_processor_has(
    lacking: tuple[str, ...], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = {name: name not in lacking for name in LEVELS[0].requires}
    monkeypatch.setattr("trainer.solvers.levels.platform.machine", lambda: "x86_64")
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_features", lambda: features)
    level = best_level()
    assert (level.cpu if level else None) == expected
    monkeypatch.setattr("trainer.solvers.levels.platform.machine", lambda: "aarch64")
    assert best_level() is None


def test_a_kernel_that_a_miniature_does_not_call_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.prebuild.run_miniature", run_miniature_and_add_a_kernel)
    with pytest.raises(
        RuntimeError, match=r"step extract does not call tests\.containers\.test_prebuild\.forgotten"
    ):
        signatures_of("extract")


def run_miniature_and_add_a_kernel(step: str) -> None:
    from trainer.solvers.kernels import KERNELS, compiled

    run_miniature(step)

    def forgotten(x: int) -> int:
        return x

    forgotten.__qualname__ = forgotten.__name__
    KERNELS[:] = []
    compiled()(forgotten)
