"""Registries on a file system, in Cloud Storage and in S3, through the real clients."""

import multiprocessing
from datetime import UTC, datetime, timedelta

import pytest

from components.registry import open_registry
from components.registry.manifests import version_name
from tests.components.registry.conftest import make_parts, make_version
from trainer.errors import InputError, WalsError


def test_an_empty_registry(address):
    registry = open_registry(address)
    assert registry.champion() is None
    assert registry.versions() == []
    assert registry.retain(1) == []
    with pytest.raises(InputError, match="has no champion"):
        registry.rollback()


def test_versions_come_back_as_they_were_added(filled):
    registry, names = filled
    versions = registry.versions()
    assert [version.name for version in versions] == names[::-1]
    assert versions[0].metrics == {"ndcg_at_20": 0.27}
    assert versions[0].bytes == 3 * 256 + len('{"number": 2}') + len("<p>2</p>")
    assert registry.version(names[1]) == versions[1]
    with registry.local(names[1], "model") as folder:
        found = {
            str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()
        }
    assert found == {
        "_manifest.json": b'{"number": 1}',
        "factors.npy": bytes(range(256)) * 2,
        "variables/data-00000-of-00001": b"",
    }
    with registry.local(names[1], "report.html") as file:
        assert file.read_text("utf-8") == "<p>1</p>"


def test_adding_a_version_again_changes_nothing(filled, tmp_path):
    registry, _names = filled
    before = registry.versions()
    registry.add(make_version(1, run="another"), make_parts(tmp_path / "again", 5))
    assert registry.versions() == before
    with pytest.raises(InputError, match="exists with another model"):
        registry.add(make_version(1, model_checksum="1" * 64), {})


def test_promotion_and_its_history(filled):
    registry, (first, second, third) = filled
    champion = registry.promote(first, None)
    assert (champion.version, champion.previous) == (first, None)
    champion = registry.promote(second, champion)
    champion = registry.promote(third, registry.champion())
    assert champion == registry.champion()
    assert (champion.version, champion.previous) == (third, second)
    assert [entry.version for entry in champion.history] == [third, second, first]
    assert registry.promote(third, champion) == champion


def test_rolling_back_twice_does_not_return_to_the_version_that_was_left(filled):
    registry, (first, second, third) = filled
    champion = None
    for name in (first, second, third):
        champion = registry.promote(name, champion)
    assert registry.rollback().version == second
    champion = registry.rollback()
    assert champion.version == first
    assert [entry.version for entry in champion.history] == [first, second, third, second, first]
    with pytest.raises(InputError, match="has no version before the champion"):
        registry.rollback()


def test_a_version_that_was_left_stays_left_after_another_promotion(filled):
    registry, (first, second, third) = filled
    registry.promote(second, registry.promote(first, None))
    # Back to the first, forth to the third, and back again.
    assert registry.rollback().version == first
    assert registry.promote(third, registry.champion()).previous == first
    champion = registry.rollback()
    assert (champion.version, champion.previous) == (first, None)


def test_the_claim_of_a_killed_delivery_can_be_taken_over(filled):
    registry, (first, second, _) = filled
    with registry.claimed(first):
        with pytest.raises(WalsError, match=r"is delivering .* --force"), registry.claimed(second):
            pass
        with registry.claimed(second, force=True):
            assert registry.champion() is None


def test_a_champion_that_changed_meanwhile_is_not_replaced(filled):
    registry, (first, second, third) = filled
    with pytest.raises(WalsError, match="another run has changed the champion meanwhile") as caught:
        registry.promote(first, registry.promote(second, None).model_copy(update={"token": "1"}))
    assert (caught.value.exit_code, f"now {second}" in str(caught.value)) == (1, True)
    with pytest.raises(WalsError, match="another run has changed"):
        registry.promote(third, None)
    assert registry.champion().version == second


