"""A stand-in for Vertex AI's Model Registry and an endpoint, which have no emulator.

Requests and answers are read strictly into the protos that google-cloud-aiplatform publishes, and requests
refused where Vertex AI is known to refuse them.
"""

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1
from google.cloud.aiplatform.constants.prediction import TF_CONTAINER_URIS
from google.protobuf import json_format

from tests.pipeline.serving import Call, RefusedError, Route, serving

PARENT = "projects/test-project/locations/europe-west1"
MODEL = f"{PARENT}/models/shop"
ENDPOINT = f"{PARENT}/endpoints/4711"
# Vertex AI answers with the project's number.
_NUMBERED = "projects/1234567890/locations/europe-west1"
_LABEL = re.compile(r"[a-z0-9_-]{0,63}")
_ALIAS = re.compile(r"-?[a-z][a-zA-Z0-9-]{0,126}[a-z0-9-]")
_FILTER = re.compile(r'labels\.([a-z0-9_-]+)="([a-z0-9_-]*)"')


@dataclass
class ModelServer:
    """State and behaviour of the server.

    Attributes:
        bucket: bucket in which the artifacts must exist.
        versions: versions of the model, as JSON, oldest first.
        evaluations: imported evaluations by version, as JSON.
        endpoint: the endpoint, as JSON; None if it does not exist.
        refusals: status by the end of the path of requests to refuse.
        upload_error: message of the error that uploads end with; none if empty.
        deployment_error: message of the error that deployments end with; none if empty.
        changes_when_read: whether somebody else changes the endpoint after each time that it is read.
        calls: ``METHOD path`` of each request.
    """

    bucket: Any
    versions: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    endpoint: dict[str, Any] | None = field(
        default_factory=lambda: {"name": ENDPOINT, "etag": "0", "deployedModels": [], "trafficSplit": {}}
    )
    refusals: dict[str, int] = field(default_factory=dict)
    upload_error: str = ""
    deployment_error: str = ""
    changes_when_read: bool = False
    calls: list[str] = field(default_factory=list)
    _operations: dict[str, dict[str, Any]] = field(default_factory=dict)
    _changes: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""
        return {alias: v["versionId"] for v in self.versions for alias in v.get("versionAliases", [])}

    def traffic(self) -> dict[str, int]:
        """Return the share of each version that is deployed."""
        assert self.endpoint is not None
        split = self.endpoint["trafficSplit"]
        return {d["modelVersionId"]: split.get(d["id"], 0) for d in self.endpoint["deployedModels"]}

    def routes(self) -> list[Route]:
        version = rf"/v1/{MODEL}@(\d+)"
        return [
            ("GET", f"/v1/{MODEL}", self.get_model),
            ("GET", f"/v1/{MODEL}:listVersions", self.list_versions),
            ("POST", f"/v1/{PARENT}/models:upload", self.upload),
            ("GET", rf"/v1/({PARENT}/operations/\d+)", self.get_operation),
            ("POST", f"{version}:mergeVersionAliases", self.merge_aliases),
            ("GET", f"{version}/evaluations", self.list_evaluations),
            ("POST", f"{version}/evaluations:import", self.import_evaluation),
            ("GET", f"/v1/{ENDPOINT}", self.get_endpoint),
            ("PATCH", f"/v1/{ENDPOINT}", self.update_endpoint),
            ("POST", f"/v1/{ENDPOINT}:deployModel", self.deploy),
            ("POST", f"/v1/{ENDPOINT}:undeployModel", self.undeploy),
            ("GET", f"/v1/{ENDPOINT}/operations", self.list_operations),
            ("GET", rf"/v1/({ENDPOINT}/operations/\d+)", self.get_operation),
        ]

    def get_model(self, call: Call) -> Any:
        self._refuse("shop")
        if not self.versions:
            raise RefusedError(404, "The Model does not exist.")
        return _answer(self.versions[-1], aiplatform_v1.Model)

    def list_versions(self, call: Call) -> Any:
        self._refuse(":listVersions")
        if not self.versions:
            raise RefusedError(404, "The Model does not exist.")
        match = _FILTER.fullmatch(call.query.get("filter", ""))
        if not match:
            raise RefusedError(400, "filter is not valid")
        found = [version for version in self.versions if version["labels"].get(match[1]) == match[2]]
        return _answer({"models": found}, aiplatform_v1.ListModelVersionsResponse)

    def upload(self, call: Call) -> Any:
        self._refuse(":upload")
        request = _strictly(call.body, aiplatform_v1.UploadModelRequest)
        _require(not ("parentModel" in request and "modelId" in request), "model_id with parent_model")
        if "modelId" in request:
            _require(
                bool(re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", request["modelId"])), "model_id is not valid"
            )
            if self.versions:
                raise RefusedError(409, "The Model already exists.")
        elif not self.versions or request.get("parentModel") != MODEL:
            raise RefusedError(404, "parent_model does not exist")
        model = request["model"]
        _require(0 < len(model.get("displayName", "")) <= 128, "display_name is not valid")
        for label in model.get("labels", {}).items():
            _require(all(_LABEL.fullmatch(part) for part in label), f"label {label} is not valid")
        image = model["containerSpec"]["imageUri"]
        _require(image in TF_CONTAINER_URIS, "image_uri is not a prebuilt image")
        self._require_object(f"{model['artifactUri']}/saved_model.pb")
        operation = {"name": f"{PARENT}/operations/{len(self._operations) + 1}", "done": False}
        if self.upload_error:
            end = {"error": {"code": 3, "message": self.upload_error}}
        else:
            number = str(len(self.versions) + 1)
            made = {
                "name": MODEL,
                "versionId": number,
                "versionAliases": ["default"] if number == "1" else [],
            }
            self.versions.append({**model, **made})
            kind = "type.googleapis.com/google.cloud.aiplatform.v1.UploadModelResponse"
            end = {"response": {"@type": kind, "model": MODEL, "modelVersionId": number}}
        self._operations[operation["name"]] = {**operation, "done": True, **end}
        return operation

    def get_operation(self, call: Call) -> Any:
        """Return an operation; reading it ends it."""
        name = call.match[1]
        if name in self._changes:
            self._operations[name] = {"name": name, "done": True, **self._changes.pop(name)()}
        return self._operations[name]

    def list_operations(self, call: Call) -> Any:
        _require(call.query.get("filter") == "done=false", "filter is not valid")
        return {"operations": [self._operations[name] for name in self._changes]}

    def get_endpoint(self, call: Call) -> Any:
        self._refuse("endpoints/4711")
        endpoint = self._endpoint()
        answer = _answer({**endpoint}, aiplatform_v1.Endpoint)
        if self.changes_when_read:
            endpoint["etag"] = str(int(endpoint["etag"]) + 1)
        return answer

    def update_endpoint(self, call: Call) -> Any:
        self._refuse("PATCH")
        changed = _strictly(call.body, aiplatform_v1.Endpoint)
        endpoint = self._endpoint()
        _require(call.query.get("updateMask") == "trafficSplit", "update_mask is not valid")
        _require(set(changed) <= {"trafficSplit", "etag"}, "only traffic_split is updated")
        if changed.get("etag", endpoint["etag"]) != endpoint["etag"]:
            raise RefusedError(409, "The etag does not match.")
        self._split(changed["trafficSplit"])
        return _answer(endpoint, aiplatform_v1.Endpoint)

    def deploy(self, call: Call) -> Any:
        self._refuse(":deployModel")
        request = _strictly(call.body, aiplatform_v1.DeployModelRequest)
        endpoint, deployed = self._endpoint(), request["deployedModel"]
        model, _, number = deployed["model"].partition("@")
        _require(model == MODEL, "the Model is in another location")
        self._version(number)
        machines = deployed["dedicatedResources"]
        _require(bool(machines["machineSpec"].get("machineType")), "machine_type is required")
        _require(1 <= machines["minReplicaCount"] <= machines["maxReplicaCount"], "replicas are not valid")
        _require("id" not in deployed, "the id is given by Vertex AI")
        _require(not request.get("trafficSplit"), "the stand-in only deploys without traffic")

        def change() -> dict[str, Any]:
            if self.deployment_error:
                return {"error": {"code": 9, "message": self.deployment_error}}
            made = {
                **deployed,
                "id": str(9000 + len(self.calls)),
                "model": f"{_NUMBERED}/models/shop",
                "modelVersionId": number,
            }
            endpoint["deployedModels"].append(made)
            kind = "type.googleapis.com/google.cloud.aiplatform.v1.DeployModelResponse"
            return {"response": {"@type": kind, "deployedModel": made}}

        return self._begin(change)

    def undeploy(self, call: Call) -> Any:
        self._refuse(":undeployModel")
        request = _strictly(call.body, aiplatform_v1.UndeployModelRequest)
        endpoint, gone = self._endpoint(), request["deployedModelId"]
        ids = [deployed["id"] for deployed in endpoint["deployedModels"]]
        _require(gone in ids, f"The following DeployedModel ID(s) [{gone}] do not exist.")
        _require(not endpoint["trafficSplit"].get(gone), f"DeployedModel {gone} has traffic")

        def change() -> dict[str, Any]:
            kept = [deployed for deployed in endpoint["deployedModels"] if deployed["id"] != gone]
            endpoint["deployedModels"] = kept
            kind = "type.googleapis.com/google.cloud.aiplatform.v1.UndeployModelResponse"
            return {"response": {"@type": kind}}

        return self._begin(change)

    def _endpoint(self) -> dict[str, Any]:
        if self.endpoint is None:
            raise RefusedError(404, "The Endpoint does not exist.")
        return self.endpoint

    def _split(self, split: dict[str, int]) -> None:
        endpoint = self._endpoint()
        ids = {deployed["id"] for deployed in endpoint["deployedModels"]}
        unknown = ", ".join(sorted(set(split) - ids))
        _require(not unknown, f"The following DeployedModel ID(s) [{unknown}] do not exist.")
        _require(sum(split.values()) == 100, "traffic_split does not add up to 100")
        _require(all(share >= 0 for share in split.values()), "traffic_split is not valid")
        endpoint.update(trafficSplit=split, etag=str(int(endpoint["etag"]) + 1))

    def _begin(self, change: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        name = f"{ENDPOINT}/operations/{len(self._operations) + 1}"
        self._operations[name] = {"name": name, "done": False}
        self._changes[name] = change
        return self._operations[name]

    def merge_aliases(self, call: Call) -> Any:
        self._refuse(":mergeVersionAliases")
        request = _strictly(call.body, aiplatform_v1.MergeVersionAliasesRequest)
        version = self._version(call.match[1])
        for alias in request["versionAliases"]:
            _require(bool(_ALIAS.fullmatch(alias)), f"alias {alias} is not valid")
            for other in self.versions:
                other["versionAliases"] = [name for name in other["versionAliases"] if name != alias]
            version["versionAliases"].append(alias)
        return _answer(version, aiplatform_v1.Model)

    def list_evaluations(self, call: Call) -> Any:
        self._version(call.match[1])
        found = self.evaluations.get(call.match[1], [])
        return _answer({"modelEvaluations": found}, aiplatform_v1.ListModelEvaluationsResponse)

    def import_evaluation(self, call: Call) -> Any:
        self._refuse("/evaluations:import")
        self._version(call.match[1])
        request = _strictly(call.body, aiplatform_v1.ImportModelEvaluationRequest)
        evaluation = request["modelEvaluation"]
        _require(bool(evaluation.get("metrics")), "metrics is required")
        self._require_object(evaluation["metricsSchemaUri"])
        self.evaluations.setdefault(call.match[1], []).append(evaluation)
        return _answer(evaluation, aiplatform_v1.ModelEvaluation)

    def _refuse(self, end: str) -> None:
        if end in self.refusals:
            raise RefusedError(self.refusals[end], "Permission 'aiplatform.models' denied")

    def _version(self, number: str) -> dict[str, Any]:
        found = [version for version in self.versions if version["versionId"] == number]
        if not found:
            raise RefusedError(404, "The version does not exist.")
        return found[0]

    def _require_object(self, uri: str) -> None:
        name = uri.removeprefix(f"gs://{self.bucket.name}/")
        _require(self.bucket.blob(name).exists(), f"{uri} does not exist")


def _strictly(body: bytes, message: Any) -> dict[str, Any]:
    try:
        return dict(json_format.MessageToDict(json_format.Parse(body, message.pb()())))
    except json_format.ParseError as error:
        raise RefusedError(400, f"Invalid JSON payload received. {error}") from error


def _answer(content: dict[str, Any], message: Any) -> dict[str, Any]:
    json_format.ParseDict(content, message.pb()())
    return content


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise RefusedError(400, message)


@contextlib.contextmanager
def model_server(bucket: Any) -> Any:
    """Serve a registry without models and an empty endpoint; yield them and their address."""
    server = ModelServer(bucket)

    def refuse(status: int, message: str) -> str:
        return json.dumps({"error": {"code": status, "message": message}})

    with serving(server.routes(), refuse, server.calls) as address:
        yield server, address
