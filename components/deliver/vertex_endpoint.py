"""An endpoint of Vertex AI: which versions of a model are deployed there, and how much traffic each gets."""

import logging
from collections.abc import Mapping
from typing import Any

from components.answers import documented
from components.deliver.vertex_names import endpoint_of, model_of
from components.deliver.vertex_rest import SERVER, VertexRest
from trainer.errors import InputError, WalsError

_ALL = 100
_OPERATION = "an operation on the endpoint"

logger = logging.getLogger(__name__)


class VertexEndpoint:
    """An endpoint that serves versions of one model.

    Attributes:
        name: its resource name.
    """

    def __init__(self, name: str, model: str) -> None:
        """Connect with the application default credentials.

        Args:
            name: ``projects/PROJECT/locations/REGION/endpoints/ID``; it exists.
            model: name of the model in the Model Registry.

        Raises:
            WalsError: there are no credentials.
        """
        self.name = name
        # Vertex AI answers with the project's number where its id was given.
        self._model = model_of(model).name.partition("/locations/")[2]
        self._rest = VertexRest("vertex_endpoint", name, endpoint_of(name).region)

    @documented(SERVER)
    def check(self) -> None:
        """Check that versions can be deployed to the endpoint.

        Raises:
            InputError: it does not exist, access is denied, or its traffic cannot be split.
            WalsError: Vertex AI cannot be reached, or refused it.
        """
        self._read()

    @documented(SERVER)
    def deploy(self, version: str, title: str, machine_type: str, max_replicas: int) -> None:
        """Deploy a version, unless it is deployed; it gets no traffic yet.

        What an earlier attempt has begun is waited for.

        Args:
            version: name of the version in the Model Registry, ``projects/…/models/ID@NUMBER``.
            title: display name of the deployment.
            machine_type: machine type of Compute Engine.
            max_replicas: machines at most; there is always one.

        Raises:
            InputError: the endpoint does not exist, access is denied, or its traffic cannot be split.
            WalsError: Vertex AI cannot be reached, or refused the deployment.
        """
        pending = self._rest.call("GET", f"{self.name}/operations", query={"filter": "done=false"})
        for operation in pending.get("operations", ()):
            # Whether it succeeded shows in what is deployed.
            self._rest.wait(operation, _OPERATION)
        if self._deployed(self._read(), version):
            return
        machines = {
            "machineSpec": {"machineType": machine_type},
            "minReplicaCount": 1,
            "maxReplicaCount": max_replicas,
        }
        deployment = {"model": version, "displayName": title, "dedicatedResources": machines}
        operation = self._rest.call("POST", f"{self.name}:deployModel", {"deployedModel": deployment})
        self._rest.finish(operation, f"the deployment of {version}")
        logger.info("deployed %s to %s", version, self.name)

    @documented(SERVER)
    def route(self, version: str, share: int) -> None:
        """Give a deployed version a share of the traffic, and undeploy the model's versions that have none.

        Args:
            version: name of the version in the Model Registry, ``projects/…/models/ID@NUMBER``.
            share: percent of the traffic; see `split`.

        Raises:
            InputError: the endpoint does not exist, or access is denied.
            WalsError: Vertex AI cannot be reached or refused it, or somebody has changed the endpoint
                meanwhile.
        """
        endpoint = self._read()
        deployed = self._deployed(endpoint, version)
        if not deployed:
            raise WalsError(f"{version} is no longer deployed to {self.name}; deliver it again")
        new = deployed[0]
        before = endpoint.get("trafficSplit", {})
        traffic = split(before, new, share)
        if traffic != before:
            body = {"trafficSplit": traffic, "etag": endpoint.get("etag", "")}
            self._rest.call("PATCH", self.name, body, query={"updateMask": "trafficSplit"})
            logger.info("%s gets %d %% of the traffic of %s", version, traffic[new], self.name)
        for unused in self._deployed(endpoint):
            if unused not in traffic:
                operation = self._rest.call("POST", f"{self.name}:undeployModel", {"deployedModelId": unused})
                self._rest.finish(operation, f"to undeploy {unused}")
                logger.info("undeployed %s, which had no traffic", unused)

    def _read(self) -> dict[str, Any]:
        endpoint = self._rest.call("GET", self.name, missing={})
        if not endpoint:
            remedy = "create it with `gcloud ai endpoints create`"
            raise InputError("vertex_endpoint", self.name, "does not exist", remedy)
        if endpoint.get("network"):
            raise InputError(
                "vertex_endpoint",
                self.name,
                "is peered with a network, where traffic cannot be split",
                "give a public endpoint, or one with Private Service Connect",
            )
        return endpoint

    def _deployed(self, endpoint: Mapping[str, Any], version: str = "") -> list[str]:
        """Return the ids of the deployments of a version, or of all versions of the model."""
        return [
            deployed["id"]
            for deployed in endpoint.get("deployedModels", ())
            if deployed.get("model", "").partition("/locations/")[2].partition("@")[0] == self._model
            and version.partition("@")[2] in ("", deployed.get("modelVersionId"))
        ]


def split(before: Mapping[str, int], new: str, share: int) -> dict[str, int]:
    """Return the traffic by deployment after one of them gets a share.

    The others keep their proportions, rounded so that all add up to 100; those left without any are omitted.

    Args:
        before: percent of the traffic by id.
        new: id of the deployment that gets the share.
        share: its percent, 1 to 100; it gets all if no other has any.
    """
    others = {name: percent for name, percent in before.items() if name != new and percent}
    if not others:
        return {new: _ALL}
    rest, total = _ALL - share, sum(others.values())
    shares = {name: rest * percent // total for name, percent in others.items()}
    # Largest remainders first; of equal ones, the larger share's.
    by_remainder = sorted(others, key=lambda name: (-(rest * others[name] % total), -others[name], name))
    for name in by_remainder[: rest - sum(shares.values())]:
        shares[name] += 1
    return {new: share, **{name: percent for name, percent in shares.items() if percent}}
