"""A local server that speaks the REST API of Kubeflow Pipelines, to the extent that the commands use it.

Request bodies are checked against the models that kfp-server-api publishes. A run advances when it is
read: each read takes it a step further.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipeline.serving import Call, RefusedError, Route, serving, steps_in_order

_START = datetime(2026, 1, 1, tzinfo=UTC)
_AROUND = ("root", "root-driver", "extract-driver", "executor")
_WORKFLOW = "wals-train-x7k2p"
_NEVER = "1970-01-01T00:00:00Z"


@dataclass
class KubeflowServer:
    """State and behaviour of the server.

    Attributes:
        url: address of the server.
        version: version of Kubeflow Pipelines.
        health_path: path that reports the version.
        experiments: experiments by id, as JSON; the others likewise.
        failing_step: the step that fails; none if empty.
        logs: output of the pod by step; the pods of other steps are gone.
        refuses_logs: whether it refuses to report a run's pods.
        calls: ``METHOD path`` of each request.
    """

    url: str = ""
    version: str = "2.17.0"
    health_path: str = "/apis/v1beta1/healthz"
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    failing_step: str = ""
    logs: dict[str, str] = field(default_factory=dict)
    refuses_logs: bool = False
    calls: list[str] = field(default_factory=list)

    def routes(self) -> list[Route]:
        v2 = "/apis/v2beta1"
        one = r"/([^/:]+)"
        return [
            ("GET", "/apis/v[12]beta1/healthz", self.health),
            ("GET", f"{v2}/experiments", lambda call: {"experiments": list(self.experiments.values())}),
            ("POST", f"{v2}/experiments", self.create_experiment),
            ("POST", f"{v2}/runs", self.create_run),
            ("GET", f"{v2}/runs", self.list_runs),
            ("GET", f"{v2}/runs{one}", self.get_run),
            ("GET", f"/apis/v1beta1/runs{one}", self.get_workflow),
            ("GET", f"/apis/v1alpha1/runs{one}/nodes{one}/log", self.get_log),
            ("POST", f"{v2}/runs{one}:terminate", self.terminate_run),
            ("POST", f"{v2}/recurringruns", self.create_recurring),
            ("GET", f"{v2}/recurringruns", self.list_recurring),
            ("DELETE", f"{v2}/recurringruns{one}", self.delete_recurring),
            ("POST", f"{v2}/recurringruns{one}:(enable|disable)", self.switch_recurring),
            ("GET", f"{v2}/pipelines", lambda call: {"pipelines": list(self.pipelines.values())}),
            ("POST", f"{v2}/pipelines", self.create_pipeline),
            ("POST", f"{v2}/pipelines/upload_version", self.upload_version),
            ("GET", f"{v2}/pipelines{one}/versions", self.list_versions),
            ("GET", f"{v2}/pipelines{one}/versions{one}", self.get_version),
        ]

    def health(self, call: Call) -> Any:
        if call.match[0] != self.health_path:
            raise RefusedError(404, "Not Found")
        return {"tag_name": self.version, "commit_sha": "unknown", "multi_user": False}

    def create_experiment(self, call: Call) -> Any:
        return _add(self.experiments, "experiment_id", _strictly(call.body, "V2beta1Experiment"))

    def create_run(self, call: Call) -> Any:
        run = _strictly(call.body, "V2beta1Run")
        self._check_spec(run)
        _held(self.experiments, run["experiment_id"])
        made = {"state": "PENDING", "created_at": _time(len(self.runs) * 60), "finished_at": _NEVER}
        return _add(self.runs, "run_id", {**run, **made, "run_details": {"task_details": []}})

    def list_runs(self, call: Call) -> Any:
        assert call.query["sort_by"] == "created_at desc"
        runs = [run for run in self.runs.values() if run["experiment_id"] == call.query["experiment_id"]]
        return {"runs": runs[::-1][: int(call.query["page_size"])]}

    def get_run(self, call: Call) -> Any:
        run = _held(self.runs, call.match[1])
        self._live(run)
        return run

    def get_workflow(self, call: Call) -> Any:
        if not self.version:
            raise RefusedError(404, "Not Found")
        if self.refuses_logs:
            raise RefusedError(403, "not authorized to read the run")
        workflow = {
            "metadata": {"name": _WORKFLOW, "annotations": {}},
            "status": {"nodes": _nodes(_held(self.runs, call.match[1]))},
        }
        return {"run": {}, "pipeline_runtime": {"workflow_manifest": json.dumps(workflow)}}

    def get_log(self, call: Call) -> Any:
        nodes = _nodes(_held(self.runs, call.match[1])).values()
        # Pods have other names than their nodes.
        steps = {
            f"{_WORKFLOW}-{node['templateName']}-{node['id'].rpartition('-')[2]}": node["boundaryID"]
            for node in nodes
            if node["type"] == "Pod"
        }
        step = next((node["displayName"] for node in nodes if node["id"] == steps.get(call.match[2])), "")
        if step in self.logs:
            return self.logs[step]
        # The server has sent its status before it looks for the pod.
        message = f"Failed to read logs for run {call.match[1]}: pods {call.match[2]!r} not found"
        return {"error_message": message, "error_details": f"{message}\n1. trace"}

    def terminate_run(self, call: Call) -> Any:
        run = _held(self.runs, call.match[1])
        run["state"], run["finished_at"] = "CANCELED", _time(30)
        return {}

    def create_recurring(self, call: Call) -> Any:
        recurring = _strictly(call.body, "V2beta1RecurringRun")
        self._check_spec(recurring)
        cron = recurring["trigger"]["cron_schedule"]["cron"]
        if len(cron.split()) not in (5, 6):
            raise RefusedError(400, f"cron {cron!r} is not valid")
        return _add(self.recurring, "recurring_run_id", {**recurring, "status": "ENABLED"})

    def list_recurring(self, call: Call) -> Any:
        """Two pages, as a server with many has."""
        found = [
            item for item in self.recurring.values() if item["experiment_id"] == call.query["experiment_id"]
        ]
        if call.query.get("page_token"):
            return {"recurringRuns": found[1:]}
        return {"recurringRuns": found[:1], "next_page_token": "2" if len(found) > 1 else ""}

    def delete_recurring(self, call: Call) -> Any:
        _held(self.recurring, call.match[1])
        del self.recurring[call.match[1]]
        return {}

    def switch_recurring(self, call: Call) -> Any:
        _held(self.recurring, call.match[1])["status"] = (
            "ENABLED" if call.match[2] == "enable" else "DISABLED"
        )
        return {}

    def create_pipeline(self, call: Call) -> Any:
        return _add(self.pipelines, "pipeline_id", _strictly(call.body, "V2beta1Pipeline"))

    def upload_version(self, call: Call) -> Any:
        _held(self.pipelines, call.query["pipelineid"])
        head = f"Content-Type: {call.content_type}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + call.body, policy=policy.HTTP).iter_parts()
        assert part.get_param("name", header="content-disposition") == "uploadfile"
        self.versions[call.query["name"]] = part.get_payload(decode=True)
        return _version(call.query["name"])

    def list_versions(self, call: Call) -> Any:
        _held(self.pipelines, call.match[1])
        return {"pipeline_versions": [_version(name) for name in self.versions]}

    def get_version(self, call: Call) -> Any:
        _held(self.pipelines, call.match[1])
        name = call.match[2].removesuffix("-id")
        return {**_version(name), "pipeline_spec": self._uploaded(name)}

    def _spec(self, what: dict[str, Any]) -> Any:
        """Return the compiled pipeline of a run, its own or that of an uploaded version."""
        if "pipeline_spec" in what:
            return what["pipeline_spec"]
        reference = what["pipeline_version_reference"]
        _held(self.pipelines, reference["pipeline_id"])
        return self._uploaded(reference["pipeline_version_id"].removesuffix("-id"))

    def _uploaded(self, version: str) -> Any:
        return yaml.load(_held(self.versions, version), yaml.CSafeLoader)

    def _check_spec(self, what: dict[str, Any]) -> None:
        whole = self._spec(what)
        if "platform_spec" in whole:
            json_format.ParseDict(whole["platform_spec"], pipeline_spec_pb2.PlatformSpec())
        spec = json_format.ParseDict(_part(whole), pipeline_spec_pb2.PipelineSpec())
        parameters = spec.root.input_definitions.parameters
        given = what["runtime_config"].get("parameters", {})
        required = {name for name, parameter in parameters.items() if not parameter.is_optional}
        if not required <= set(given) <= set(parameters):
            raise RefusedError(400, f"the parameters {sorted(given)} do not fit the pipeline's")

    def _live(self, run: dict[str, Any]) -> None:
        if run["state"] not in ("PENDING", "RUNNING"):
            return
        run["state"] = "RUNNING"
        waiting = steps_in_order(_part(self._spec(run)))
        tasks = run["run_details"]["task_details"]
        if not tasks:
            # The server also reports what it runs around the steps.
            tasks += [{"display_name": name, "state": "RUNNING"} for name in _AROUND]
        begun = tasks[len(_AROUND) :]
        if begun:
            failed = begun[-1]["display_name"] == self.failing_step
            begun[-1] |= {"state": "FAILED" if failed else "SUCCEEDED", "end_time": _time(len(begun) * 2 + 1)}
            if failed or len(begun) == len(waiting):
                run["state"], run["finished_at"] = "FAILED" if failed else "SUCCEEDED", _time(60)
                return
        begins = {"display_name": waiting[len(begun)], "state": "RUNNING"}
        tasks.append({**begins, "start_time": _time(len(begun) * 2 + 2), "end_time": _NEVER})


@contextmanager
def kubeflow_server() -> Iterator[KubeflowServer]:
    """Yield a running server."""
    server = KubeflowServer()

    def refuse(status: int, message: str) -> Any:
        return {"code": status, "message": message, "error": message}

    with serving(server.routes(), refuse, server.calls) as server.url:
        yield server


def _nodes(run: dict[str, Any]) -> dict[str, Any]:
    """Return the nodes of a run's Argo Workflow: for each step its driver, and a node around its pod."""
    nodes = {}
    for number, task in enumerate(run["run_details"]["task_details"][len(_AROUND) :]):
        step, began = task["display_name"], {"startedAt": task["start_time"]}
        around, driver, pod = (f"{_WORKFLOW}-{kind}{number}" for kind in (10, 20, 30))
        nodes[pod] = {
            "id": pod,
            "type": "Pod",
            "displayName": "executor",
            "boundaryID": around,
            "templateName": "system-container-impl",
            **began,
        }
        nodes[around] = {
            "id": around,
            "type": "DAG",
            "displayName": step,
            "boundaryID": _WORKFLOW,
            "templateName": "system-container-executor",
            "children": [pod],
            **began,
        }
        nodes[driver] = {
            "id": driver,
            "type": "Pod",
            "displayName": f"{step}-driver",
            "boundaryID": _WORKFLOW,
            "templateName": "system-container-driver",
            "children": [around],
            **began,
        }
    return nodes


def _strictly(body: bytes, model: str) -> dict[str, Any]:
    """Return a body as JSON after reading it into a published model, which must know every field."""
    content = json.loads(body)
    known = set(getattr(kfp_server_api, model).attribute_map.values())
    if unknown := set(content) - known:
        raise RefusedError(400, f"unknown fields {unknown}")
    kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=body.decode()), model)
    return dict(content)


def _version(name: str) -> dict[str, Any]:
    return {"name": name, "display_name": name, "pipeline_version_id": f"{name}-id"}


def _part(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the pipeline's own part of a spec that may also have settings of Kubernetes."""
    part: dict[str, Any] = spec.get("pipeline_spec", spec)
    return part


def _add(things: dict[str, Any], id_name: str, content: dict[str, Any]) -> dict[str, Any]:
    made = {"created_at": _time(0), **content, id_name: str(uuid.uuid4())}
    things[made[id_name]] = made
    return made


def _held(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise RefusedError(404, f"{name} was not found")
    return things[name]


def _time(seconds: int) -> str:
    return (_START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
