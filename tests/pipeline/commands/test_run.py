"""`wals run`: the compiled spec, executed step by step on this machine, as a user sees it."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import compiler, dsl

from pipeline.cli import run_command
from pipeline.cli import wals as cli
from pipeline.local.runner import StepEvent, run_compiled
from tests.conftest import Once
from tests.pipeline.conftest import Wals
from tests.pipeline.serving import STEPS
from trainer.errors import WalsError

WALS = Path(sys.executable).with_name("wals")
SMALL = ("--latent-factors", "8", "--num-iters", "5", "--top-k", "5", "--eval-k", "5")


def wals_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WALS, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120"},
    )


@pytest.fixture(scope="module")
def finished(ratings_csv: Path, once: Once) -> tuple[Path, str]:
    """A finished run: its folder, and what it printed."""

    def make(folder: Path) -> None:
        items = folder / "items.csv"
        titles = "".join(f'{i + 100},"Film {i}, The"\n' for i in range(40))
        items.write_text(f"movieId,title\n{titles}", "utf-8")
        source = folder / "ratings.csv"
        source.write_bytes(ratings_csv.read_bytes())
        result = wals_process(
            "run", "--source", source, "--items", items, "--output-dir", "out", *SMALL, cwd=folder
        )
        assert result.returncode == 0, result.stdout + result.stderr
        (folder / "printed").write_text(result.stdout, "utf-8")

    # kfp.local used to rewrite "python3" inside the paths of a user's data.
    folder = once("python3 runs", make)
    return folder / "out", (folder / "printed").read_text("utf-8")


def test_it_shows_each_step_in_order_and_the_results_at_the_end(finished: tuple[Path, str]) -> None:
    _, output = finished
    places = [output.index(f"{step:<9} done in") for step in STEPS]
    assert places == sorted(places)
    assert "columns user=userId item=movieId rating=rating time=timestamp" in output[: places[0]]
    assert "iteration 5 of 5: objective" in output
    for shown in ("Recall@5", "NDCG@5", "RMSE", "popularity", "Film 1", "out/model", "out/report.html"):
        assert shown in output


def test_all_missing_columns_are_reported_before_anything_starts(tmp_path: Path, wals: Wals) -> None:
    source = tmp_path / "orders.csv"
    source.write_text("who,what,rating\n1,2,3\n", "utf-8")
    result = wals("run", "--source", source, "--output-dir", tmp_path / "run")
    assert result.exit_code == 2
    assert "user_column, item_column '': none of the columns who, what, rating" in result.stderr
    assert "--user-column NAME --item-column NAME" in result.stderr
    assert not (tmp_path / "run").exists()


def test_items_that_cannot_be_used_are_reported_before_anything_starts(
    tmp_path: Path, wals: Wals, ratings_csv: Path
) -> None:
    titles = tmp_path / "titles.csv"
    titles.write_text("id,name\n1,One\n", "utf-8")
    for source, blocked, problems in (
        (ratings_csv, "", ["items 'none.csv': there is no such file"]),
        ("none.csv", titles, ["source 'none.csv': there is", "items 'none.csv': there is"]),
    ):
        lists = ("--blocked-items", blocked) if blocked else ()
        result = wals(
            "run", "--source", source, "--items", "none.csv", *lists, "--output-dir", tmp_path / "run"
        )
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert all(problem in result.stderr for problem in problems)
        assert not (tmp_path / "run").exists()


def test_the_recommendations_are_unseen_items_in_order_of_score(
    finished: tuple[Path, str], ratings_csv: Path
) -> None:
    folder, _ = finished
    table = pq.read_table(folder / "recommendations").to_pandas()
    assert list(table.columns) == ["user_id", "item_id", "score", "rank"]
    assert table.groupby("user_id").size().eq(5).all()
    assert table["user_id"].nunique() == 60
    assert table.groupby("user_id")["rank"].apply(list).map(lambda ranks: ranks == [1, 2, 3, 4, 5]).all()
    assert table.groupby("user_id")["score"].apply(lambda scores: scores.is_monotonic_decreasing).all()
    # Users like the items of their own half, so that is what they must be recommended from.
    own_half = (table["item_id"] - 100) // 20 == (table["user_id"] - 1) % 2
    assert own_half.mean() > 0.7


def test_the_model_beats_popularity_where_tastes_differ(finished: tuple[Path, str]) -> None:
    folder, output = finished
    report = (folder / "report.html").read_text("utf-8")
    assert "NDCG@5" in report
    row = next(line for line in output.splitlines() if line.startswith("│ NDCG@5"))
    model, popularity = (float(cell) for cell in row.replace("│", " ").split()[1:3])
    assert model > popularity > 0


def test_the_objective_falls_with_every_iteration(finished: tuple[Path, str]) -> None:
    (judged,) = finished[0].glob("steps/*/train/model/_manifest.json")
    history = json.loads(judged.read_text("utf-8"))["history"]
    objective = [iteration["objective"] for iteration in history]
    assert len(objective) == 5
    assert all(later < earlier for earlier, later in itertools.pairwise(objective))


@pytest.mark.slow
def test_the_same_run_gives_the_same_model(
    finished: tuple[Path, str], ratings_csv: Path, tmp_path: Path, wals: Wals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = wals("run", "--source", ratings_csv, "--output-dir", "again", *SMALL, "--json")
    assert result.exit_code == 0, result.stderr
    reported = result.json
    assert reported["folder"] == "again"
    assert {"recall_at_5", "ndcg_at_5", "rmse", "popularity_ndcg_at_5"} <= set(reported["metrics"])
    assert {"model", "recommendations", "report"} <= set(reported["results"])
    assert all((tmp_path / path).exists() for path in reported["results"].values())
    assert "train     done in" in result.stderr
    first, second = (np.load(f / "model/item_factors.npy") for f in (finished[0], tmp_path / "again"))
    assert np.array_equal(first, second)


def test_recommend_shows_what_was_published(
    finished: tuple[Path, str], wals: Wals, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    result = wals_process("recommend", "--model", "out/model", "--user", "7", "-k", "5", cwd=folder.parent)
    assert result.returncode == 0, result.stderr
    table = pq.read_table(folder / "recommendations", filters=[("user_id", "=", 7)]).to_pandas()
    shown = [int(line.split("│")[2]) for line in result.stdout.splitlines() if line.startswith("│")]
    assert shown == table["item_id"].tolist()
    arguments = ("recommend", "--model", "out/model", "--user", "7", "-k", "5")
    monkeypatch.chdir(folder.parent)
    rows = wals(*arguments, "--json").json["items"]
    assert [row["item"] for row in rows] == shown
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert [row["score"] for row in rows] == pytest.approx(table["score"].tolist())
    assert all(row["title"].startswith("Film ") for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "arguments", "named"),
    [
        pytest.param(None, (), ["source", "ratings.csv"], id="missing file"),
        pytest.param("", (), ["source", "empty"], id="empty file"),
        pytest.param("userId,movieId,rating\n", (), ["no"], id="no rows"),
        pytest.param(
            "who,what,stars\n1,2,3\n", (), ["who, what, stars", "--user-column"], id="no such columns"
        ),
        pytest.param(
            "userId,movieId,rating\n1,2,4\n1,3,good\n", (), ["rating", "good", "row 2"], id="no number"
        ),
        pytest.param("userId,movieId,rating\n1,2,4\n1,3,nan\n", (), ["rating", "nan", "row 2"], id="NaN"),
        pytest.param(
            "userId,movieId,rating\n1,2,inf\n1,3,1\n", (), ["rating", "inf", "row 1"], id="infinite"
        ),
        pytest.param("userId,movieId,rating\na,x,1\n,y,2\n", (), ["userId", "row 2"], id="empty user id"),
        pytest.param("userId,movieId,rating\na,x,1\nb,,2\n", (), ["movieId", "row 2"], id="empty item id"),
        pytest.param("userId,movieId,rating\n1,2,4\n1,3,4\n", (), ["user"], id="a single user"),
        pytest.param("userId,movieId,rating\n1,2,4\n2,2,4\n", (), ["item"], id="a single item"),
        pytest.param(
            "ratings", ("--min-user-interactions", "500"), ["min_user_interactions"], id="nothing left"
        ),
        pytest.param("ratings", ("--latent-factor", "5"), ["--latent-factor"], id="unknown parameter"),
        pytest.param("ratings", ("--latent-factors", "0"), ["latent_factors"], id="no factors"),
        pytest.param(
            "ratings",
            ("--split", "foo", "--num-iters", "0", "--max-psi", "-1"),
            ["split", "num_iters", "max_psi"],
            id="three at once",
        ),
        pytest.param("ratings", ("--latent-factors", "many"), ["latent_factors", "many"], id="no integer"),
        pytest.param("ratings", ("--top-k", "0"), ["top_k"], id="k below 1"),
        pytest.param("ratings", ("--eval-k", "0"), ["eval_k"], id="evaluation k below 1"),
        pytest.param("ratings", ("--output-dir", "/proc/none"), ["/proc/none"], id="output not writable"),
        pytest.param("ratings", ("--items", "none.csv"), ["items", "none.csv"], id="no items"),
    ],
)
def test_bad_input_is_one_line_and_exit_2_and_publishes_nothing(
    content: str | None,
    arguments: tuple[str, ...],
    named: list[str],
    ratings_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "ratings.csv"
    if content is not None:
        source.write_text(ratings_csv.read_text("utf-8") if content == "ratings" else content, "utf-8")
    monkeypatch.chdir(tmp_path)
    # In this process, because importing kfp twenty times would take most of the suite's time.
    exit_code = run_command(cli, ["run", "--source", str(source), "--output-dir", "out", *arguments], "wals")
    stderr = capsys.readouterr().err
    assert exit_code == 2, stderr
    assert stderr.startswith("wals: error: ")
    assert stderr.count("\n") == 1, stderr
    assert all(text in stderr for text in named), stderr
    assert not list(tmp_path.rglob("recommendations/_manifest.json"))
    assert not (tmp_path / "out" / "model").exists()


def test_recommend_refuses_an_unknown_user_and_a_folder_without_a_model(
    finished: tuple[Path, str], wals: Wals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished[0].parent)
    for model, user, named in (("out/model", "999", "999"), ("out/model", "x", "'x'"), ("out", "1", "out")):
        result = wals("recommend", "--model", model, "--user", user)
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert named in result.stderr


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def step_that_exits(code: int, done: dsl.Output[dsl.Artifact]):
    import sys
    from pathlib import Path

    print("wals: about to exit")
    if code:
        sys.exit(code)
    Path(done.path).write_text("done")


@pytest.fixture(scope="module")
def exiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled pipeline of two steps, of which the first exits with a given code."""

    @dsl.pipeline(name="exiting")
    def exiting(code: int) -> dsl.Artifact:
        first = step_that_exits(code=code)
        second = step_that_exits(code=0).after(first)
        return second.outputs["done"]

    path = tmp_path_factory.mktemp("exiting") / "exiting.yaml"
    compiler.Compiler().compile(exiting, str(path))
    return path


