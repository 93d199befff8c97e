"""A local server that speaks the REST API of Kubeflow Pipelines, to the extent that the commands use it.

It is the server of the UI, whose address users know, and which passes on the published API, or the API server
itself. Request bodies are checked against the models that kfp-server-api publishes. A run advances when it is
read: each read takes it a step further.
"""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from types import SimpleNamespace
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.platforms.kubeflow.metadata import framed, message
from tests.pipeline import argo
from tests.pipeline.serving import (
    METRICS,
    REPORT,
    Call,
    Content,
    RefusedError,
    Route,
    model_metadata,
    serving,
    steps_in_order,
)

_NEVER = "1970-01-01T00:00:00Z"
_RUNNING = ("PENDING", "RUNNING", "CANCELING")
# What the API makes of the phases of nodes; it has no state for those that Argo omits.
_STATES = {"Pending": "PENDING", "Running": "RUNNING", "Succeeded": "SUCCEEDED", "Failed": "FAILED"}
_BUCKET = "mlpipeline"
_NO_SUCH_PAGE = "Cannot GET"
_NO_LOG = "Could not get main container logs: Error: "


@dataclass
class KubeflowServer:
    """State and behaviour of the server.

    Attributes:
        url: address of the server.
        is_ui: whether it is the UI's server, and not the API server.
        version: version of Kubeflow Pipelines.
        health_path: path that reports the version.
        holdout: checksum of the holdout of the runs that are created from now on.
        has_metadata: whether there is ML Metadata, which versions up to 2.17 have.
        experiments: experiments by id, as JSON; the others likewise.
        workflows: the Argo Workflow of each run.
        deleted: ids of the runs whose workflow Kubernetes has deleted, which are not heard of any more.
        failing_step: the step that fails; none if empty.
        failing_driver: the step whose driver fails; none if empty.
        waiting_step: the step whose pod waits for its image; none if empty.
        retried: steps that succeed at the second attempt.
        logs: output of the pods by step, and iteration as in ``trial.2``; the other pods are gone.
        driver_log: output of the pods of drivers.
        archive: output that Argo has archived, likewise.
        refuses_logs: whether it refuses to report a run's pods.
        calls: ``METHOD path`` of each request.
    """

    url: str = ""
    is_ui: bool = True
    version: str = "2.17.0"
    health_path: str = "/apis/v1beta1/healthz"
    holdout: str = "a" * 64
    holdouts: dict[str, str] = field(default_factory=dict)
    has_metadata: bool = True
    experiments: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    recurring: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    workflows: dict[str, argo.Workflow] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    failing_step: str = ""
    failing_driver: str = ""
    waiting_step: str = ""
    retried: frozenset[str] = frozenset()
    logs: dict[str, str] = field(default_factory=dict)
    driver_log: str = ""
    archive: dict[str, str] = field(default_factory=dict)
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
            ("GET", "/k8s/pod/logs", self.get_pod_log),
            ("GET", f"{v2}/runs{one}/nodes{one}/artifacts/main-logs:read", self.get_archived_log),
            ("GET", "/artifacts/get", self.get_artifact),
            ("POST", r"/ml_metadata\.MetadataStoreService/(\w+)", self.call_metadata),
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
        if self.is_ui:
            return {"apiServerTagName": self.version, "apiServerReady": True}
        return {"tag_name": self.version, "commit_sha": "unknown", "multi_user": False}

    def create_experiment(self, call: Call) -> Any:
        return _add(self.experiments, "experiment_id", _strictly(call.body, "V2beta1Experiment"))

    def create_run(self, call: Call) -> Any:
        return self._start(_strictly(call.body, "V2beta1Run"))

    def start_scheduled(self) -> str:
        """Start a run of the only recurring run, and return its id."""
        (recurring,) = self.recurring.values()
        known = kfp_server_api.V2beta1Run.attribute_map.values()
        run = {name: value for name, value in recurring.items() if name in known}
        return str(self._start(run)["run_id"])

    def _start(self, run: dict[str, Any]) -> dict[str, Any]:
        self._check_spec(run)
        _held(self.experiments, run["experiment_id"])
        made = {
            "created_at": argo.time(len(self.runs) * 60),
            "finished_at": _NEVER,
            "run_details": {"task_details": []},
            "state_history": [],
        }
        started = _add(self.runs, "run_id", {**run, **made})
        _enter(started, "PENDING")
        self.holdouts[started["run_id"]] = self.holdout
        self.workflows[started["run_id"]] = argo.Workflow(_part(self._spec(run)))
        return started

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
        _held(self.runs, call.match[1])
        manifest = self.workflows[call.match[1]].manifest()
        return {"run": {}, "pipeline_runtime": {"workflow_manifest": json.dumps(manifest)}}

    def get_log(self, call: Call) -> Any:
        """Only the API server has this address, which the UI's server does not pass on."""
        if self.is_ui:
            raise RefusedError(404, f"{_NO_SUCH_PAGE} {call.match[0]}")
        _held(self.runs, call.match[1])
        log, problem = self._log(call.match[1], call.match[2])
        if not problem:
            return log
        # The server has sent its status before it looks for the pod.
        text = f"Failed to read logs for run {call.match[1]}: {problem}"
        return {"error_message": text, "error_details": f"{text}\n1. trace"}

    def get_pod_log(self, call: Call) -> Any:
        if not self.is_ui:
            raise RefusedError(404, "404 page not found")
        assert call.query["podnamespace"] == "kubeflow"
        log, problem = self._log(call.query["runid"], call.query["podname"])
        if problem:
            # The UI's server looks into the archive next, and reports only what is wrong there.
            raise RefusedError(500, f"{_NO_LOG}Unable to find corresponding log artifact in node.")
        return log

    def get_archived_log(self, call: Call) -> Any:
        nodes = self.workflows[call.match[1]].manifest()["status"]["nodes"]
        key = _log_key(nodes, _held(nodes, call.match[2]))
        if key not in self.archive:
            raise RefusedError(404, "artifact not found: <nil>")
        return {"data": base64.b64encode(self.archive[key].encode()).decode()}

    def _log(self, run_id: str, pod: str) -> tuple[str, str]:
        """Return what a pod has written, or why it cannot be read."""
        nodes = self.workflows[run_id].manifest()["status"]["nodes"]
        # Pods have other names than their nodes.
        named = {
            f"{argo.NAME}-{node['templateName']}-{node['id'].rpartition('-')[2]}": node
            for node in nodes.values()
            if node["type"] == "Pod"
        }
        node = named[pod]
        if node["phase"] == "Pending":
            return "", f'container "main" in pod "{pod}" is waiting to start: PodInitializing'
        if node["templateName"].endswith("-driver"):
            return self.driver_log, ""
        key = _log_key(nodes, node)
        return (self.logs[key], "") if key in self.logs else ("", f'pods "{pod}" not found')

    def call_metadata(self, call: Call) -> Any:
        """Answer a call of ML Metadata as gRPC-web, which only the UI's server passes on."""
        if not (self.is_ui and self.has_metadata):
            raise RefusedError(404, f"{_NO_SUCH_PAGE} {call.match[0]}")
        assert call.content_type == "application/grpc-web+proto"
        request = message(f"{call.match[1]}Request").FromString(call.body[5:])
        answer = message(f"{call.match[1]}Response")()
        ids = list(self.runs)
        if call.match[1] == "GetContextByTypeAndName":
            assert request.type_name == "system.PipelineRun"
            if request.context_name in ids:
                answer.context.id = ids.index(request.context_name) + 1
        else:
            for artifact in self._artifacts(ids[request.context_id - 1]):
                added = answer.artifacts.add(id=len(answer.artifacts), uri=artifact["uri"])
                for name, value in artifact["values"].items():
                    kind = "string_value" if isinstance(value, str) else "double_value"
                    added.custom_properties.add(key=name, value={kind: value})
        frames = framed(0, answer.SerializeToString()) + framed(0x80, b"grpc-status:0\r\n")
        return Content(frames, call.content_type)

    def get_artifact(self, call: Call) -> Any:
        if not self.is_ui:
            raise RefusedError(404, "404 page not found")
        assert call.query["source"] == "minio"
        uri = f"minio://{call.query['bucket']}/{call.query['key']}"
        if not any(artifact["uri"] == uri for run_id in self.runs for artifact in self._artifacts(run_id)):
            raise RefusedError(500, "Failed to get object in bucket: NoSuchKey")
        return REPORT

    def _artifacts(self, run_id: str) -> list[dict[str, Any]]:
        """Return what the steps that succeeded have written, with what the launcher adds to each."""
        details = self.runs[run_id]["run_details"]["task_details"]
        ended = {task["display_name"] for task in details if task["state"] == "SUCCEEDED"}
        spec = self.workflows[run_id].spec
        written = [
            (step, output)
            for step in steps_in_order(spec)
            for output in spec["components"][f"comp-{step}"].get("outputDefinitions", {}).get("artifacts", {})
            if step in ended
        ]
        metadata: dict[str, dict[str, Any]] = {
            "metrics": METRICS,
            "model": model_metadata(self.runs[run_id]["runtime_config"].get("parameters", {})),
            "study": {"validation_ndcg": 0.4},
            "evaluation": {"holdout": self.holdouts[run_id]},
        }
        return [
            {
                "uri": f"minio://{_BUCKET}/v2/artifacts/wals/{run_id}/{step}/7/{output}",
                "values": {
                    "display_name": output,
                    "store_session_info": '{"Provider":"minio","Params":{"fromEnv":"true"}}',
                    **metadata.get(output, {}),
                },
            }
            for step, output in written
        ]

    def terminate_run(self, call: Call) -> Any:
        run = _held(self.runs, call.match[1])
        if run["state"] in _RUNNING:
            _enter(run, "CANCELING")
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
        """Delete it, and with it the workflows of its runs, unless they are to be orphaned."""
        _held(self.recurring, call.match[1])
        del self.recurring[call.match[1]]
        if call.query.get("propagation_policy") != "ORPHAN":
            self.deleted |= {
                run["run_id"] for run in self.runs.values() if run.get("recurring_run_id") == call.match[1]
            }
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
        """Take a run one step further: the next step runs, the one before has ended."""
        workflow = self.workflows[run["run_id"]]
        if run["state"] not in _RUNNING or run["run_id"] in self.deleted:
            return
        if run["state"] == "CANCELING":
            if workflow.current:
                workflow.phases[workflow.current] = "Failed"
            self._end(run, "FAILED")
            return
        _enter(run, "RUNNING")
        workflow.retried = self.retried
        step = workflow.current
        if step and step == self.waiting_step:
            # A step whose pod waits keeps the run where it is.
            workflow.phases[step] = "Pending"
            self._report(run)
            return
        if step in (self.failing_step, self.failing_driver) and step:
            workflow.phases[step], workflow.unbegun = "Failed", "Omitted"
            workflow.failed_driver = step == self.failing_driver
        elif step:
            workflow.phases[step] = "Succeeded"
        following = workflow.following()
        if following:
            workflow.phases[following] = "Pending" if following == self.waiting_step else "Running"
            self._report(run)
        else:
            self._end(run, "FAILED" if "Failed" in workflow.phases.values() else "SUCCEEDED")

    def _end(self, run: dict[str, Any], state: str) -> None:
        _enter(run, state)
        run["finished_at"] = argo.time(60)
        self._report(run)

    def _report(self, run: dict[str, Any]) -> None:
        """Note the nodes of a run's workflow as its tasks, as the persistence agent does."""
        nodes = self.workflows[run["run_id"]].manifest()["status"]["nodes"]
        run["run_details"]["task_details"] = [
            {
                "run_id": run["run_id"],
                "display_name": node["displayName"],
                "start_time": node["startedAt"],
                "end_time": node["finishedAt"] or _NEVER,
                "state": _STATES.get(node["phase"], "RUNTIME_STATE_UNSPECIFIED"),
                "child_tasks": [{"pod_name": child} for child in node["children"]],
            }
            for node in nodes.values()
        ]


