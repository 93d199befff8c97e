"""Vertex AI's Model Registry: the SavedModel of a version with its metrics, and the alias of the champion.

It speaks REST: the client library is ten times as large as everything else that this step needs.
"""

import contextlib
import logging
import os
import time
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from components.deliver.vertex_names import model_of
from components.google_rest import google_session
from components.registry import Version
from trainer.errors import InputError, WalsError, translated

ALIAS = "champion"

# As gcloud's setting api_endpoint_overrides/aiplatform.
_OTHER_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM"
# The newest of Google's prebuilt images; multi-regional copies of it begin with the name of a continent.
_IMAGE = "docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
_TIMEOUT = (10, 60)
_REPEATED = Retry(total=4, backoff_factor=0.5, status_forcelist=(429, 502, 503), raise_on_status=False)
_UPLOAD_SECONDS = 1800
_POLL_SECONDS = 5.0

logger = logging.getLogger(__name__)


class VertexRegistry:
    """A model in Vertex AI's Model Registry, whose versions are those of a registry.

    Attributes:
        name: its resource name.
    """

    def __init__(self, name: str) -> None:
        """Connect with the application default credentials.

        Args:
            name: ``projects/PROJECT/locations/REGION/models/ID``; the first upload creates it.

        Raises:
            WalsError: there are no credentials.
        """
        self._model = model_of(name)
        self.name = name
        endpoint = (
            os.environ.get(_OTHER_ENDPOINT) or f"https://{self._model.region}-aiplatform.googleapis.com"
        )
        self._endpoint = f"{endpoint.rstrip('/')}/v1"
        with self._errors():
            self._session = google_session(endpoint)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_REPEATED))

    def upload(self, version: Version, folder: str) -> str:
        """Upload the SavedModel of a version with its metrics, unless it is there already.

        Args:
            version: the version; it has a SavedModel.
            folder: address of the version's folder, ``gs://…``.

        Returns:
            The resource name of the version, ``projects/…/models/ID@NUMBER``.

        Raises:
            InputError: access is denied.
            WalsError: Vertex AI cannot be reached, or refused the model.
        """
        label = version.name.lower()
        there = self._versions(f'labels.wals_version="{label}"')
        if there:
            name = f"{self.name}@{there[0]['versionId']}"
        else:
            name = self._upload(version, folder, label)
            logger.info("uploaded %s", name)
        self._import_metrics(name, version, folder)
        return name

    def move_alias(self, name: str) -> None:
        """Give the alias ``champion`` to a version that `upload` returned; the version that had it loses it.

        Raises:
            InputError: access is denied.
            WalsError: Vertex AI cannot be reached, or refused it.
        """
        self._call("POST", f"{name}:mergeVersionAliases", {"versionAliases": [ALIAS]})

    def _upload(self, version: Version, folder: str, label: str) -> str:
        continent = self._model.region.partition("-")[0]
        image = f"{continent if continent in ('europe', 'asia') else 'us'}-{_IMAGE}"
        exists = self._call("GET", self.name, missing={})
        body = {
            **({"parentModel": self.name} if exists else {"modelId": self._model.id}),
            "model": {
                "displayName": self._model.id,
                "versionDescription": f"{version.decision.reason} Model card: {folder}/model_card.json",
                "labels": {"application": "wals", "wals_version": label},
                "artifactUri": f"{folder}/saved_model",
                "containerSpec": {"imageUri": image},
            },
        }
        operation = self._call("POST", f"{self._model.parent}/models:upload", body)
        deadline = time.monotonic() + _UPLOAD_SECONDS
        while not operation.get("done"):
            if time.monotonic() > deadline:
                raise WalsError(f"Vertex AI did not finish the upload of {version.name} to {self.name}")
            time.sleep(_POLL_SECONDS)
            operation = self._call("GET", operation["name"])
        if "error" in operation:
            raise WalsError(f"Vertex AI refused the SavedModel: {operation['error'].get('message')}")
        return f"{self.name}@{operation['response']['modelVersionId']}"

    def _import_metrics(self, name: str, version: Version, folder: str) -> None:
        there = self._call("GET", f"{name}/evaluations").get("modelEvaluations", ())
        if any(evaluation.get("displayName") == version.name for evaluation in there):
            return
        evaluation = {
            "displayName": version.name,
            "metricsSchemaUri": f"{folder}/metrics_schema.json",
            "metrics": dict(version.metrics),
        }
        try:
            self._call("POST", f"{name}/evaluations:import", {"modelEvaluation": evaluation})
        except _InvalidError as error:
            # The metrics are in the model card too; a delivery must not depend on how a console shows them.
            logger.warning("Vertex AI did not take the metrics: %s", error)

    def _versions(self, query: str) -> list[dict[str, Any]]:
        answer = self._call("GET", f"{self.name}:listVersions", query={"filter": query}, missing={})
        return list(answer.get("models", ()))

    def _call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: dict[str, str] | None = None,
        missing: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the answer; ``missing``, if given, stands for one that is not found."""
        with self._errors():
            answer = self._session.request(
                method, f"{self._endpoint}/{path}", json=body, params=query, timeout=_TIMEOUT
            )
        if answer.status_code == requests.codes.not_found and missing is not None:
            return missing
        if answer.status_code in (requests.codes.forbidden, requests.codes.unauthorized):
            raise InputError("vertex_model", self.name, "denies you access", "ask for roles/aiplatform.user")
        if not answer.ok:
            kind = _InvalidError if answer.status_code == requests.codes.bad_request else WalsError
            raise kind(f"Vertex AI answers {answer.status_code} to {path}: {_message(answer)}")
        content: dict[str, Any] = answer.json()
        return content

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return translated(
            (
                (requests.RequestException, GoogleAuthError),
                lambda error: WalsError(f"Vertex AI cannot be used ({type(error).__name__}: {error})"),
            )
        )


class _InvalidError(WalsError):
    """Vertex AI found a request invalid."""


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason
