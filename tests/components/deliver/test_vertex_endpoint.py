"""Deployment to an endpoint of Vertex AI, from a registry in Cloud Storage."""

import pytest

from components.deliver.options import DeliverOptions
from components.deliver.serving import promote, rollback
from components.deliver.vertex_endpoint import split
from components.registry import open_registry
from tests.components.deliver.conftest import write_artifacts
from tests.components.deliver.model_server import ENDPOINT, MODEL, PARENT
from trainer.errors import InputError, WalsError

ADDRESS = "gs://bucket/models"
PLACES = {"registry": ADDRESS, "vertex_model": MODEL, "vertex_endpoint": ENDPOINT}


@pytest.fixture
def following(server, artifacts, tmp_path):
    """A model that was compared with the first, which serves with all traffic."""
    first = artifacts.deliver(**PLACES)["version"]
    return write_artifacts(tmp_path / "next", 1, champion=first)


def begun(server):
    """The requests so far that change the endpoint."""
    return [
        call.rpartition("/")[2] for call in server.calls if "endpoints" in call and not call.startswith("GET")
    ]


def test_the_first_version_gets_all_traffic_whatever_the_share(server, artifacts):
    options = {"vertex_machine_type": "e2-standard-4", "vertex_max_replicas": 3, "vertex_traffic": 10}
    metadata = artifacts.deliver(**PLACES, **options)
    assert metadata["vertex_endpoint"] == ENDPOINT
    assert server.traffic() == {"1": 100}
    (deployed,) = server.endpoint["deployedModels"]
    assert deployed["displayName"] == metadata["version"]
    assert deployed["dedicatedResources"] == {
        "machineSpec": {"machineType": "e2-standard-4"},
        "minReplicaCount": 1,
        "maxReplicaCount": 3,
    }


def test_the_next_version_replaces_it_and_the_old_one_is_undeployed(server, following):
    following.deliver(**PLACES)
    assert server.traffic() == {"2": 100}


def test_a_share_leaves_the_rest_to_the_others(server, following, tmp_path):
    second = following.deliver(**PLACES, vertex_traffic=40)["version"]
    assert server.traffic() == {"1": 60, "2": 40}
    write_artifacts(tmp_path / "third", 2, champion=second).deliver(**PLACES, vertex_traffic=50)
    assert server.traffic() == {"1": 30, "2": 20, "3": 50}


def test_a_repeated_delivery_changes_nothing(server, following):
    following.deliver(**PLACES, vertex_traffic=40)
    before = begun(server)
    following.deliver(**PLACES, vertex_traffic=40)
    assert begun(server) == before
    assert server.traffic() == {"1": 60, "2": 40}


def test_promotion_completes_a_canary_and_rollback_ends_it(server, following):
    first = open_registry(ADDRESS).serving().version
    second = following.deliver(**PLACES, vertex_traffic=10)["version"]
    options = DeliverOptions(**PLACES, vertex_traffic=10)
    promote(options, second)
    assert server.traffic() == {"2": 100}
    assert rollback(options).champion.version == first
    assert server.traffic() == {"1": 100}
    assert server.aliases()["champion"] == "1"


@pytest.mark.parametrize("end", [":deployModel", "PATCH", ":undeployModel"])
def test_an_interrupted_delivery_is_completed_by_its_repetition(server, following, end):
    first = open_registry(ADDRESS).serving().version
    server.refusals[end] = 500
    with pytest.raises(WalsError, match="Vertex AI answers 500"):
        following.deliver(**PLACES)
    assert sum(server.traffic().values()) == 100
    if end == ":deployModel":
        assert (open_registry(ADDRESS).serving().version, server.traffic()) == (first, {"1": 100})
    server.refusals.clear()
    following.deliver(**PLACES)
    assert server.traffic() == {"2": 100}
    assert len(server.versions) == 2


def test_a_deployment_that_a_killed_run_began_is_waited_for(server, following, monkeypatch):
    server.refusals[":deployModel"] = 500
    with pytest.raises(WalsError):
        following.deliver(**PLACES)
    server.refusals.clear()

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # It waits only for the deployment, since the upload is done.
        patch.setattr("components.deliver.vertex_rest.time.sleep", killed)
        with pytest.raises(KeyboardInterrupt):
            following.deliver(**PLACES)
    assert server.traffic() == {"1": 100}
    before = begun(server)
    following.deliver(**PLACES)
    assert server.traffic() == {"2": 100}
    assert begun(server)[len(before) :] == ["4711", "4711:undeployModel"]