def race(address, names, barrier, outcomes):
    """Promote one version after another, each at the same time as the other process does."""
    registry = open_registry(address)
    for name in names:
        champion = registry.champion()
        barrier.wait(60)
        try:
            registry.promote(name, champion)
            outcomes.send((name, ""))
        except WalsError as error:
            outcomes.send(("", str(error)))
        barrier.wait(60)


def test_of_two_runs_that_finish_at_once_one_wins_and_the_other_is_told(address, tmp_path):
    registry = open_registry(address)
    rounds = 4
    names = [make_version(number).name for number in range(2 * rounds)]
    for number in range(2 * rounds):
        registry.add(make_version(number), make_parts(tmp_path, number))
    fork = multiprocessing.get_context("fork")
    barrier = fork.Barrier(2)
    pipes = [fork.Pipe(duplex=False) for _ in range(2)]
    processes = [
        fork.Process(target=race, args=(address, names[side::2], barrier, pipes[side][1]))
        for side in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    winners = []
    for _ in range(rounds):
        outcomes = [outcome.recv() for outcome, _ in pipes]
        (winner,) = [name for name, _ in outcomes if name]
        (error,) = [error for _, error in outcomes if error]
        assert f"another run has changed the champion meanwhile (now {winner}, since" in error
        winners.append(winner)
    assert [entry.version for entry in registry.serving().history] == winners[::-1]


def test_one_version_is_delivered_at_a_time(filled):
    registry, (first, second, _) = filled
    with registry.claimed(first):
        with (
            pytest.raises(WalsError, match=f"another run is delivering version {first}, since 20"),
            registry.claimed(second),
        ):
            pass
        with registry.claimed(first):
            pass
    with registry.claimed(second):
        pass


def test_retention_keeps_the_newest_the_champion_and_the_one_before(address, tmp_path):
    registry = open_registry(address)
    names = []
    for number in range(6):
        registry.add(make_version(number), make_parts(tmp_path, number))
        names.append(make_version(number).name)
    registry.promote(names[1], registry.promote(names[0], None))
    assert registry.retain(2) == [names[3], names[2]]
    assert [version.name for version in registry.versions()] == [names[n] for n in (5, 4, 1, 0)]
    with registry.local(names[0], "report.html") as file:
        assert file.exists()
    with pytest.raises(InputError, match="is not in"):
        registry.version(names[2])


def test_unfinished_versions_are_ignored_and_deleted_after_a_week(address, tmp_path, monkeypatch):
    registry = open_registry(address)
    now = datetime.now(UTC)
    for age, name in enumerate(("a", "b")):
        unfinished = make_version(age, name=version_name(now - timedelta(days=8 * age), 64 * name))
        with monkeypatch.context() as patch:
            patch.setattr(type(registry._store), "write", crash)
            with pytest.raises(KeyboardInterrupt):
                registry.add(unfinished, make_parts(tmp_path, age))
    assert registry.versions() == []
    with pytest.raises(InputError, match="is not in"):
        registry.promote(version_name(now, 64 * "a"), None)
    assert registry.name_for(64 * "a") == version_name(now, 64 * "a")
    assert registry.retain(1) == [version_name(now - timedelta(days=8), 64 * "b")]
    registry.add(make_version(0, name=version_name(now, 64 * "a")), make_parts(tmp_path, 7))
    assert [version.name for version in registry.versions()] == [version_name(now, 64 * "a")]


def crash(*_):
    raise KeyboardInterrupt


# A registry on a file system is not copied.
@pytest.mark.parametrize("address", ["gs", "s3"], indirect=True)
def test_a_copy_is_checked_against_the_manifest(filled):
    registry, names = filled
    source = registry._store
    source.remove(f"versions/{names[0]}/report.html")
    with pytest.raises(InputError, match="lacks a file"), registry.local(names[0], "report.html"):
        pass
    source.write(f"versions/{names[0]}/report.html", b"<p>changed</p>", None)
    with (
        pytest.raises(InputError, match="does not match the checksum"),
        registry.local(names[0], "report.html"),
    ):
        pass
