"""Answers of Vertex AI, ML Metadata and Kubeflow with null or mistyped fields: used, or one line."""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipeline.commands.runs import _runs_table
from pipeline.display.remote_run import run_view
from pipeline.platforms.backend import Run
from pipeline.platforms.environments import Kubeflow, Vertex
from pipeline.platforms.kubeflow.backend import KubeflowBackend
from pipeline.platforms.kubeflow.client import Client
from pipeline.platforms.kubeflow.metadata import framed, read_artifact, run_artifacts
from pipeline.platforms.vertex.backend import VertexBackend
from tests.attack.changes import HOSTILE, changed, places
from tests.pipeline.serving import Content, serving
from trainer.errors import WalsError

pytestmark = pytest.mark.attack

PARENT = "projects/my-project/locations/europe-west1"
TIME = "2026-01-01T00:00:00Z"
SPEC = {
    "root": {"dag": {"tasks": {"train": {"componentRef": {"name": "comp-train"}}}}},
    "components": {
        "comp-train": {
            "executorLabel": "exec-train",
            "inputDefinitions": {
                "parameters": {"worker_pool_specs": {}, "display_name": {"defaultValue": "wals"}}
            },
        }
    },
}
PIPELINE_JOB = {
    "name": f"{PARENT}/pipelineJobs/wals",
    "displayName": "wals",
    "state": "PIPELINE_STATE_SUCCEEDED",
    "createTime": TIME,
    "labels": {"vertex-ai-pipelines-run-billing-id": "7"},
    "pipelineSpec": SPEC,
    "runtimeConfig": {"parameterValues": {"alpha": 1}},
    "error": {"code": 3, "message": "no"},
    "jobDetail": {
        "taskDetails": [
            {
                "taskId": "2",
                "taskName": "train",
                "state": "SUCCEEDED",
                "startTime": TIME,
                "endTime": TIME,
                "executorDetail": {"containerDetail": {"mainJob": f"{PARENT}/customJobs/7"}},
                "execution": {"metadata": {"output:gcp_resources": "x"}},
                "outputs": {
                    "metrics": {
                        "artifacts": [{"schemaTitle": "system.Metrics", "metadata": {"ndcg_at_20": 0.5}}]
                    }
                },
            }
        ]
    },
}
TUNING_JOB = {
    "name": f"{PARENT}/hyperparameterTuningJobs/7",
    "displayName": "wals",
    "state": "JOB_STATE_RUNNING",
    "createTime": TIME,
    "trials": [
        {
            "id": "1",
            "state": "SUCCEEDED",
            "startTime": TIME,
            "finalMeasurement": {"metrics": [{"metricId": "rmse", "value": 1}]},
            "parameters": [{"parameterId": "alpha", "value": 1}],
        }
    ],
}
CUSTOM_JOB = {"name": f"{PARENT}/customJobs/9", "displayName": "wals", "createTime": TIME, "state": 99}
SCHEDULE = {
    "name": f"{PARENT}/schedules/7",
    "displayName": "nightly",
    "cron": "TZ=UTC 0 21 * * *",
    "state": "ACTIVE",
    "createTime": TIME,
    "startTime": TIME,
    "nextRunTime": TIME,
    "maxConcurrentRunCount": "1",
    "maxConcurrentActiveRunCount": "1",
    "createPipelineJobRequest": {"pipelineJob": {"labels": {"wals-schedule": "abc"}}},
}
RECURRING = {
    "recurring_run_id": "7",
    "display_name": "nightly",
    "description": "wals-schedule abc",
    "status": "ENABLED",
    "max_concurrency": "1",
    "no_catchup": True,
    "trigger": {"cron_schedule": {"cron": "0 0 21 * * *", "start_time": TIME, "end_time": TIME}},
}
NODE = {
    "id": "wals-1",
    "name": "wals(0)",
    "type": "Pod",
    "templateName": "system-container-impl",
    "displayName": "train",
    "boundaryID": "wals-0",
    "phase": "Failed",
    "message": "no",
    "startedAt": TIME,
    "finishedAt": TIME,
}
WORKFLOW = {
    "metadata": {"name": "wals", "namespace": "kubeflow", "annotations": {"x": "y"}},
    "status": {"nodes": {"wals-1": NODE, "wals-0": {**NODE, "id": "wals-0", "type": "DAG"}}},
}
KUBEFLOW_RUN = {
    "run_id": "7",
    "display_name": "wals",
    "state": "FAILED",
    "created_at": TIME,
    "pipeline_spec": SPEC,
}


def ways(answer: Any) -> list[Any]:
    """Return the answer with each of its values replaced by each hostile one."""
    return [changed(answer, path, value) for path in places(answer) for value in HOSTILE]


def attacked(answer: Any, respond: Callable[[str, Any], Any], use: Callable[[str], object]) -> list[str]:
    """Return the lines in which changed answers were refused, after using each of them.

    Args:
        answer: answer to change.
        respond: returns what the server answers at a path, given the changed answer.
        use: calls the server at an address.
    """
    current: list[Any] = [None]
    lines = []
    routes = [(method, ".*", lambda call: respond(call.match[0], current[0])) for method in ("GET", "POST")]
    with serving(routes, lambda status, text: {"error": {"code": status, "message": text}}, []) as url:
        for current[0] in ways(answer):
            try:
                use(url)
            except WalsError as error:
                lines.append(str(error))
    return lines


def vertex(url: str) -> VertexBackend:
    return VertexBackend(
        Vertex(
            target="vertex",
            project="my-project",
            region="europe-west1",
            pipeline_root="gs://bucket/root",
            endpoint=url,
        )
    )


def kubeflow(url: str) -> KubeflowBackend:
    return KubeflowBackend(Kubeflow(target="kubeflow", host=url, experiment="wals"))


