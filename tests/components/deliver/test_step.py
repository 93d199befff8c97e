"""Delivery into a registry: what is in a version, and what an interruption leaves."""

import itertools
import json
import os
import shutil
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.artifacts.delivery import SCHEMA, Delivery
from components.artifacts.model_card import INTENDED_USE, LIMITS
from components.registry import open_registry
from components.registry.manifests import CLAIM_SCHEMA, Claim, digest_of, version_name
from tests.components.deliver.conftest import write_artifacts
from trainer.errors import InputError, WalsError
from trainer.files import encode_manifest, read_manifest
from trainer.model import Model


def test_the_first_delivery(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    metadata = artifacts.deliver(registry=address)
    registry = open_registry(address)
    (version,) = registry.versions()
    assert registry.champion().version == version.name == metadata["version"]
    assert set(version.parts) == {
        *("model", "saved_model", "recommendations", "similar_items", "embeddings", "evaluation"),
        *("profile", "report.html", "model_card.json", "metrics_schema.json"),
    }
    assert (version.run, version.metrics, version.refit_iters) == ("run-1", {"ndcg_at_20": 0.25}, 1)
    assert version.parameters["latent_factors"] == 2
    with registry.local(version.name, "model") as folder:
        assert len(Model.load(folder).users) == 4
    assert read_manifest(tmp_path / "run" / "delivery", SCHEMA, Delivery) == Delivery(
        version=version.name,
        registry=address,
        champion_before="",
        destination="",
        rows={},
        vertex_model="",
        vertex_endpoint="",
        deleted_versions=(),
    )


def test_the_card_says_what_was_judged(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    first = artifacts.deliver(registry=address)["version"]
    unchanged = write_artifacts(tmp_path / "unchanged", 1, champion=first, refit=False)
    second = unchanged.deliver(registry=address)["version"]
    oldest, newest = card_of(address, first), card_of(address, second)
    assert oldest["evaluation"]["metrics"]["model"]["ndcg_at_20"] == {"value": 0.25, "low": 0.2, "high": 0.3}
    assert oldest["training_data"] == {"users": 4, "items": 2, "interactions": 3}
    assert "1 more iterations" in oldest["refit"]
    assert "the judged model itself" in newest["refit"]
    for card in (newest, oldest):
        assert (card["intended_use"], card["limits"]) == (list(INTENDED_USE), list(LIMITS))


def card_of(address, name):
    with open_registry(address).local(name, "model_card.json") as file:
        return json.loads(file.read_text("utf-8"))


def test_the_next_delivery_and_its_repetition(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    first = artifacts.deliver(registry=address)["version"]
    following = write_artifacts(tmp_path / "next", 1, champion=first)
    metadata = following.deliver(registry=address)
    assert metadata["champion_before"] == first
    before = contents(tmp_path / "registry")
    assert following.deliver(registry=address) == metadata
    assert contents(tmp_path / "registry") == before


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_artifacts_in_a_mounted_bucket_are_read_once(mounted_bucket, tmp_path):
    artifacts = write_artifacts(mounted_bucket.folder / "run")
    mounted_bucket.operations()
    artifacts.deliver(registry=str(tmp_path / "registry"))
    operations = mounted_bucket.operations()
    opened = Counter(path for name, path, *_ in operations if name == "open")
    large = {path: count for path, count in opened.items() if path.endswith((".npy", ".parquet", ".pb"))}
    assert len(large) == 4 + 2 + 3 + 1
    assert set(large.values()) == {1}
    assert "refused" not in {name for name, *_ in operations}


def test_without_a_place_nothing_is_delivered(artifacts, tmp_path):
    metadata = artifacts.deliver()
    delivered = read_manifest(tmp_path / "run" / "delivery", SCHEMA, Delivery)
    assert (delivered.registry, delivered.destination, delivered.vertex_model) == ("", "", "")
    assert metadata["version"] == delivered.version


def test_a_saved_model_that_was_not_asked_for_is_not_in_the_version(tmp_path):
    address = str(tmp_path / "registry")
    write_artifacts(tmp_path / "run", with_saved_model=False).deliver(registry=address)
    assert "saved_model" not in open_registry(address).versions()[0].parts


def test_a_rejected_model_is_not_delivered(tmp_path):
    rejected = write_artifacts(tmp_path / "run", outcome="rejected")
    with pytest.raises(InputError, match="evaluation 'rejected': is not blessed"):
        rejected.deliver(registry=str(tmp_path / "registry"))
    assert not (tmp_path / "registry").exists()


def test_an_unfinished_artifact_is_not_delivered(artifacts, tmp_path):
    (artifacts.embeddings / "_manifest.json").unlink()
    with pytest.raises(InputError, match=r"embeddings .*: has no _manifest.json"):
        artifacts.deliver(registry=str(tmp_path / "registry"))


def test_a_champion_that_the_model_was_not_compared_with_stays(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    first = artifacts.deliver(registry=address)["version"]
    second = write_artifacts(tmp_path / "second", 1, champion=first)
    third = write_artifacts(tmp_path / "third", 2, champion=first)
    second.deliver(registry=address)
    with pytest.raises(WalsError, match=f"compared with {first}; run the pipeline again") as caught:
        third.deliver(registry=address)
    assert caught.value.exit_code == 1
    assert len(open_registry(address).versions()) == 2
    assert not (tmp_path / "third" / "delivery" / "_manifest.json").exists()


def test_one_delivery_at_a_time(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    other = open_registry(address).name_for("f" * 64)
    claim = tmp_path / "registry" / "delivering.json"
    claim.parent.mkdir()

    def claimed(hours):
        since = datetime.now(UTC) - timedelta(hours=hours)
        content = Claim(version=other, since=since.isoformat()).model_dump()
        claim.write_bytes(encode_manifest(CLAIM_SCHEMA, content))

    claimed(5)
    with pytest.raises(WalsError, match=f"another run is delivering version {other}"):
        artifacts.deliver(registry=address)
    assert open_registry(address).champion() is None
    claimed(7)
    artifacts.deliver(registry=address)
    assert not claim.exists()


def test_what_a_killed_delivery_has_claimed_its_repetition_continues(artifacts, tmp_path):
    address = str(tmp_path / "registry")
    killed_at(0, str(tmp_path / "registry" / "versions"), lambda: artifacts.deliver(registry=address))
    claim = tmp_path / "registry" / "delivering.json"
    claimed = json.loads(claim.read_text("utf-8"))["version"]
    yesterday = claimed.replace(claimed[:8], "20260101")
    claim.write_text(claim.read_text("utf-8").replace(claimed, yesterday), "utf-8")
    assert artifacts.deliver(registry=address)["version"] == yesterday
    assert not claim.exists()


READING = ("os.listdir", "os.scandir")


def killed_at(point, place, action):
    """Run an action in a child process that kills itself before its nth change under a folder.

    Returns:
        Whether it was killed; it ended by itself if it has fewer operations.
    """
    child = os.fork()
    if not child:
        try:
            left = [point]

            def watch(event, arguments):
                changes = arguments[2] & (os.O_WRONLY | os.O_RDWR) if event == "open" else event[:3] == "os."
                if not changes or event in READING:
                    return
                folder = ""
                if event in ("os.remove", "os.rmdir") and arguments[1] >= 0:
                    # What is below a folder that is removed is named relative to it.
                    folder = str(Path(f"/proc/self/fd/{arguments[1]}").readlink())
                if place not in f"{folder} {arguments[0]}":
                    return
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(watch)
            action()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
    return status != 0


@pytest.mark.attack
def test_a_kill_at_any_point_leaves_a_whole_champion_and_can_be_repeated(tmp_path, monkeypatch):
    # A killed process loses nothing that it wrote, unlike a machine without power.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    # Deliveries in the same second have no order.
    minutes = itertools.count()
    monkeypatch.setattr(
        "components.registry.registry.version_name",
        lambda created, digest: version_name(created + timedelta(minutes=next(minutes)), digest),
    )
    prepared = tmp_path / "prepared"
    oldest = write_artifacts(tmp_path / "oldest", 2, with_saved_model=False).deliver(registry=str(prepared))
    before = write_artifacts(tmp_path / "before", 0, champion=oldest["version"], with_saved_model=False)
    before = before.deliver(registry=str(prepared))["version"]
    following = write_artifacts(tmp_path / "next", 1, champion=before, with_saved_model=False)
    address = str(tmp_path / "registry")
    served = set()
    for point in range(1000):
        shutil.rmtree(address, ignore_errors=True)
        shutil.copytree(prepared, address)
        killed = killed_at(point, address, lambda: following.deliver(registry=address, keep_versions=1))
        registry = open_registry(address)
        # The name has the time of the attempt.
        served.add(digest_of(registry.serving().version))
        assert registry.serving().version in {version.name for version in registry.versions()}
        for version in registry.versions():
            with registry.local(version.name, "model") as folder:
                Model.load(folder)
        version = following.deliver(registry=address, keep_versions=1)["version"]
        assert [found.name for found in registry.versions()] == [version, before]
        assert (registry.serving().version, registry.serving().previous) == (version, before)
        if not killed:
            break
    assert point > 30
    assert served == {digest_of(before), digest_of(version)}
