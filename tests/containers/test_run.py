"""The compiled pipeline with each step in its own container."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import compiler, dsl

from components.images import image
from pipeline.local.runner import StepEvent, run_compiled
from trainer.errors import InputError, WalsError

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("images")]

WALS = Path(sys.executable).with_name("wals")
SAMPLE = Path(__file__).parents[2] / "data" / "ml-latest-small" / "ratings.csv"
SMALL = ("--latent-factors", "8", "--num-iters", "3", "--top-k", "5", "--eval-k", "5")


def wals(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([WALS, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)


def metrics(output: str) -> str:
    return output[output.index("Holdout metrics") : output.index("Recommendations")]


def test_containers_and_processes_give_the_same_results(ratings_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_bytes(ratings_csv.read_bytes())
    outputs = {}
    for runner in ("subprocess", "docker"):
        arguments = ("--source", "ratings.csv", "--runner", runner, "--output-dir", runner, *SMALL)
        result = wals("run", *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        outputs[runner] = metrics(result.stdout)
    in_processes, in_containers = tmp_path / "subprocess", tmp_path / "docker"
    assert "NDCG@5" in outputs["docker"]
    assert outputs["docker"] == outputs["subprocess"]
    # The order of threads changes how sums are rounded, which may swap two items with nearly the same score.
    first, second = (
        pq.read_table(folder / "recommendations").to_pandas() for folder in (in_processes, in_containers)
    )
    assert first[["user_id", "rank"]].equals(second[["user_id", "rank"]])
    assert np.allclose(first["score"], second["score"], atol=1e-4)
    assert (first["item_id"] == second["item_id"]).mean() > 0.98
    # Factors are unique but for a rotation, and the signs of eigenvectors depend on rounding.
    predictions = [
        np.load(folder / "model/user_factors.npy") @ np.load(folder / "model/item_factors.npy").T
        for folder in (in_containers, in_processes)
    ]
    assert np.allclose(*predictions, atol=1e-4)
    written = [path for path in in_containers.rglob("*") if not path.is_symlink()]
    assert {path.stat().st_uid for path in written} == {os.getuid()}


def test_the_sample_gives_the_same_results_too(tmp_path: Path) -> None:
    outputs = {}
    for runner in ("subprocess", "docker"):
        result = wals("run", "--source", SAMPLE, "--runner", runner, "--output-dir", runner, cwd=tmp_path)
        assert result.returncode == 0, result.stdout + result.stderr
        outputs[runner] = metrics(result.stdout)
    assert outputs["docker"] == outputs["subprocess"]
    first, second = (pq.read_table(tmp_path / runner / "recommendations").to_pandas() for runner in outputs)
    assert len(first) > 1000
    assert first[["user_id", "rank"]].equals(second[["user_id", "rank"]])
    # Rounding decides the order of nearly equal scores.
    assert (first["item_id"] == second["item_id"]).mean() > 0.98


def test_tuning_runs_in_containers(ratings_csv: Path, tmp_path: Path) -> None:
    arguments = ("--source", ratings_csv, "--runner", "docker", "--output-dir", "out", "--width", "2", *SMALL)
    result = wals("tune", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "NDCG@5" in metrics(result.stdout)
    assert (tmp_path / "out" / "report.html").stat().st_size > 1000


def test_a_step_sees_a_source_of_several_files_and_keeps_its_profile_here(
    ratings_csv: Path, tmp_path: Path
) -> None:
    header, *rows = ratings_csv.read_text("utf-8").splitlines(keepends=True)
    source = tmp_path / "ratings"
    source.mkdir()
    (source / "a.csv").write_text(header + "".join(rows[:300]), "utf-8")
    (source / "b.csv").write_text(header + "".join(rows[300:]), "utf-8")
    arguments = ("--source", "ratings/*.csv", "--runner", "docker", "--output-dir", "out", *SMALL)
    result = wals("run", *arguments, "--previous-profile", "kept", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "720 interactions" in result.stdout
    assert (tmp_path / "kept" / "latest" / "profile.json").exists()


def test_input_that_a_step_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,2,4\n1,3,good\n", "utf-8")
    results = [
        wals(
            "run",
            "--source",
            tmp_path / "ratings.csv",
            "--runner",
            runner,
            "--output-dir",
            runner,
            cwd=tmp_path,
        )
        for runner in ("subprocess", "docker")
    ]
    assert [result.returncode for result in results] == [2, 2]
    assert results[1].stderr == results[0].stderr
    assert "good" in results[1].stderr


def test_a_missing_source_is_the_users_error(tmp_path: Path) -> None:
    result = wals("run", "--source", "none.csv", "--runner", "docker", "--output-dir", "out", cwd=tmp_path)
    assert result.returncode == 2
    assert "none.csv" in result.stderr


def docker_runner(*arguments: object) -> Any:
    # Imported when called, so that collecting these tests requires no client of a container engine.
    from pipeline.local import docker

    return docker.docker_runner(*arguments)


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def step_in_container(path: str, code: int, done: dsl.Output[dsl.Artifact]):
    import os
    import sys
    from pathlib import Path

    print("about to exit, für immer", flush=True)
    if code:
        sys.exit(code)
    writable = os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY
    Path(done.path).write_text(f"{Path(path).read_text()} {writable}")


@pytest.fixture(scope="module")
def exiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled pipeline of one step, which exits with a given code."""

    @dsl.pipeline(name="exiting")
    def exiting(path: str, code: int) -> dsl.Artifact:
        return step_in_container(path=path, code=code).outputs["done"]

    path = tmp_path_factory.mktemp("exiting") / "exiting.yaml"
    compiler.Compiler().compile(exiting, str(path))
    return path


