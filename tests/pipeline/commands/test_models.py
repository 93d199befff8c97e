"""`wals models` on a registry on this machine."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from components.registry import open_registry
from tests.components.deliver.conftest import write_artifacts
from tests.pipeline.conftest import Wals


@pytest.fixture
def delivered(tmp_path: Path) -> Any:
    """A registry with three versions, of which the last serves: its address and their names, oldest first."""
    address = str(tmp_path / "registry")
    names: list[str] = []
    for seed in range(3):
        champion = names[-1] if names else None
        artifacts = write_artifacts(tmp_path / f"run-{seed}", seed, champion=champion)
        names.append(artifacts.deliver(registry=address)["version"])
    return SimpleNamespace(address=address, names=names)


def test_the_list_marks_the_champion_and_the_one_before(wals: Wals, delivered: Any) -> None:
    result = wals("models", "list", "--registry", delivered.address)
    assert result.exit_code == 0, result.stderr
    rows = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("│")}
    assert set(rows) == set(delivered.names)
    assert "since 20" in rows[delivered.names[2]]
    assert "before" in rows[delivered.names[1]]
    assert "0.2700" in rows[delivered.names[2]]
    listed = wals("models", "list", "--registry", delivered.address, "--json").json["versions"]
    assert {entry["version"]: entry["champion"] for entry in listed} == dict(
        zip(delivered.names, (False, False, True), strict=True)
    )


def test_show_says_what_serves_since_when_and_how_good_it_is(wals: Wals, delivered: Any) -> None:
    output = wals("models", "show", "--registry", delivered.address).stdout
    for text in (
        delivered.names[2],
        "since 20",
        "run-1",
        "It is better.",
        "ndcg_at_20",
        "0.2700",
        "1 iterations",
    ):
        assert text in output
    shown = wals("models", "show", delivered.names[0], "--registry", delivered.address, "--json").json
    assert (shown["champion"], shown["metrics"]) == (False, {"ndcg_at_20": 0.25})
    assert shown["parts"]["model"] > 0


def test_compare_shows_the_champion_beside_the_one_before(wals: Wals, delivered: Any) -> None:
    output = wals("models", "compare", "--registry", delivered.address).stdout
    assert delivered.names[0] not in output
    assert "0.2700" in output
    assert "0.2600" in output
    assert "The versions have the same parameters" in output
    compared = wals(
        "models", "compare", *delivered.names[:2], "--registry", delivered.address, "--json"
    ).json["versions"]
    assert [entry["version"] for entry in compared] == delivered.names[:2]


def test_back_to_the_one_before_and_to_any_other(wals: Wals, delivered: Any) -> None:
    result = wals("models", "rollback", "--registry", delivered.address)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"champion {delivered.names[1]} since 20")
    assert open_registry(delivered.address).serving().version == delivered.names[1]
    promoted = wals("models", "promote", delivered.names[2], "--registry", delivered.address, "--json").json
    assert (promoted["version"], promoted["previous"]) == (delivered.names[2], delivered.names[1])
    assert [promoted[place] for place in ("destination", "vertex_model", "vertex_endpoint")] == [""] * 3


def test_the_registry_of_an_environment(wals: Wals, delivered: Any, tmp_path: Path) -> None:
    config = tmp_path / "environment.yaml"
    config.write_text(f"platform: {{}}\nparameters:\n  registry: {delivered.address}\n  top_k: 5\n", "utf-8")
    assert delivered.names[2] in wals("models", "show", "--config", config).stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("show",), "registry '': is missing; give --registry, or a --config whose parameters have it"),
        (("show", "--registry", "ftp://host/x"), "registry 'ftp://host/x': is not a valid registry; "),
        (
            ("show", "--registry", "s3://me:secret@bucket/x"),
            "registry 's3://***@bucket/x': contains credentials",
        ),
        (("rollback", "--registry", "EMPTY"), "has no champion; choose one with `wals models promote`"),
        (
            ("promote", "../../etc", "--registry", "FULL"),
            "version '../../etc': is not the name of a version; ",
        ),
        (
            ("promote", "20260101T000000Z-00000000", "--registry", "FULL"),
            "version '20260101T000000Z-00000000': is not in ",
        ),
        (
            ("rollback", "--registry", "FULL", "--vertex-model", "shop"),
            "vertex_model 'shop': is not the name of a model in Vertex AI; ",
        ),
        (
            (
                "promote",
                "LAST",
                "--registry",
                "FULL",
                "--vertex-endpoint",
                "projects/p/locations/us-central1/endpoints/1",
            ),
            "endpoints/1': requires vertex_model, whose versions are deployed; set vertex_model",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    wals: Wals, delivered: Any, tmp_path: Path, arguments: tuple[str, ...], line: str
) -> None:
    places = {"EMPTY": str(tmp_path / "empty"), "FULL": delivered.address}
    result = wals("models", *(places.get(argument, argument) for argument in arguments))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert line in result.stderr
    assert open_registry(delivered.address).serving().version == delivered.names[2]


def test_a_champion_that_is_gone_is_told(wals: Wals, delivered: Any) -> None:
    (Path(delivered.address) / "versions" / delivered.names[2] / "_manifest.json").unlink()
    result = wals("models", "list", "--registry", delivered.address)
    assert result.exit_code == 0
    assert f"The champion, {delivered.names[2]}, is missing or damaged" in result.stderr
    assert wals("models", "show", "--registry", delivered.address).exit_code == 2
