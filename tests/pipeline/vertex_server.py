"""A local server that speaks the parts of Google Cloud's REST APIs that the commands use.

Requests and answers are read strictly into the protos that google-cloud-aiplatform publishes, and requests
refused where Vertex AI is known to refuse them. A job advances when it is read: each read takes it a step
further.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from typing import Any
from urllib.parse import unquote

from google.cloud import aiplatform_v1
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.pipeline.serving import (
    METRICS,
    Call,
    RefusedError,
    Route,
    model_metadata,
    serving,
    tasks_in_order,
)

PROJECT = "test-project"
REGION = "europe-west1"
BUCKET = "test-bucket"
TABLE = "test-project/datasets/shop/tables/ratings"
REPORT_PATH = "runs/1/evaluate/report"
PARENT = f"projects/{PROJECT}/locations/{REGION}"
RUN_LABEL = "vertex-ai-pipelines-run-billing-id"

_START = datetime(2026, 1, 1, tzinfo=UTC)
_CRON = re.compile(r"TZ=[A-Za-z_]+(/[A-Za-z_]+)* [\d*/,-]+( [\d*/,-]+){4}")
_LOG_FILTER = re.compile(
    r'resource\.type="ml_job" AND resource\.labels\.job_id=\(("\d+"(?: OR "\d+")*)\)'
    r' AND timestamp>="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"'
)
_UNLIMITED = -1
_TUNING = "hyperparameterTuningJobs"
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_OVER = {"SUCCEEDED", "FAILED", "CANCELLED"}


@dataclass
class VertexServer:
    """State and behaviour of the server.

    Attributes:
        url: address of the server.
        jobs: pipeline jobs by name, as JSON.
        training: custom jobs and hyperparameter tuning jobs by name, as JSON.
        run_jobs: custom jobs that ran for pipeline jobs, as JSON.
        reports_launched: whether a step reports the custom job that it launched.
        failing_training: whether training jobs fail.
        logs: entries of Cloud Logging, in the order of time, as (number of a job, payload and labels). What a
            trial writes is an entry of the tuning job.
        logging_refuses: status that Cloud Logging answers with; it answers if 0.
        schedules: schedules by name, as JSON.
        templates: bytes of the packages of the template repository, by ``package/sha256:…``.
        tags: versions by ``package/tag``.
        bucket_rights: permissions of the user on the bucket.
        table_modified: time of the table's last change.
        failing_step: the step that fails; none if empty.
        holdout: checksum of the holdout of the runs that are evaluated from now on.
        has_metadata_store: whether the project has a metadata store; the first pipeline run creates it.
        contexts: contexts of the metadata store by name, as JSON.
        children: names of the contexts that belong to a context, by its name.
        quotas: limits of the region by metric; other metrics are unknown.
        quotas_refuse: status that Service Usage answers with; it answers if 0.
        slow_deletions: number of listings in which a deleted schedule still appears.
        refusals: statuses to answer the next reads of a job with.
        calls: ``METHOD path`` of each request.
    """

    url: str = ""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    run_jobs: list[dict[str, Any]] = field(default_factory=list)
    reports_launched: bool = True
    failing_training: bool = False
    logs: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    logging_refuses: int = 0
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    templates: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    bucket_rights: list[str] = field(
        default_factory=lambda: ["storage.objects.create", "storage.objects.get", "storage.objects.list"]
    )
    table_modified: datetime = field(default_factory=lambda: datetime.now(UTC))
    failing_step: str = ""
    holdout: str = "a" * 64
    has_metadata_store: bool = False
    contexts: dict[str, dict[str, Any]] = field(default_factory=dict)
    children: dict[str, list[str]] = field(default_factory=dict)
    quotas: dict[str, int] = field(
        default_factory=lambda: {"aiplatform.googleapis.com/custom_model_training_nvidia_t4_gpus": 4}
    )
    quotas_refuse: int = 0
    slow_deletions: int = 0
    refusals: list[int] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _deleting: dict[str, int] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        jobs, schedules = rf"/v1/({PARENT})/pipelineJobs", rf"/v1/({PARENT})/schedules"
        training = rf"/v1/{PARENT}/(customJobs|hyperparameterTuningJobs)"
        contexts = rf"/v1/({PARENT}/metadataStores/default)/contexts"
        package = r"/templates/packages/([\w-]+)"
        return [
            ("POST", jobs, self.create_job),
            ("GET", jobs, self.list_jobs),
            ("GET", rf"{jobs}/([^/:]+)", self.get_job),
            ("POST", rf"{jobs}/([^/:]+):cancel", self.cancel_job),
            ("POST", training, self.create_training),
            ("GET", rf"/v1/{PARENT}/customJobs", self.list_run_jobs),
            ("GET", rf"{training}/(\d+)", self.get_training),
            ("POST", rf"{training}/(\d+):cancel", self.cancel_training),
            ("POST", contexts, self.create_context),
            ("GET", rf"{contexts}/([^/:]+)", self.get_context),
            ("POST", rf"{contexts}/([^/:]+):addContextChildren", self.add_children),
            ("POST", "/v2/entries:list", self.list_entries),
            ("POST", schedules, self.create_schedule),
            ("GET", schedules, self.list_schedules),
            ("DELETE", rf"{schedules}/([^/:]+)", self.delete_schedule),
            ("POST", rf"{schedules}/([^/:]+):(pause|resume)", self.switch_schedule),
            ("POST", "/templates", self.upload_template),
            ("GET", r"/templates/([\w-]+/sha256:\w+)", self.get_template),
            ("GET", rf"{package}/versions/(.+)", self.get_version),
            ("GET", rf"{package}/tags/(.+)", self.get_tag),
            ("POST", rf"{package}/tags", self.put_tag),
            ("PATCH", rf"{package}/tags/(.+)", self.put_tag),
            ("GET", r"/storage/v1/b/([^/]+)/iam/testPermissions", self.test_permissions),
            ("GET", r"/bigquery/v2/projects/(.+)", self.get_table),
            (
                "GET",
                rf"/v1beta1/projects/{PROJECT}/services/([^/]+)/consumerQuotaMetrics/(.+)",
                self.get_quota,
            ),
        ]

    def create_job(self, call: Call) -> Any:
        job = _strictly(call.body, aiplatform_v1.PipelineJob)
        job_id = call.query.get("pipelineJobId") or f"job-{len(self.jobs) + 1}"
        _require(bool(re.fullmatch(r"[a-z][-a-z0-9]{0,126}", job_id)), "pipeline_job_id is not valid")
        name = f"{PARENT}/pipelineJobs/{job_id}"
        if name in self.jobs:
            raise RefusedError(409, f"{name} already exists")
        _check_job(job)
        self.jobs[name] = {
            **job,
            "labels": {**job.get("labels", {}), RUN_LABEL: str(5000 + len(self.jobs))},
            "name": name,
            "state": "PIPELINE_STATE_PENDING",
            "createTime": _time(len(self.jobs) * 60),
            "jobDetail": {"taskDetails": []},
        }
        return _answer(self.jobs[name], aiplatform_v1.PipelineJob)

    def list_jobs(self, call: Call) -> Any:
        jobs = sorted(self.jobs.values(), key=lambda job: job["createTime"], reverse=True)
        assert call.query["orderBy"] == "create_time desc"
        jobs = [{**job, "jobDetail": {}} for job in jobs[: int(call.query["pageSize"])]]
        return _answer({"pipelineJobs": jobs}, aiplatform_v1.ListPipelineJobsResponse)

    def get_job(self, call: Call) -> Any:
        if self.refusals:
            raise RefusedError(self.refusals.pop(0), "the service is unavailable")
        job = self._held(self.jobs, f"{PARENT}/pipelineJobs/{call.match[2]}")
        self._live(job)
        return _answer(job, aiplatform_v1.PipelineJob)

    def cancel_job(self, call: Call) -> Any:
        job = self._held(self.jobs, f"{PARENT}/pipelineJobs/{call.match[2]}")
        if _state(job) in _OVER:
            raise RefusedError(400, "the job is over")
        job["state"], job["endTime"] = "PIPELINE_STATE_CANCELLED", _time(30)
        return {}

    def create_training(self, call: Call) -> Any:
        tuning, message = call.match[1] == _TUNING, _training_message(call.match[1])
        job = _strictly(call.body, message)
        _check_name(job)
        _check_training(job["trialJobSpec"] if tuning else job["jobSpec"])
        if tuning:
            _check_study(job)
        name = f"{PARENT}/{call.match[1]}/{7000 + len(self.training)}"
        made = {"name": name, "state": "JOB_STATE_PENDING", "createTime": _time(0)}
        self.training[name] = {**job, **made, **({"trials": []} if tuning else {})}
        return _answer(self.training[name], message)

    def get_training(self, call: Call) -> Any:
        if self.refusals:
            raise RefusedError(self.refusals.pop(0), "the service is unavailable")
        job = self._held(self.training, f"{PARENT}/{call.match[1]}/{call.match[2]}")
        self._train(job)
        return _answer(job, _training_message(call.match[1]))

    def list_run_jobs(self, call: Call) -> Any:
        match = re.fullmatch(r"labels\.([a-z0-9_-]+)=(\d+)", call.query.get("filter", ""))
        _require(bool(match), "filter is not valid")
        found = [job for job in self.run_jobs if match and job["labels"].get(match[1]) == match[2]]
        return _answer({"customJobs": found}, aiplatform_v1.ListCustomJobsResponse)

    def cancel_training(self, call: Call) -> Any:
        job = self._held(self.training, f"{PARENT}/{call.match[1]}/{call.match[2]}")
        job["state"], job["endTime"] = "JOB_STATE_CANCELLED", _time(30)
        return {}

    def create_context(self, call: Call) -> Any:
        context = _strictly(call.body, aiplatform_v1.Context)
        if not self.has_metadata_store:
            raise RefusedError(404, "the metadata store was not found")
        context_id = call.query["contextId"]
        _require(bool(re.fullmatch(r"[a-z0-9][a-z0-9-]{0,127}", context_id)), "context_id is not valid")
        name = f"{call.match[1]}/contexts/{context_id}"
        if name in self.contexts:
            raise RefusedError(409, f"{name} already exists")
        self.contexts[name] = {**context, "name": name}
        return self.contexts[name]

    def get_context(self, call: Call) -> Any:
        return self._held(self.contexts, f"{call.match[1]}/contexts/{call.match[2]}")

    def add_children(self, call: Call) -> Any:
        name = f"{call.match[1]}/contexts/{call.match[2]}"
        self._held(self.contexts, name)
        body = _strictly(call.body, aiplatform_v1.AddContextChildrenRequest)
        for child in body["childContexts"]:
            self._held(self.contexts, child)
        self.children.setdefault(name, []).extend(body["childContexts"])
        return {}

    def list_entries(self, call: Call) -> Any:
        """Two entries a page, and an empty page first, as Cloud Logging may answer."""
        if self.logging_refuses:
            raise RefusedError(self.logging_refuses, "PERMISSION_DENIED")
        request = json.loads(call.body)
        known = {"resourceNames", "filter", "orderBy", "pageSize", "pageToken"}
        _require(set(request) <= known, f"Unknown name {set(request) - known}")
        _require(request["resourceNames"] == [f"projects/{PROJECT}"], "resource_names is not valid")
        _require(request["orderBy"] in ("timestamp asc", "timestamp desc"), "order_by is not valid")
        match = _LOG_FILTER.fullmatch(request["filter"])
        if not match:
            raise RefusedError(400, f"Unparseable filter: {request['filter']}")
        wanted = re.findall(r'"(\d+)"', match[1])
        found = [
            {"resource": {"type": "ml_job", "labels": {"job_id": job}}, **payload}
            for job, payload in self.logs
            if job in wanted
        ]
        if "pageToken" not in request:
            return {"nextPageToken": "0"}
        first = int(request["pageToken"])
        more = {"nextPageToken": str(first + 2)} if first + 2 < len(found) else {}
        return {"entries": found[first : first + 2], **more}

    def create_schedule(self, call: Call) -> Any:
        schedule = _strictly(call.body, aiplatform_v1.Schedule)
        _check_name(schedule)
        _require(bool(_CRON.fullmatch(schedule.get("cron", ""))), "cron is not valid")
        _require(int(schedule.get("maxConcurrentRunCount", 0)) > 0, "max_concurrent_run_count is required")
        active = int(schedule.get("maxConcurrentActiveRunCount", 1))
        _require(active > 0, "max_concurrent_active_run_count is not valid")
        request = schedule["createPipelineJobRequest"]
        _require(request.get("parent") == PARENT, "create_pipeline_job_request.parent is required")
        _require("pipelineJobId" not in request, "pipeline_job_id must not be set")
        _check_job(request["pipelineJob"])
        name = f"{PARENT}/schedules/{1000 + len(self.calls)}"
        made = {"name": name, "state": "ACTIVE", "nextRunTime": _time(3600), "createTime": _time(0)}
        self.schedules[name] = {"startTime": _time(0), **schedule, **made}
        return _answer(self.schedules[name], aiplatform_v1.Schedule)

    def list_schedules(self, call: Call) -> Any:
        found = list(self.schedules.values())
        self._deleting = {name: left - 1 for name, left in self._deleting.items()}
        for name in [name for name, left in self._deleting.items() if left < 0]:
            del self.schedules[name], self._deleting[name]
        return _answer({"schedules": found}, aiplatform_v1.ListSchedulesResponse)

    def delete_schedule(self, call: Call) -> Any:
        """Begin to delete; the operation never reports that it is done."""
        name = f"{PARENT}/schedules/{call.match[2]}"
        self._held(self.schedules, name)
        self._deleting[name] = self.slow_deletions
        if not self.slow_deletions:
            del self.schedules[name], self._deleting[name]
        return {"name": f"{PARENT}/operations/1", "done": False}

    def switch_schedule(self, call: Call) -> Any:
        schedule = self._held(self.schedules, f"{PARENT}/schedules/{call.match[2]}")
        pausing = call.match[3] == "pause"
        request = aiplatform_v1.PauseScheduleRequest if pausing else aiplatform_v1.ResumeScheduleRequest
        body = _strictly(call.body or b"{}", request)
        schedule["state"] = "PAUSED" if pausing else "ACTIVE"
        schedule["catchUp"] = bool(body.get("catchUp"))
        return {}

    def upload_template(self, call: Call) -> Any:
        head = f"Content-Type: {call.content_type}\r\n\r\n".encode()
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message_from_bytes(head + call.body, policy=policy.HTTP).iter_parts()
        }
        content = parts["content"]
        package = next(
            line.split(":")[1].strip() for line in content.decode().splitlines() if "name: wals" in line
        )
        version = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.templates[f"{package}/{version}"] = content
        for tag in parts.get("tags", b"").decode().split(","):
            self.tags[f"{package}/{tag}"] = version
        return f"{package}/{version}"

    def get_template(self, call: Call) -> Any:
        return self._held(self.templates, call.match[1]).decode()

    def get_version(self, call: Call) -> Any:
        return {"size": len(self._held(self.templates, f"{call.match[1]}/{call.match[2]}"))}

    def get_tag(self, call: Call) -> Any:
        return {"version": self._held(self.tags, f"{call.match[1]}/{call.match[2]}")}

    def put_tag(self, call: Call) -> Any:
        tag = call.query.get("tagId") or call.match[2]
        version = json.loads(call.body)["version"].rsplit("/", 1)[-1]
        self._held(self.templates, f"{call.match[1]}/{version}")
        self.tags[f"{call.match[1]}/{tag}"] = version
        return {}

    def test_permissions(self, call: Call) -> Any:
        self._held({BUCKET: True}, call.match[1])
        return {"permissions": self.bucket_rights}

    def get_table(self, call: Call) -> Any:
        self._held({TABLE: True}, call.match[1])
        project, _, dataset, _, table = TABLE.split("/")
        return {
            "tableReference": {"projectId": project, "datasetId": dataset, "tableId": table},
            "lastModifiedTime": str(round(self.table_modified.timestamp() * 1000)),
        }

    def get_quota(self, call: Call) -> Any:
        """Answer as JSON of a proto does: a limit of 0 is omitted."""
        if self.quotas_refuse:
            raise RefusedError(self.quotas_refuse, "PERMISSION_DENIED")
        metric = unquote(call.match[2])
        _require("/" not in call.match[2], "the name of a metric must be encoded")
        limit = self._held(self.quotas, metric)
        regions = [("us-central1", 100), (REGION, limit), ("us-east1", _UNLIMITED)]
        buckets = [
            {"dimensions": {"region": region}, **({"effectiveLimit": str(value)} if value else {})}
            for region, value in regions
        ]
        # The basic view has only regions for which someone has set another limit.
        shown = buckets if call.query.get("view") == "FULL" else []
        limits = {"metric": metric, "unit": "1/{project}/{region}", "quotaBuckets": [{}, *shown]}
        return {"name": call.match[0].lstrip("/"), "metric": metric, "consumerQuotaLimits": [limits]}

    def _live(self, job: dict[str, Any]) -> None:
        """Take a job one step further: the next step runs, the one before has ended."""
        if _state(job) in _OVER:
            return
        job["state"] = "PIPELINE_STATE_RUNNING"
        job.setdefault("startTime", _time(1))
        tasks = job["jobDetail"]["taskDetails"]
        if not tasks:
            # Vertex AI also reports the run itself, as the task that all others belong to.
            tasks.append({"taskId": "1", "taskName": job["name"].rsplit("/", 1)[-1], "state": "RUNNING"})
        elif len(tasks) > 1:
            # Vertex AI creates the context of a run only after it has started.
            context = f"{PARENT}/metadataStores/default/contexts/{job['name'].rsplit('/', 1)[-1]}"
            self.has_metadata_store = True
            self.contexts[context] = {"name": context, "schemaTitle": "system.PipelineRun"}
            job["jobDetail"]["pipelineRunContext"] = {"name": context}
            self._end(job, tasks[-1])
        begun = {task["taskName"] for task in tasks}
        has_failed = any(task["state"] == "FAILED" for task in tasks)
        left = [task for task in tasks_in_order(job["pipelineSpec"]) if task.name not in begun]
        following = next((task for task in left if task.is_exit or not has_failed), None)
        if following:
            tasks.append(self._begun(job, following.name, len(tasks)))
            return
        job["state"] = f"PIPELINE_STATE_{'FAILED' if has_failed else 'SUCCEEDED'}"
        job["endTime"] = _time(60)

    def _begun(self, job: dict[str, Any], step: str, number: int) -> dict[str, Any]:
        """Return a step that has begun, after adding the custom jobs that run for it."""
        component = job["pipelineSpec"]["components"][f"comp-{step}"]
        inputs = component.get("inputDefinitions", {}).get("parameters", {})
        # The numbers of the first run's jobs have three digits.
        run = list(self.jobs).index(job["name"]) or ""
        main, launched = f"{run}70{number}", f"{run}90{number}"
        names, metadata = {main: f"caip_pipelines_{number}"}, {}
        if "worker_pool_specs" in inputs:
            names[launched] = inputs["display_name"]["defaultValue"]
            metadata = {"output:gcp_resources": _resources(launched)}
        common = {"createTime": _time(number), "labels": {RUN_LABEL: job["labels"][RUN_LABEL]}}
        self.run_jobs += [
            {"name": f"{PARENT}/customJobs/{job_number}", "displayName": name, **common}
            for job_number, name in names.items()
        ]
        return {
            "taskId": str(number + 1),
            "parentTaskId": "1",
            "taskName": step,
            "state": "RUNNING",
            "startTime": _time(number),
            "executorDetail": {"containerDetail": {"mainJob": f"{PARENT}/customJobs/{main}"}},
            "execution": {"metadata": metadata if self.reports_launched else {}},
        }

    def _train(self, job: dict[str, Any]) -> None:
        """Take a training job one step further; in a tuning job each trial runs for one read."""
        if job["state"] not in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
            return
        began, job["state"] = job["state"] == "JOB_STATE_RUNNING", "JOB_STATE_RUNNING"
        trials = job.get("trials", [])
        if trials:
            _end_trial(trials[-1])
        if "trials" in job and len(trials) < int(job["maxTrialCount"]):
            trials.append(_trial(job, str(len(trials) + 1)))
        elif began:
            job["state"] = "JOB_STATE_FAILED" if self.failing_training else "JOB_STATE_SUCCEEDED"
            job["endTime"] = _time(60)
            if self.failing_training:
                job["error"] = {"code": 3, "message": "The replica workerpool0-0 exited with a status of 2."}

    def _end(self, job: dict[str, Any], task: dict[str, Any]) -> None:
        task["endTime"] = _time(int(task["taskId"]) * 2)
        if task["taskName"] == self.failing_step:
            task["state"] = "FAILED"
            job["error"] = {"code": 9, "message": "The replica exited with a non-zero status of 1."}
            return
        task["state"] = "SUCCEEDED"
        if task["taskName"] == "evaluate":
            artifact = {"schemaTitle": "system.Metrics", "metadata": METRICS}
            report = {"schemaTitle": "system.HTML", "uri": f"gs://{BUCKET}/{REPORT_PATH}"}
            evaluation = {"schemaTitle": "system.Artifact", "metadata": {"holdout": self.holdout}}
            outputs = {"metrics": artifact, "report": report, "evaluation": evaluation}
            task["outputs"] = {name: {"artifacts": [output]} for name, output in outputs.items()}
        if task["taskName"] == "train":
            metadata = model_metadata(job["runtimeConfig"].get("parameterValues", {}))
            task["outputs"] = {
                "model": {"artifacts": [{"schemaTitle": "system.Model", "metadata": metadata}]}
            }

    def _held(self, things: dict[str, Any], name: str) -> Any:
        if name not in things:
            raise RefusedError(404, f"{name} was not found")
        return things[name]


@contextmanager
def vertex_server() -> Iterator[VertexServer]:
    """Yield a running server."""
    server = VertexServer()

    def refuse(status: int, message: str) -> Any:
        return {"error": {"code": status, "message": message}}

    with serving(server.routes(), refuse, server.calls) as server.url:
        yield server


def _strictly(body: bytes, message: Any) -> dict[str, Any]:
    """Return a body as JSON after reading it into a proto, which must know every field."""
    try:
        parsed = json_format.Parse(body, message.pb()())
    except json_format.ParseError as error:
        raise RefusedError(400, f"Invalid JSON payload received. {error}") from error
    return dict(json_format.MessageToDict(parsed))


def _answer(content: dict[str, Any], message: Any) -> dict[str, Any]:
    """Return an answer after reading it into a proto: the server answers nothing that Vertex AI could not."""
    json_format.ParseDict(content, message.pb()())
    return content


def _training_message(kind: str) -> Any:
    return aiplatform_v1.HyperparameterTuningJob if kind == _TUNING else aiplatform_v1.CustomJob


def _check_name(thing: dict[str, Any]) -> None:
    _require(0 < len(thing.get("displayName", "")) <= 128, "display_name is not valid")


def _check_job(job: dict[str, Any]) -> None:
    _check_name(job)
    try:
        spec = json_format.ParseDict(job["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())
    except json_format.ParseError as error:
        raise RefusedError(400, f"pipeline_spec is not valid. {error}") from error
    runtime = job["runtimeConfig"]
    _require(runtime.get("gcsOutputDirectory", "").startswith("gs://"), "gcs_output_directory is required")
    parameters = spec.root.input_definitions.parameters
    given = runtime.get("parameterValues", {})
    _require(set(given) <= set(parameters), f"unknown parameters {set(given) - set(parameters)}")
    required = {name for name, parameter in parameters.items() if not parameter.is_optional}
    _require(required <= set(given), f"missing parameters {required - set(given)}")
    _require(len(job.get("labels", {})) <= 64, "there are too many labels")
    for label in job.get("labels", {}).items():
        _require(all(_LABEL.fullmatch(part) for part in label), f"label {label} is not valid")


def _resources(number: str) -> str:
    """Return the output of a launcher: the custom job that it launched, by the project's number."""
    address = f"https://{REGION}-aiplatform.googleapis.com/v1/projects/12345/locations/{REGION}/customJobs"
    resource = {"resourceType": "CustomJob", "resourceUri": f"{address}/{number}"}
    return json.dumps({"resources": [resource]}, indent=2)


def _check_training(spec: dict[str, Any]) -> None:
    pools = spec["workerPoolSpecs"]
    _require(1 <= len(pools) <= 4, "there are too many worker pools")
    _require(pools[0]["replicaCount"] == "1", "the first worker pool must have one replica")
    for pool in pools:
        machine = pool["machineSpec"]
        _require(
            bool(re.fullmatch(r"[a-z0-9]+-[a-z0-9-]+", machine["machineType"])), "machine_type is not valid"
        )
        _require(int(pool.get("replicaCount", 0)) > 0, "replica_count is required")
        _require(
            ("acceleratorType" in machine) == ("acceleratorCount" in machine), "accelerator_count is required"
        )
        _require(bool(pool["containerSpec"]["imageUri"]), "image_uri is required")
    _require(not ("network" in spec and "pscInterfaceConfig" in spec), "network and psc_interface_config")
    _require(
        "maxWaitDuration" not in spec["scheduling"] or spec["scheduling"]["strategy"] == "FLEX_START",
        "max_wait_duration is only valid with FLEX_START",
    )
    if "tensorboard" in spec:
        _require("serviceAccount" in spec, "service_account is required with tensorboard")
        _require("baseOutputDirectory" in spec, "base_output_directory is required with tensorboard")
        _require("experiment" not in spec, "tensorboard and experiment cannot both be set")