@contextmanager
def kubeflow_server() -> Iterator[KubeflowServer]:
    """Yield a running server."""
    server = KubeflowServer()

    def refuse(status: int, message: str) -> Any:
        # The UI's server answers with text.
        if message.startswith((_NO_SUCH_PAGE, _NO_LOG)):
            return message
        return {"code": status, "message": message, "error": message}

    with serving(server.routes(), refuse, server.calls) as server.url:
        yield server


def _enter(run: dict[str, Any], state: str) -> None:
    """Let a run be in a state."""
    run["state"] = state
    if not run["state_history"] or run["state_history"][-1]["state"] != state:
        run["state_history"].append({"update_time": argo.time(0), "state": state})


def _log_key(nodes: dict[str, Any], pod: dict[str, Any]) -> str:
    """Return the step of a pod, with its iteration if it is in a loop."""
    step = nodes[pod["boundaryID"]]["displayName"].partition("(")[0]
    iteration = re.search(r"iterations\((\d+):", pod["name"])
    return f"{step}.{int(iteration[1]) + 1}" if iteration else step


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
    made = {"created_at": argo.time(0), **content, id_name: str(uuid.uuid4())}
    things[made[id_name]] = made
    return made


def _held(things: dict[str, Any], name: str) -> Any:
    if name not in things:
        raise RefusedError(404, f"{name} was not found")
    return things[name]
