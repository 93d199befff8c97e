"""A stand-in for Vertex AI's Model Registry, which has no emulator.

Requests and answers are read strictly into the protos that google-cloud-aiplatform publishes, and requests
refused where Vertex AI is known to refuse them.
"""

import contextlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from google.cloud import aiplatform_v1
from google.cloud.aiplatform.constants.prediction import TF_CONTAINER_URIS
from google.protobuf import json_format

from tests.pipeline.serving import Call, RefusedError, Route, serving

PARENT = "projects/test-project/locations/europe-west1"
MODEL = f"{PARENT}/models/shop"
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
        refusals: status by the end of the path of requests to refuse.
        upload_error: message of the error that uploads end with; none if empty.
        calls: ``METHOD path`` of each request.
    """

    bucket: Any
    versions: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    upload_error: str = ""
    calls: list[str] = field(default_factory=list)
    _operations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def aliases(self) -> dict[str, str]:
        """Return the version of each alias."""
        return {alias: v["versionId"] for v in self.versions for alias in v.get("versionAliases", [])}

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
        return self._operations[call.match[1]]

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
    """Serve a registry without models; yield it and its address."""
    server = ModelServer(bucket)

    def refuse(status: int, message: str) -> str:
        return json.dumps({"error": {"code": status, "message": message}})

    with serving(server.routes(), refuse, server.calls) as address:
        yield server, address
