"""The processes of a job, from the environment."""

import json

import pytest

from trainer.distributed.cluster import ALONE, INDEX, VARIABLES, Cluster, cluster_of_environment
from trainer.errors import InputError


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*VARIABLES, INDEX):
        monkeypatch.delenv(variable, raising=False)


def described(cluster: object, kind: str, index: object) -> str:
    task = {"type": kind, **({} if index is None else {"index": index})}
    return json.dumps({"cluster": cluster, "task": task, "environment": "cloud"})


VERTEX = {"workerpool0": ["a:2222"], "workerpool1": ["b:2222", "c:2222"]}
TENSORFLOW = {"worker": ["b:2222", "c:2222"], "chief": ["a:2222"], "evaluator": ["d:2222"], "ps": ["e:2222"]}
ALL = ("a:2222", "b:2222", "c:2222")


@pytest.mark.parametrize(
    ("variable", "cluster", "kind", "index", "expected"),
    [
        ("CLUSTER_SPEC", VERTEX, "workerpool0", 0, Cluster(ALL, 0)),
        ("CLUSTER_SPEC", VERTEX, "workerpool1", 1, Cluster(ALL, 2)),
        ("CLUSTER_SPEC", {"workerpool0": ["a:2222"]}, "workerpool0", 0, ALONE),
        ("TF_CONFIG", TENSORFLOW, "chief", 0, Cluster(ALL, 0)),
        ("TF_CONFIG", TENSORFLOW, "worker", 0, Cluster(ALL, 1)),
        ("TF_CONFIG", {"worker": ["a:1", "b:2"]}, "worker", "1", Cluster(("a:1", "b:2"), 1)),
        ("TF_CONFIG", {}, "worker", 0, ALONE),
    ],
)
def test_the_environment_describes_the_processes(
    variable: str,
    cluster: object,
    kind: str,
    index: object,
    expected: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(variable, described(cluster, kind, index))
    assert cluster_of_environment() == expected


def test_without_a_description_a_process_is_alone() -> None:
    assert cluster_of_environment() == ALONE
    assert ALONE.is_chief


def test_kubernetes_numbers_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", described({"worker": ["a:1", "b:1", "c:1"]}, "worker", None))
    monkeypatch.setenv(INDEX, "2")
    assert cluster_of_environment().rank == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "TF_CONFIG '{': does not describe a cluster"),
        ("[]", "TF_CONFIG '[]': does not describe a cluster"),
        (described({"worker": 3}, "worker", 0), "does not describe a cluster"),
        (described({"worker": ["a:1", "b:1"]}, "worker", "x"), "does not describe a cluster"),
        (
            described({"worker": ["a:1", "b"]}, "worker", 0),
            "TF_CONFIG 'b': is not an address; give host:port",
        ),
        (described({"worker": ["a:1", "b:99999"]}, "worker", 0), "TF_CONFIG 'b:99999': is not an address"),
        (
            described({"worker": ["a:1", "b:2"]}, "worker", 2),
            "TF_CONFIG task 'worker 2': is not in the cluster",
        ),
        (
            described({"worker": ["a:1", "b:2"]}, "chief", 0),
            "TF_CONFIG task 'chief 0': is not in the cluster",
        ),
    ],
)
def test_a_wrong_description_is_refused(text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError) as refused:
        cluster_of_environment()
    assert message in str(refused.value)