def test_a_failing_step_fails_the_run_every_time(exiting: Path, tmp_path: Path) -> None:
    for number in range(10):
        events: list[StepEvent] = []
        with pytest.raises(WalsError, match="step-that-exits"):
            run_compiled(exiting, {"code": 1}, tmp_path / str(number), events.append)
        assert [event.kind for event in events if event.kind != "logged"] == ["started", "failed"]
        assert not list(tmp_path.rglob("done"))


def test_a_step_that_fails_on_this_machine_is_not_retried(wals: Wals, tmp_path: Path) -> None:
    source = tmp_path / "ratings.csv"
    source.write_text("user,item,rating\n1,2,good\n", "utf-8")
    result = wals("run", "--source", source, "--output-dir", tmp_path / "run")
    assert result.exit_code != 0
    assert result.stdout.count("extract   started") == 1
    assert "retryPolicy" not in (tmp_path / "run" / "wals-train.kubeflow.yaml").read_text("utf-8")


def test_a_run_reports_what_its_steps_log(exiting: Path, tmp_path: Path) -> None:
    events: list[StepEvent] = []
    outputs = run_compiled(exiting, {"code": 0}, tmp_path, events.append)
    assert outputs["step-that-exits-2"].path("done").read_text() == "done"
    assert StepEvent("step-that-exits", "logged", "about to exit") in events
    assert "about to exit" in (tmp_path / "run.log").read_text("utf-8")


def interrupted(source: Path, folder: Path, until: str) -> None:
    """Run in a process of its own, and kill it when it prints a line."""
    command = [WALS, "run", "--source", source, "--output-dir", "out", *SMALL]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any(until in line for line in process.stdout)
        process.kill()


@pytest.fixture(scope="module")
def killed(ratings_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was killed while it evaluated its model."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "ratings.csv").write_bytes(ratings_csv.read_bytes())
    interrupted(Path("ratings.csv"), folder, "evaluate  started")
    return folder


def test_a_killed_run_is_resumed_without_its_finished_steps(
    killed: Path, finished: tuple[Path, str], wals: Wals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(killed)
    assert wals("runs", "out", "--json").json["state"] == "failed"
    lines = wals("logs", "out", "train", "--json").json["lines"]
    assert any("iteration 5 of 5: objective" in line["text"] for line in lines)
    refused = wals("run", "--source", "ratings.csv", "--output-dir", "out", *SMALL)
    assert refused.exit_code == 2
    assert "'out': has an earlier run; give another, --resume to finish that run" in refused.stderr
    other = ("--output-dir", "out", *SMALL, "--num-iters", 6, "--alpha", 2)
    refused = wals("run", "--source", "ratings.csv", *other, "--resume")
    assert refused.exit_code == 2
    assert refused.stderr == (
        "wals: error: alpha '2': was 'auto' in the run; give the same | "
        "num_iters 6: was 5 in the run; give the same\n"
    )

    result = wals("run", "--source", "ratings.csv", "--output-dir", "out", *SMALL, "--resume")
    assert result.exit_code == 0, result.stderr
    for step in ("extract", "prepare", "train"):
        assert f"{step:<9} was done before" in result.stdout
        assert f"{step:<9} started" not in result.stdout
    assert "evaluate  done in" in result.stdout
    for name in ("user_factors", "item_factors"):
        resumed, whole = (np.load(f / f"model/{name}.npy") for f in (killed / "out", finished[0]))
        assert np.array_equal(resumed, whole)
    resumed, whole = (pq.read_table(f / "recommendations").to_pydict() for f in (killed / "out", finished[0]))
    assert resumed == whole
    run = wals("runs", "out", "--json").json
    assert run["state"] == "succeeded"
    assert [step["name"] for step in run["steps"]] == list(STEPS)
    again = wals("run", "--source", "ratings.csv", "--output-dir", "out", *SMALL, "--resume")
    assert again.exit_code == 2
    assert "has a run that has succeeded" in again.stderr


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def read_source(source: str, content: dsl.Output[dsl.Artifact]):
    from pathlib import Path

    Path(content.path).write_text(Path(source).read_text())


@dsl.component(base_image="python", packages_to_install=[], install_kfp_package=False)
def copy_content(content: dsl.Input[dsl.Artifact], copied: dsl.Output[dsl.Artifact]):
    from pathlib import Path

    Path(copied.path).write_text(Path(content.path).read_text())


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compiled pipeline of two steps: the first reads a file, and the second what the first has written."""

    @dsl.pipeline(name="reading")
    def reading(source: str) -> None:
        copy_content(content=read_source(source=source).outputs["content"])

    path = tmp_path_factory.mktemp("reading") / "reading.yaml"
    compiler.Compiler().compile(reading, str(path))
    return path


def test_what_a_step_has_read_and_written_decides_whether_it_runs_again(
    reading: Path, tmp_path: Path
) -> None:
    source, folder = tmp_path / "source", tmp_path / "run"
    first, second = "read-source", "copy-content"

    def run(code: str = "1") -> list[str]:
        events: list[StepEvent] = []
        outputs = run_compiled(reading, {"source": str(source)}, folder, events.append, code=lambda: code)
        assert outputs[second].path("copied").read_text() == source.read_text("utf-8")
        kinds = {event.step: event.kind for event in events if event.kind in ("started", "reused")}
        return [kinds[first], kinds[second]]

    def written(step: str, artifact: str) -> Path:
        return max(folder.glob(f"steps/*/{step}/{artifact}"), key=lambda path: path.stat().st_mtime_ns)

    source.write_text("first", "utf-8")
    assert run() == ["started", "started"]
    assert run() == ["reused", "reused"]
    source.write_text("another", "utf-8")
    assert run() == ["started", "started"]
    assert run("2") == ["started", "started"]
    written(first, "content").write_text("cut", "utf-8")
    # The second step reads what the first one writes again.
    assert run("2") == ["started", "started"]
    written(second, "copied").unlink()
    assert run("2") == ["reused", "started"]
