"""Vertex AI's Model Registry: the SavedModel of a version with its metrics, and the alias of the champion."""

import logging
from typing import Any

from components.answers import documented
from components.deliver.vertex_names import model_of
from components.deliver.vertex_rest import SERVER, InvalidError, VertexRest
from components.registry import Version

ALIAS = "champion"

# The newest of Google's prebuilt images; multi-regional copies of it begin with the name of a continent.
_IMAGE = "docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"

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
        self._rest = VertexRest("vertex_model", name, self._model.region)

    @documented(SERVER)
    def exists(self) -> bool:
        """Return whether the model exists.

        Raises:
            InputError: access is denied.
            WalsError: Vertex AI cannot be reached, or refused it.
        """
        return bool(self._rest.call("GET", self.name, missing={}))

    @documented(SERVER)
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

    @documented(SERVER)
    def move_alias(self, name: str) -> None:
        """Give the alias ``champion`` to a version that `upload` returned; the version that had it loses it.

        Raises:
            InputError: access is denied.
            WalsError: Vertex AI cannot be reached, or refused it.
        """
        self._rest.call("POST", f"{name}:mergeVersionAliases", {"versionAliases": [ALIAS]})

    def _upload(self, version: Version, folder: str, label: str) -> str:
        continent = self._model.region.partition("-")[0]
        image = f"{continent if continent in ('europe', 'asia') else 'us'}-{_IMAGE}"
        body = {
            **({"parentModel": self.name} if self.exists() else {"modelId": self._model.id}),
            "model": {
                "displayName": self._model.id,
                "versionDescription": f"{version.decision.reason} Model card: {folder}/model_card.json",
                "labels": {"application": "wals", "wals_version": label},
                "artifactUri": f"{folder}/saved_model",
                "containerSpec": {"imageUri": image},
            },
        }
        operation = self._rest.call("POST", f"{self._model.parent}/models:upload", body)
        response = self._rest.finish(operation, f"the SavedModel of {version.name}")
        return f"{self.name}@{response['modelVersionId']}"

    def _import_metrics(self, name: str, version: Version, folder: str) -> None:
        there = self._rest.call("GET", f"{name}/evaluations").get("modelEvaluations", ())
        if any(evaluation.get("displayName") == version.name for evaluation in there):
            return
        evaluation = {
            "displayName": version.name,
            "metricsSchemaUri": f"{folder}/metrics_schema.json",
            "metrics": dict(version.metrics),
        }
        try:
            self._rest.call("POST", f"{name}/evaluations:import", {"modelEvaluation": evaluation})
        except InvalidError as error:
            # The metrics are in the model card too; a delivery must not depend on how a console shows them.
            logger.warning("Vertex AI did not take the metrics: %s", error)

    def _versions(self, query: str) -> list[dict[str, Any]]:
        answer = self._rest.call("GET", f"{self.name}:listVersions", query={"filter": query}, missing={})
        return list(answer.get("models", ()))
