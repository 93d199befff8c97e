"""`wals schedule` against servers that check every request."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.platforms.backend import Job
from pipeline.platforms.schedules import scheduled_job
from tests.pipeline.conftest import Result, Wals
from tests.pipeline.kubeflow_server import KubeflowServer
from tests.pipeline.serving import task_of
from tests.pipeline.vertex_server import VertexServer
from trainer.errors import InputError

ZONE = ("--time-zone", "Europe/Berlin")


def put(wals: Wals, config: Path, *more: str) -> Result:
    cron = () if "--cron" in more else ("--cron", "0 21 * * MON-FRI")
    return wals("schedule", "set", "nightly", *cron, *ZONE, "--config", config, "--yes", *more)


def listed(wals: Wals, config: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = wals("schedule", "list", "--config", config, "--json").json["schedules"]
    return found


def test_a_schedule_is_made_once_and_shows_its_next_times(wals: Wals, config: Path) -> None:
    first, second = put(wals, config), put(wals, config)
    assert first.exit_code == 0, first.stderr
    assert "Created: nightly" in first.stdout
    assert first.stdout.count("21:00") >= 5
    assert "Unchanged: nightly" in second.stdout
    assert [schedule["name"] for schedule in listed(wals, config)] == ["nightly"]
    assert "nightly" in wals("schedule", "list", "--config", config).stdout


@pytest.mark.parametrize(
    "change", [("--cron", "0 22 * * *"), ("-p", "num_iters=3"), ("--max-concurrent-runs", "2")]
)
def test_any_change_replaces_the_schedule(wals: Wals, config: Path, change: tuple[str, str]) -> None:
    put(wals, config)
    (old,) = listed(wals, config)
    result = put(wals, config, *change)
    assert "Updated: nightly" in result.stdout, result.stderr
    (new,) = listed(wals, config)
    assert new["id"] != old["id"]
    assert "Unchanged" in put(wals, config, *change).stdout


def carried(server: VertexServer | KubeflowServer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the spec and the parameters of the server's only schedule."""
    if isinstance(server, VertexServer):
        (schedule,) = server.schedules.values()
        job = schedule["createPipelineJobRequest"]["pipelineJob"]
        return job["pipelineSpec"], job["runtimeConfig"]["parameterValues"]
    (recurring,) = server.recurring.values()
    return recurring["pipeline_spec"], recurring["runtime_config"]["parameters"]


@pytest.mark.parametrize("pipeline", ["wals-train", "wals-tune"])
def test_every_run_extracts_again(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer, pipeline: str
) -> None:
    assert put(wals, config, "--pipeline", pipeline).exit_code == 0
    spec, _ = carried(server)
    assert "enableCache" not in task_of(spec, "extract")["cachingOptions"]
    assert task_of(spec, "train")["cachingOptions"]["enableCache"] is True


def test_the_window_ends_at_the_scheduled_time(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    result = put(wals, config, "--window-days", "90")
    assert result.exit_code == 0, result.stderr
    spec, parameters = carried(server)
    given = task_of(spec, "extract")["inputs"]["parameters"]
    # What kfp writes for dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER; both platforms put the time there.
    assert given["window_end"] == {"runtimeValue": {"constant": "{{$.pipeline_job_schedule_time_utc}}"}}
    assert parameters["window_days"] == 90
    result = put(wals, config, "--window-days", "90", "-p", "window_end=2026-01-01")
    assert result.exit_code == 2
    assert "window_end" in result.stderr


def test_a_pipeline_that_has_no_window_in_days_is_refused() -> None:
    spec = {"root": {"dag": {"tasks": {"extract": {}}}}}
    with pytest.raises(InputError, match="no parameter window_days"):
        scheduled_job(Job("nightly", spec, {}), 90)


def test_a_paused_schedule_stays_paused_through_an_update(wals: Wals, config: Path) -> None:
    put(wals, config)
    assert wals("schedule", "pause", "nightly", "--config", config).exit_code == 0
    assert [schedule["paused"] for schedule in listed(wals, config)] == [True]
    put(wals, config, "--cron", "5 5 * * *")
    assert [schedule["paused"] for schedule in listed(wals, config)] == [True]
    assert wals("schedule", "resume", "nightly", "--config", config).exit_code == 0
    assert [schedule["paused"] for schedule in listed(wals, config)] == [False]


def test_a_deleted_schedule_is_gone(wals: Wals, config: Path) -> None:
    put(wals, config)
    assert wals("schedule", "delete", "nightly", "--config", config).exit_code == 0
    assert listed(wals, config) == []
    for action in ("pause", "resume", "delete"):
        result = wals("schedule", action, "nightly", "--config", config)
        assert result.exit_code == 2
        assert "'nightly': does not exist" in result.stderr


@pytest.mark.parametrize("how", ["changed", "deleted"])
def test_the_running_run_of_a_schedule_continues(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer, how: str
) -> None:
    put(wals, kubeflow_config)
    run_id = kubeflow.start_scheduled()
    if how == "changed":
        assert "Updated" in put(wals, kubeflow_config, "--cron", "5 5 * * *").stdout
    else:
        assert wals("schedule", "delete", "nightly", "--config", kubeflow_config).exit_code == 0
    states = [wals("runs", run_id, "--config", kubeflow_config, "--json").json["state"] for _ in range(12)]
    assert states[-1] == "succeeded"


def test_the_dry_run_sends_nothing(wals: Wals, config: Path, server: VertexServer | KubeflowServer) -> None:
    assert put(wals, config, "--dry-run", "--full").request
    assert server.calls == []


def test_vertex_gets_the_time_zone_and_bounds(wals: Wals, vertex_config: Path, vertex: VertexServer) -> None:
    put(wals, vertex_config, "--start", "2030-01-01", "--end", "2030-07-01")
    (schedule,) = vertex.schedules.values()
    assert schedule["cron"] == "TZ=Europe/Berlin 0 21 * * 1,2,3,4,5"
    assert schedule["startTime"] == "2029-12-31T23:00:00Z"
    assert schedule["endTime"] == "2030-06-30T22:00:00Z"
    assert schedule["maxConcurrentRunCount"] == "1"
    wals("schedule", "pause", "nightly", "--config", vertex_config)
    wals("schedule", "resume", "nightly", "--config", vertex_config)
    assert schedule["catchUp"] is False


def test_vertex_limits_the_runs_that_are_active_and_not_only_those_that_start(
    wals: Wals, vertex_config: Path, vertex: VertexServer
) -> None:
    put(wals, vertex_config, "--max-concurrent-runs", "2")
    schedule = live(vertex)
    assert (schedule["maxConcurrentRunCount"], schedule["maxConcurrentActiveRunCount"]) == ("2", "2")
    # As it was set before Vertex AI had the limit, or by another client.
    del schedule["maxConcurrentActiveRunCount"]
    (reported,) = listed(wals, vertex_config)
    assert reported["max_concurrent_runs"] is None
    assert "Updated: nightly" in put(wals, vertex_config, "--max-concurrent-runs", "2").stdout
    assert live(vertex)["maxConcurrentActiveRunCount"] == "2"


def test_kubeflow_gets_six_fields_and_no_catch_up(
    wals: Wals, kubeflow_config: Path, kubeflow: KubeflowServer
) -> None:
    put(wals, kubeflow_config, "--start", "2030-01-01")
    (recurring,) = kubeflow.recurring.values()
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 21 * * 1,2,3,4,5"
    assert recurring["trigger"]["cron_schedule"]["start_time"].startswith("2030-01-01T00:00:00+01:00")
    assert recurring["no_catchup"] is True
    assert recurring["max_concurrency"] == "1"


def test_kubeflow_refuses_a_zone_that_its_server_does_not_read(wals: Wals, kubeflow_config: Path) -> None:
    result = wals("schedule", "set", "nightly", "--cron", "0 21 * * *", "--config", kubeflow_config, "--yes")
    assert result.exit_code == 2
    assert "Europe/Berlin" in result.stderr


def live(server: VertexServer | KubeflowServer) -> dict[str, Any]:
    """Return the server's only schedule, to be changed as its console would change it."""
    (only,) = (server.schedules if isinstance(server, VertexServer) else server.recurring).values()
    schedule: dict[str, Any] = only
    return schedule


def test_changes_by_other_means_are_reverted(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    def on_vertex(schedule: dict[str, Any]) -> list[dict[str, Any]]:
        cron = {"cron": "TZ=Europe/Berlin 0 3 * * 1"}
        counts = [{f"maxConcurrent{what}RunCount": "3"} for what in ("", "Active")]
        return [cron, *counts, {"endTime": "2031-01-01T00:00:00Z"}]

    def on_kubeflow(schedule: dict[str, Any]) -> list[dict[str, Any]]:
        cron = schedule["trigger"]["cron_schedule"]
        changed = [{**cron, "cron": "0 0 3 * * 1"}, {**cron, "end_time": "2031-01-01T00:00:00Z"}]
        return [{"max_concurrency": "3"}, *({"trigger": {"cron_schedule": cron}} for cron in changed)]

    changes = on_vertex if isinstance(server, VertexServer) else on_kubeflow
    put(wals, config)
    for number in range(len(changes(live(server)))):
        schedule = live(server)
        schedule |= changes(schedule)[number]
        assert "Updated: nightly" in put(wals, config).stdout
    assert "Unchanged: nightly" in put(wals, config).stdout


def test_a_start_and_an_end_are_respected(wals: Wals, config: Path) -> None:
    bounds = ("--start", "2030-01-01", "--end", "2030-07-01")
    assert "Created" in put(wals, config, *bounds).stdout
    assert "Unchanged" in put(wals, config, *bounds).stdout
    assert "Updated" in put(wals, config, "--start", "2030-02-01", *bounds[2:]).stdout


def test_missed_runs_are_made_up_for_only_on_request(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    put(wals, config)
    result = put(wals, config, "--catch-up")
    assert "Updated" in result.stdout
    assert "Unchanged" in put(wals, config, "--catch-up").stdout
    resume = ("schedule", "resume", "nightly", "--config", config, "--catch-up")
    if isinstance(server, VertexServer):
        assert "wals schedule resume nightly --catch-up" in result.stderr
        wals("schedule", "pause", "nightly", "--config", config)
        assert wals(*resume, "--json").json["schedule"]["paused"] is False
        assert live(server)["catchUp"] is True
    else:
        assert live(server)["no_catchup"] is False
        assert wals(*resume).exit_code == 0
        put(wals, config)
        assert wals(*resume).exit_code == 2


def test_schedule_commands_print_json_for_scripts(wals: Wals, config: Path) -> None:
    put(wals, config)
    for action, outcome in (("pause", "paused"), ("resume", "resumed"), ("delete", "deleted")):
        reported = wals("schedule", action, "nightly", "--config", config, "--json").json
        assert (reported["outcome"], reported["schedule"]["name"]) == (outcome, "nightly")


def test_a_deletion_that_takes_its_time_is_waited_for_a_while(
    wals: Wals, vertex_config: Path, vertex: VertexServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.platforms.vertex.backend._DELETION_POLL_SECONDS", 0.01)
    put(wals, vertex_config)
    vertex.slow_deletions = 5
    assert wals("schedule", "delete", "nightly", "--config", vertex_config).exit_code == 0
    assert vertex.schedules == {}
    put(wals, vertex_config)
    vertex.slow_deletions = 10_000
    monkeypatch.setattr("pipeline.platforms.vertex.backend._DELETION_SECONDS", 0.1)
    result = wals("schedule", "delete", "nightly", "--config", vertex_config)
    assert result.exit_code == 1
    assert "is still deleting it" in result.stderr
    assert result.stderr.count("\n") == 1


def test_json_cannot_prompt_and_so_requires_yes(wals: Wals, config: Path) -> None:
    result = wals("schedule", "set", "nightly", "--cron", "0 21 * * *", *ZONE, "--config", config, "--json")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert listed(wals, config) == []


def test_a_name_that_exists_twice_is_refused_with_both_ids(
    wals: Wals, config: Path, server: VertexServer | KubeflowServer
) -> None:
    put(wals, config)
    held = server.schedules if isinstance(server, VertexServer) else server.recurring
    (only,) = held.values()
    id_name = "name" if isinstance(server, VertexServer) else "recurring_run_id"
    twin = only[id_name].rsplit("/", 1)[0] + "/twin" if "/" in only[id_name] else "twin"
    held[twin] = {**only, id_name: twin}
    result = put(wals, config)
    assert result.exit_code == 2
    assert "twin" in result.stderr
    assert len(held) == 2


def test_nothing_is_set_without_a_yes(wals: Wals, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    result = wals("schedule", "set", "nightly", "--cron", "0 21 * * *", *ZONE, "--config", config)
    assert result.exit_code == 130
    assert "Next runs" in result.stdout
    assert listed(wals, config) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--cron", "0 0 21 * * *"), "6 fields"),
        (("--cron", "nonsense"), "cron"),
        (("--cron", "0 21 * * *", "--time-zone", "Mars/Base"), "Mars/Base"),
        (("--cron", "0 21 * * *", "--end", "2020-01-01"), "end"),
        (("--cron", "0 21 * * *", "--start", "tomorrow"), "tomorrow"),
        (("--cron", "0 21 * * *", "--start", "9999-12-31"), "9999"),
        (("--cron", "0 21 1 1 *", "--start", "2030-02-01", "--end", "2030-03-01"), "first run"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_sent(
    wals: Wals, vertex_config: Path, vertex: VertexServer, arguments: tuple[str, ...], named: str
) -> None:
    result = wals("schedule", "set", "nightly", *arguments, "--config", vertex_config, "--yes")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert named in result.stderr
    assert vertex.calls == []


def test_a_dry_run_shows_the_next_times(wals: Wals, config: Path) -> None:
    summary = put(wals, config, "--window-days", "30", "--dry-run", "--json").json
    assert (summary["kind"], summary["name"]) == ("schedule", "nightly")
    assert summary["schedule"]["cron"] == "0 21 * * 1,2,3,4,5"
    assert len(summary["schedule"]["next_times"]) == 5
    assert all("T21:00:00" in time for time in summary["schedule"]["next_times"])
    assert summary["parameters"]["window_days"] == 30
    assert "Next runs" in put(wals, config, "--dry-run").stdout
    assert listed(wals, config) == []