def _check_study(job: dict[str, Any]) -> None:
    study = job["studySpec"]
    _require([metric["goal"] for metric in study["metrics"]] == ["MINIMIZE"], "one metric's goal is wanted")
    _require(0 < job["parallelTrialCount"] <= job["maxTrialCount"], "parallel_trial_count is not valid")
    for parameter in study["parameters"]:
        bounds = parameter.get("doubleValueSpec") or parameter["integerValueSpec"]
        low, high = float(bounds["minValue"]), float(bounds["maxValue"])
        _require(low < high, f"the range of {parameter['parameterId']} is not valid")
        _require("LOG" not in parameter["scaleType"] or low > 0, "a logarithmic range must be above 0")


def _trial(job: dict[str, Any], number: str) -> dict[str, Any]:
    """Return a trial whose parameters lie between their bounds, depending on its number."""
    parameters = []
    for parameter in job["studySpec"]["parameters"]:
        bounds = parameter.get("doubleValueSpec") or parameter["integerValueSpec"]
        least, most = float(bounds["minValue"]), float(bounds["maxValue"])
        value = round(least + (most - least) * int(number) / 10)
        parameters.append({"parameterId": parameter["parameterId"], "value": value})
    custom_job = f"{PARENT}/customJobs/{8000 + int(number)}"
    return {
        "id": number,
        "state": "ACTIVE",
        "startTime": _time(int(number)),
        "parameters": parameters,
        "customJob": custom_job,
    }


def _end_trial(trial: dict[str, Any]) -> None:
    # The second of the trials is the best.
    error = 1 + abs(int(trial["id"]) - 2) / 10
    measurement = {"metrics": [{"metricId": "training/hptuning/metric", "value": error}]}
    trial |= {"state": "SUCCEEDED", "endTime": _time(int(trial["id"]) * 3), "finalMeasurement": measurement}


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RefusedError(400, message)


def _state(job: dict[str, Any]) -> str:
    return str(job["state"]).removeprefix("PIPELINE_STATE_")


def _time(seconds: int) -> str:
    return (_START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