def test_a_failing_step_fails_the_run_every_time(exiting: Path, tmp_path: Path) -> None:
    """kfp's own function (2.17.0) reports success if the container is gone before it asks."""
    for number in range(20):
        events: list[StepEvent] = []
        with pytest.raises(WalsError, match="step-in-container"):
            run_compiled(
                exiting,
                {"path": "", "code": 1},
                tmp_path / str(number),
                events.append,
                lambda: docker_runner(exiting, ["gs://elsewhere"]),
            )
        assert [event.kind for event in events if event.kind != "said"] == ["started", "failed"]


def test_the_source_is_mounted_read_only(exiting: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("seen", "utf-8")
    outputs = run_compiled(
        exiting,
        {"path": str(source), "code": 0},
        tmp_path / "out",
        lambda event: None,
        lambda: docker_runner(exiting, [str(source)]),
    )
    (written,) = outputs.values()
    assert written.path("done").read_text("utf-8") == "seen False"
    assert "about to exit, für immer" in (tmp_path / "out" / "run.log").read_text("utf-8")


def test_containers_are_gone_afterwards(exiting: Path, tmp_path: Path, docker) -> None:
    before = docker("ps", "--all", "--quiet").stdout
    with pytest.raises(WalsError):
        run_compiled(
            exiting,
            {"path": "", "code": 3},
            tmp_path,
            lambda event: None,
            lambda: docker_runner(exiting, ["gs://elsewhere"]),
        )
    assert docker("ps", "--all", "--quiet").stdout == before


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def looped_in_container(number: int, folder: str):
    import sys
    import time
    from pathlib import Path

    Path(folder, f"{number} started").touch()
    if number == 0:
        # Fails while its neighbour runs.
        while not Path(folder, "1 started").exists():
            time.sleep(0.01)
        sys.exit(2)
    time.sleep(60)
    Path(folder, f"{number} ended").touch()


def test_a_step_that_fails_stops_the_containers_of_its_loop(tmp_path: Path, docker) -> None:
    @dsl.pipeline(name="looping")
    def looping(folder: str) -> None:
        with dsl.ParallelFor([0, 1, 2]) as number:
            looped_in_container(number=number, folder=folder)

    spec, marks = tmp_path / "looping.yaml", tmp_path / "marks"
    compiler.Compiler().compile(looping, str(spec))
    before = docker("ps", "--all", "--quiet").stdout
    events: list[StepEvent] = []
    with pytest.raises(WalsError, match="looped-in-container"):
        run_compiled(
            spec,
            {"folder": str(marks)},
            tmp_path / "run",
            events.append,
            lambda: docker_runner(spec, [], [str(marks)]),
        )
    assert {path.name for path in marks.iterdir()} == {"0 started", "1 started"}
    assert StepEvent("looped-in-container", "logged", "stopped, because another step failed") in events
    assert docker("ps", "--all", "--quiet").stdout == before


def test_a_missing_image_is_named_and_not_pulled(exiting: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(exiting.read_text("utf-8").replace(image("publish"), "wals/none:1"), "utf-8")
    with (
        pytest.raises(InputError, match=r"wals/none:1.*make images"),
        docker_runner(spec, ["gs://elsewhere"]),
    ):
        pass


def test_an_absent_engine_is_the_users_error(
    exiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(InputError, match="start Docker"), docker_runner(exiting, ["gs://elsewhere"]):
        pass