def test_a_version_that_cannot_be_deployed_leaves_everything_as_it_was(server, following):
    first = open_registry(ADDRESS).serving().version
    server.deployment_error = "The quota of n1 CPUs is exceeded."
    with pytest.raises(WalsError, match=r"refused the deployment of .*models/shop@2: The quota"):
        following.deliver(**PLACES)
    assert open_registry(ADDRESS).serving().version == first
    assert (server.aliases()["champion"], server.traffic()) == ("1", {"1": 100})


def test_other_models_on_the_endpoint_are_not_undeployed(server, artifacts):
    other = {"id": "1", "model": f"{PARENT}/models/other", "modelVersionId": "1", "displayName": "other"}
    server.endpoint.update(deployedModels=[other], trafficSplit={"1": 100})
    artifacts.deliver(**PLACES)
    names = [deployed["displayName"] for deployed in server.endpoint["deployedModels"]]
    assert names == ["other", open_registry(ADDRESS).serving().version]
    assert "1" not in server.endpoint["trafficSplit"]


def test_an_endpoint_that_somebody_changes_meanwhile_is_not_overwritten(server, following):
    server.changes_when_read = True
    with pytest.raises(WalsError, match=r"answers 409 to .*: The etag does not match"):
        following.deliver(**PLACES)
    assert server.traffic() == {"1": 100, "2": 0}
    server.changes_when_read = False
    following.deliver(**PLACES)
    assert server.traffic() == {"2": 100}


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (None, "vertex_endpoint .*: does not exist; create it with `gcloud ai endpoints create`"),
        ({"network": "projects/1/global/networks/n"}, "is peered with a network, where traffic cannot"),
    ],
)
def test_an_endpoint_that_cannot_be_used_stops_the_delivery_before_anything_serves(
    server, artifacts, state, line
):
    server.endpoint = state and {**server.endpoint, **state}
    with pytest.raises(InputError, match=line) as caught:
        artifacts.deliver(**PLACES)
    assert "\n" not in str(caught.value)
    assert open_registry(ADDRESS).champion() is None


def test_a_rejected_model_never_reaches_the_endpoint(server, tmp_path):
    rejected = write_artifacts(tmp_path / "run", outcome="rejected")
    with pytest.raises(InputError, match="is not blessed"):
        rejected.deliver(**PLACES)
    assert server.calls == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"vertex_endpoint": "4711"}, "vertex_endpoint '4711': is not the name of an endpoint in Vertex AI"),
        ({"vertex_model": ""}, "requires vertex_model, whose versions are deployed; set vertex_model"),
        ({"vertex_endpoint": ENDPOINT.replace("west1", "west4")}, "is in another region than vertex_model"),
        ({"vertex_traffic": 0}, "vertex_traffic 0: is below 1"),
        ({"vertex_traffic": 101}, "vertex_traffic 101: is above 100"),
        ({"vertex_max_replicas": 0}, "vertex_max_replicas 0: is below 1"),
        ({"vertex_machine_type": "big"}, "vertex_machine_type 'big'"),
    ],
)
def test_options_that_cannot_be_used(options, line):
    with pytest.raises(InputError, match=line):
        DeliverOptions(**{**PLACES, **options})


@pytest.mark.parametrize(
    ("before", "share", "after"),
    [
        ({}, 30, {"n": 100}),
        ({"n": 100}, 30, {"n": 100}),
        ({"a": 100}, 100, {"n": 100}),
        ({"a": 100}, 1, {"n": 1, "a": 99}),
        ({"a": 50, "b": 50}, 1, {"n": 1, "a": 50, "b": 49}),
        ({"a": 33, "b": 33, "c": 34}, 50, {"n": 50, "a": 17, "b": 16, "c": 17}),
        ({"a": 1, "b": 99}, 90, {"n": 90, "b": 10}),
        ({"a": 0, "b": 100}, 90, {"n": 90, "b": 10}),
        # A deployment that already has a share.
        ({"n": 40, "a": 30, "b": 30}, 40, {"n": 40, "a": 30, "b": 30}),
        ({"n": 40, "a": 30, "b": 30}, 80, {"n": 80, "a": 10, "b": 10}),
    ],
)
def test_the_split_keeps_proportions_and_adds_up(before, share, after):
    assert split(before, "n", share) == after
    assert sum(after.values()) == 100
