"""`wals probe`: on this machine by real steps, and on local servers that stand in for the platforms."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.probe.findings import Finding, read_findings, total
from pipeline.commands import probe
from pipeline.display import remote_run
from tests.pipeline.conftest import Result, Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.vertex_server import PARENT, VertexServer

WALS = Path(sys.executable).with_name("wals")
GOLDEN = Path(__file__).parents[1] / "definition" / "golden"
PROBED = ["extract", "prepare", "train", "evaluate", "publish", "trial"]
ROWS = [
    Finding("user", "ok", "uid 10001, groups 10001", "", ("all",)),
    Finding("clock", "warning", "+9 s from the server's", "set the node's clock", ("extract",)),
]
IDLE = Finding("solver", "fix", "auto trains on the CPU", "build the image again", ("train", "trial"))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_run, "_FIRST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(remote_run, "_LONGEST_POLL_SECONDS", 0.01)
    monkeypatch.setattr(probe, "_POLL_SECONDS", 0.01)


@pytest.fixture
def logging_here(vertex: VertexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the local server stand in for Cloud Logging too."""
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", vertex.url)


@pytest.fixture(scope="module")
def finished(ratings_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished run on this machine: its folder and its result."""
    folder = tmp_path_factory.mktemp("runs")
    result = subprocess.run(
        [WALS, "probe", "-p", f"source={ratings_csv}", "--output-dir", "out", "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "160"},
    )
    return folder / "out", Result(result.returncode, result.stdout, result.stderr)


def test_each_image_has_a_step_that_finds_out_what_it_can_do(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    found = [Finding(**{**row, "steps": tuple(row["steps"])}) for row in result.json["findings"]]
    # What to fix depends on the machine of the test.
    assert result.exit_code == int(any(row.status == "fix" for row in found)), result.stderr
    log = (folder / "run.log").read_text("utf-8")
    for step in PROBED:
        assert re.search(rf"wals: ok +\| {step} +\| user ", log)
        assert f"{step:<9} done in" in result.stderr
    by_check = {row.check: row for row in found}
    assert by_check["user"].steps == ("all",)
    assert by_check["source"].steps == ("extract",)
    assert by_check["solver"].steps == by_check["gpu"].steps == ("train", "trial")
    assert result.json["run"] is None


def test_the_item_of_a_loop_arrives_as_an_object(finished: tuple[Path, Result]) -> None:
    (item,) = (row for row in finished[1].json["findings"] if row["check"] == "loop item")
    assert (item["status"], item["steps"]) == ("ok", ["trial"])


def test_the_last_step_has_the_whole_table_in_its_log_and_as_html(finished: tuple[Path, Result]) -> None:
    folder, result = finished
    (artifact,) = folder.glob("steps/*/report/findings")
    rows = read_findings(artifact)
    assert [row.check for row in rows] == [row["check"] for row in result.json["findings"]]
    log = (folder / "run.log").read_text("utf-8")
    assert all(f"wals: {row}" in log for row in rows)
    assert f"wals: {total(rows)}" in log
    (html,) = folder.glob("steps/*/report/table")
    assert html.read_text("utf-8").count("<tr role") == len(rows) + 1


def test_a_missing_or_wrong_parameter_is_one_line(
    wals: Wals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, named in (
        ((), "source '': is missing; give it under parameters, or by -p source=VALUE"),
        (("-p", "source=r.csv", "-p", "latent_factors=3"), "latent_factors '3': is unknown"),
        (("-p", "source=r.csv", "-p", "solver=magic"), "solver 'magic'"),
        (("-p", "source=r.csv", "--tag", "1"), "tag '1': is an option of runs on a platform"),
        (("-p", "source=r.csv", "--output-dir", "/proc/none"), "/proc/none"),
    ):
        result = wals("probe", *arguments)
        assert result.exit_code == 2
        assert named in result.stderr
        assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "value"), [("--runner", "docker"), ("--output-dir", "out")])
def test_options_of_this_machine_are_refused_with_an_environment(
    wals: Wals, config: Path, option: str, value: str
) -> None:
    result = wals("probe", "--config", config, option, value)
    assert result.exit_code == 2
    assert f"{option[2:]} '{value}': is an option of runs on this machine; omit it" in result.stderr


def lines_of(rows: list[Finding]) -> list[str]:
    return [*(f"wals: {row}" for row in rows), f"wals: {total(rows)}"]


class StepLogs(list[Any]):
    """Entries of Cloud Logging by step, which get the numbers of the custom jobs once those have begun.

    Attributes:
        arriving: whether each reading shows one more of them.
    """

    def __init__(self, server: VertexServer) -> None:
        super().__init__()
        self.arriving = False
        self._server = server
        self._read = 0

    def __iter__(self) -> Iterator[Any]:
        self._read += 1
        tasks = [task for job in self._server.jobs.values() for task in job["jobDetail"]["taskDetails"]]
        for step, payload in self[: self._read // 2 if self.arriving else None]:
            for task in tasks:
                if task["taskName"] == step:
                    main = task["executorDetail"]["containerDetail"]["mainJob"]
                    yield main.rpartition("/")[2], payload


def write(server: VertexServer | KubeflowServer, step: str, lines: list[str]) -> None:
    """Let a step write lines when it runs."""
    if isinstance(server, KubeflowServer):
        server.logs[step] = server.logs.get(step, "") + "".join(f"{line}\n" for line in lines)
        return
    if not isinstance(server.logs, StepLogs):
        server.logs = StepLogs(server)
    server.logs += [(step, {"textPayload": line}) for line in lines]


@pytest.mark.usefixtures("logging_here")
@pytest.mark.parametrize(("rows", "exit_code"), [(ROWS, 0), ([*ROWS, IDLE], 1)])
def test_on_a_platform_the_table_comes_from_the_log_of_the_last_step(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer, rows: list[Finding], exit_code: int
) -> None:
    write(server, "report", ["something else", *lines_of(rows)])
    result = wals("probe", "--config", config, "--name", "first-day")
    assert result.exit_code == exit_code, result.stderr
    assert "Submitted " in result.stdout
    assert f"{'report':<9} succeeded" in result.stdout
    table = [line for line in result.stdout.splitlines() if line.startswith("│")]
    cells = [tuple(cell.strip() for cell in line.strip("│").split("│")) for line in table]
    assert cells == [(row.status, ", ".join(row.steps), row.check, row.found, row.remedy) for row in rows]
    assert total(rows) in result.stdout


@pytest.mark.usefixtures("logging_here")
def test_the_findings_are_json_for_scripts(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    write(server, "report", lines_of([IDLE]))
    result = wals("probe", "--config", config, "--json")
    assert result.exit_code == 1
    (found,) = result.json["findings"]
    assert found == {
        "check": "solver",
        "status": "fix",
        "found": IDLE.found,
        "remedy": IDLE.remedy,
        "steps": ["train", "trial"],
    }
    assert wals("runs", result.json["run"], "--config", config).exit_code == 0


@pytest.mark.usefixtures("logging_here")
def test_the_run_has_the_environments_parameters_images_and_account(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    write(vertex, "report", lines_of(ROWS))
    assert wals("probe", "--config", vertex_config, "--name", "first-day", "--tag", "9f3").exit_code == 0
    job = vertex.jobs[f"{PARENT}/pipelineJobs/first-day"]
    given = job["runtimeConfig"]["parameterValues"]
    assert given["source"] == "bq://test-project.shop.ratings"
    # The environment has this one for the training.
    assert "latent_factors" not in given
    assert job["serviceAccount"].startswith("trainer@")
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"].endswith("/train:9f3")
    assert executors["exec-trial"]["container"]["image"].endswith("/tune:9f3")


@pytest.mark.usefixtures("logging_here")
def test_a_log_that_arrives_in_parts_is_awaited(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    write(vertex, "report", lines_of([*ROWS, IDLE]))
    assert isinstance(vertex.logs, StepLogs)
    vertex.logs.arriving = True
    found = wals("probe", "--config", vertex_config, "--json").json["findings"]
    assert [row["status"] for row in found] == ["ok", "warning", "fix"]


@pytest.mark.usefixtures("logging_here")
@pytest.mark.parametrize(("refuses", "named"), [(403, "roles/logging.viewer"), (0, "is missing lines")])
def test_without_the_log_the_run_is_named(
    wals: Wals,
    vertex_config: Path,
    vertex: VertexServer,
    monkeypatch: pytest.MonkeyPatch,
    refuses: int,
    named: str,
) -> None:
    monkeypatch.setattr(probe, "_LOG_SECONDS", 0.05)
    write(vertex, "report", lines_of(ROWS)[:-2])
    vertex.logging_refuses = refuses
    result = wals("probe", "--config", vertex_config)
    assert result.exit_code == 1
    assert named in result.stderr
    assert "the table is also the output `table` of report: https://console" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("logging_here")
def test_a_step_that_fails_is_to_fix_with_the_last_line_of_its_log(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    server.failing_step = "train"
    write(server, "train", ["PermissionError: '/gcs/bucket/run'"])
    if isinstance(server.logs, StepLogs):
        # Nothing is there at first.
        server.logs.arriving = True
    result = wals("probe", "--config", config)
    assert result.exit_code == 1
    assert "failed at train" in result.stderr
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("│"))
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        *("fix", "train", "step"),
        *("fails before it finds anything: PermissionError: '/gcs/bucket/run'", "read its log"),
    ]


@pytest.mark.usefixtures("logging_here")
def test_of_a_run_without_a_report_the_logs_of_the_other_steps_are_shown(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    server.failing_step = "report"
    for step in ("extract", "prepare", "train"):
        write(server, step, [f"wals: {Finding('user', 'ok', 'uid 10001', '', (step,))}"])
    write(server, "train", [f"wals: {Finding('gpu', 'fix', 'none', 'ask for quota', ('train',))}"])
    result = wals("probe", "--config", config)
    assert result.exit_code == 1
    assert "failed at report" in result.stderr
    assert [re.split(" *│ *", line)[1:4] for line in result.stdout.splitlines() if line.startswith("│")] == [
        ["ok", "all", "user"],
        ["fix", "train", "gpu"],
    ]


def test_the_spec_has_every_steps_own_settings(tmp_path: Path, wals: Wals) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        "train: {custom_job: {machine_type: g2-standard-16}, accelerator: NVIDIA_L4, accelerators: 1}\n"
        "publish: {cpu: 500m, memory: 1Gi}\n",
        "utf-8",
    )
    arguments = ("--target", "vertex", "--pipeline", "wals-probe", "--output-dir", tmp_path)
    assert wals("compile", *arguments, "--settings", settings).exit_code == 0
    spec = yaml.load((tmp_path / "wals-probe.vertex.yaml").read_text("utf-8"), yaml.CSafeLoader)
    executors, tasks = spec["deploymentSpec"]["executors"], spec["root"]["dag"]["tasks"]
    job = spec["components"]["comp-train"]["inputDefinitions"]["parameters"]["worker_pool_specs"]
    assert job["defaultValue"][0]["machine_spec"]["machine_type"] == "g2-standard-16"
    trial = executors["exec-trial"]["container"]["resources"]["accelerator"]
    assert trial["resourceType"] == "NVIDIA_TESLA_T4"

    def expected(step: str) -> list[float]:
        given = tasks[step]["inputs"]["parameters"]
        names = ("cores", "memory_bytes", "accelerators")
        return [given[name]["runtimeValue"]["constant"] for name in names]

    assert expected("publish") == [0.5, 2**30, 0]
    # The machine type decides.
    assert expected("train") == [0, 0, 1]
    assert "enableCache" not in json.dumps(spec)


def test_the_loop_goes_over_objects() -> None:
    """Kubeflow Pipelines refuses an item that compiles to text where a step takes an object."""
    for target in ("vertex", "kubeflow"):
        spec = yaml.load((GOLDEN / f"wals-probe.{target}.yaml").read_text("utf-8"), yaml.CSafeLoader)
        loop = spec["components"]["comp-for-loop-1"]["inputDefinitions"]["parameters"]
        assert loop["pipelinechannel--suggest-Output-loop-item"]["parameterType"] == "STRUCT"
        assert json.dumps(spec).count('"parameterType": "STRUCT"') == 3