def show(found: Any) -> None:
    for run in [found] if isinstance(found, Run) else []:
        run_view(run)
        _runs_table([run])


def vertex_answer(path: str, answer: Any) -> Any:
    if path.endswith("/pipelineJobs"):
        return {"pipelineJobs": [answer]}
    if path.endswith("/customJobs"):
        return {"customJobs": [CUSTOM_JOB]}
    if path.endswith("/schedules"):
        return {"schedules": [answer]}
    return answer


def read_logs(url: str) -> None:
    backend = vertex(url)
    backend._jobs_of("wals")


@pytest.mark.parametrize(
    ("answer", "use"),
    [
        (PIPELINE_JOB, lambda url: show(vertex(url).get("wals"))),
        (PIPELINE_JOB, lambda url: [show(run) for run in vertex(url).runs(5)]),
        (PIPELINE_JOB, read_logs),
        (TUNING_JOB, lambda url: show(vertex(url).get("hyperparameterTuningJobs/7"))),
        (CUSTOM_JOB, lambda url: show(vertex(url).get("customJobs/9"))),
        (SCHEDULE, lambda url: vertex(url).schedules()),
    ],
    ids=["run", "runs", "jobs", "tuning", "custom job", "schedules"],
)
def test_vertex(answer: Any, use: Callable[[str], object]) -> None:
    lines = attacked(answer, vertex_answer, use)
    assert lines
    assert all("Vertex AI" in line and "\n" not in line for line in lines)


def test_recurring_runs() -> None:
    experiment = {"experiment_id": "7", "display_name": "wals"}

    def respond(path: str, answer: Any) -> Any:
        return {"experiments": [experiment]} if path.endswith("experiments") else {"recurringRuns": [answer]}

    lines = attacked(RECURRING, respond, lambda url: kubeflow(url).schedules())
    assert all(line.startswith("http://127.0.0.1:") for line in lines)
    fields = {path[-1] for path in places(RECURRING) if path} - {"status", "description", "cron_schedule"}
    assert all(any(str(field) in line for line in lines) for field in fields)


def test_workflows() -> None:
    def respond(path: str, answer: Any) -> Any:
        if path.startswith("/apis/v1beta1/"):
            return {"pipeline_runtime": {"workflow_manifest": json.dumps(answer)}}
        return KUBEFLOW_RUN if path.startswith("/apis/v2beta1/") else "epoch 1"

    def use(url: str) -> None:
        show(kubeflow(url).get("7"))
        list(kubeflow(url).logs("7", ""))

    lines = attacked(WORKFLOW, respond, use)
    assert any("metadata.name" in line for line in lines)
    assert any("status.nodes.wals-1.templateName" in line for line in lines)


@pytest.mark.parametrize(
    "manifest",
    ["", "x", "[]", "null", "3", '"x"', "[" * 100_000, '{"a":' * 100_000, '{"status": {"nodes": 3}}'],
)
def test_a_manifest_that_is_none(manifest: str) -> None:
    def respond(call: Any) -> Any:
        if call.match[0].startswith("/apis/v1beta1/"):
            return {"pipeline_runtime": {"workflow_manifest": manifest}}
        return KUBEFLOW_RUN

    with serving([("GET", ".*", respond)], lambda *_: {}, []) as url:
        if not manifest:
            assert not kubeflow(url).get("7").error
            return
        with pytest.raises(WalsError) as refused:
            kubeflow(url).get("7")
    assert str(refused.value).startswith(url)


ARTIFACT = bytes.fromhex("0a0a0829100c1a04") + b"x://"
OK = framed(0x80, b"grpc-status:0\r\n")
METADATA = [
    b"",
    b"x",
    b"\x00\x00\x00\x00",
    OK[:-1],
    framed(0, b""),
    framed(0, b"\xff") + OK,
    framed(0, b"\x0a\xff") + OK,
    framed(0, b"\x0a\x05abc") + OK,
    struct.pack(">BI", 0, 2**32 - 1) + b"x",
    framed(0, b"\x0a\x02\x08\x07")[:-1],
    framed(0, b"\x0a\x02\x08\x07") + framed(0x80, b"grpc-status: x\r\n"),
    framed(0, b"\x0a\x02\x08\x07") + framed(0x80, b"\xff\xfe\x00"),
    framed(0, b"\x0a\x02\x08\x07") + framed(0x80, b""),
]


@pytest.mark.parametrize("body", METADATA, ids=range(len(METADATA)))
def test_metadata(body: bytes) -> None:
    answer = Content(body, "application/grpc-web+proto")
    with (
        serving([("POST", ".*", lambda _: answer)], lambda *_: {}, []) as url,
        pytest.raises(WalsError, match="ML Metadata") as refused,
    ):
        run_artifacts(Client(url), "run")
    assert str(refused.value).startswith(url)


def artifact_answers(uri: bytes) -> Iterator[Content]:
    context = b"\x0a\x02\x08\x07"
    artifact = b"\x1a" + bytes([len(uri)]) + uri
    for message in (context, b"\x0a" + bytes([len(artifact)]) + artifact):
        yield Content(framed(0, message) + OK, "application/grpc-web+proto")


@pytest.mark.parametrize("uri", [b"", b"x", b"http://[", b"minio://[x/y", b"file:///etc/passwd", b"minio://"])
def test_the_uri_of_an_artifact(uri: bytes) -> None:
    answers = artifact_answers(uri)

    def refuse(status: int, _: str) -> Any:
        return {"message": str(status)}

    with serving([("POST", ".*", lambda _: next(answers))], refuse, []) as url:
        client = Client(url)
        (artifact,) = run_artifacts(client, "run")
        with pytest.raises(WalsError), client.errors("report"):
            read_artifact(client, artifact, "")
