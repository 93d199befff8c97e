"""The Terraform files, read by a parser and, if it is installed, by Terraform."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import hcl2
import pytest

from components.extract.columns import find_columns
from pipeline.platforms.environments import Vertex

FOLDER = Path(__file__).parents[2] / "deploy" / "terraform"
requires_terraform = pytest.mark.skipif(not shutil.which("terraform"), reason="Terraform is not installed")


def unquoted(value: Any) -> Any:
    """Return a parsed value without the quotes and blocks that the parser keeps."""
    if isinstance(value, dict):
        return {unquoted(key): unquoted(item) for key, item in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.fixture(scope="module")
def parsed() -> dict[str, list[Any]]:
    """The blocks of all files by kind."""
    blocks: dict[str, list[Any]] = {}
    for file in sorted(FOLDER.glob("*.tf")):
        for kind, values in unquoted(hcl2.loads(file.read_text("utf-8"))).items():
            blocks.setdefault(kind, []).extend(values)
    return blocks


@pytest.fixture(scope="module")
def text() -> str:
    return "\n".join(file.read_text("utf-8") for file in sorted(FOLDER.glob("*.tf")))


def named(blocks: list[Any]) -> dict[str, Any]:
    return {name: body for block in blocks for name, body in block.items()}


def test_every_variable_is_described_typed_and_used(parsed: dict[str, list[Any]], text: str) -> None:
    variables = named(parsed["variable"])
    assert {"project", "region", "composer", "budget"} <= set(variables)
    for name, body in variables.items():
        assert body["description"], name
        assert body["type"], name
        assert re.search(rf"\bvar\.{name}\b", text), f"{name} is not used"
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(variables)


def test_no_project_is_named(text: str) -> None:
    assert set(re.findall(r"\bproject\s*=\s*(.+)", text)) == {"var.project"}


def test_every_reference_is_to_an_existing_resource(parsed: dict[str, list[Any]], text: str) -> None:
    resources = {
        f"{kind}.{name}" for block in parsed["resource"] for kind, body in block.items() for name in body
    }
    assert set(re.findall(r"\b(google_\w+\.\w+)", text)) - {"google_project.this"} <= resources


def granted(parsed: dict[str, list[Any]]) -> set[tuple[str, str]]:
    """Return who is granted which role."""
    lists = {name: body for block in parsed["locals"] for name, body in block.items()}
    grants = set()
    for block in parsed["resource"]:
        for kind, bodies in block.items():
            if not kind.endswith("_iam_member"):
                continue
            for name, body in bodies.items():
                expressions = f"{body['member']} {body.get('for_each', '')}"
                people = {
                    who
                    for who, words in {
                        "steps": r"local\.steps\b",
                        "operators": r"\bsubmitters\b|var\.operators",
                        "Composer": r"\bsubmitters\b|service_account\.composer",
                    }.items()
                    if re.search(words, expressions)
                }
                assert people, f"{kind}.{name} is for none of the members in this test"
                roles = lists["steps_roles"] if body["role"] == "${each.value}" else [body["role"]]
                grants |= {(who, role) for who in people for role in roles}
    return grants


def test_the_table_of_roles_lists_exactly_the_granted_ones(
    parsed: dict[str, list[Any]],
) -> None:
    table = (FOLDER / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| `(roles/[\w.]+)` \| .+ \| .+ \|$", table, re.MULTILINE)
    listed = {(who, role) for whos, role in rows for who in whos.split(", ")}
    assert listed == granted(parsed)
    assert not {"roles/owner", "roles/editor", "roles/viewer"} & {role for _, role in listed}


def test_the_output_is_the_platform_of_an_environment(parsed: dict[str, list[Any]]) -> None:
    (platform,) = [body for name, body in named(parsed["output"]).items() if name == "platform"]
    assert set(platform["value"]) <= set(Vertex.model_fields)
    required = {name for name, field in Vertex.model_fields.items() if field.is_required()}
    assert required <= set(platform["value"]), json.dumps(platform)


def test_the_bucket_is_private_and_deletes_old_runs(parsed: dict[str, list[Any]]) -> None:
    (bucket,) = [
        block["google_storage_bucket"]["pipeline"]
        for block in parsed["resource"]
        if "google_storage_bucket" in block
    ]
    assert bucket["public_access_prevention"] == "enforced"
    actions = [rule["action"][0]["type"] for rule in bucket["lifecycle_rule"]]
    assert actions == ["Delete", "AbortIncompleteMultipartUpload"]


def test_the_default_source_has_columns_that_the_extraction_detects(text: str) -> None:
    schema = dict(re.findall(r'{ name = "(\w+)", type = "(\w+)"', text))
    columns = find_columns(schema)
    assert [columns.user, columns.item, columns.rating] == list(schema)


def terraform(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Terraform in a folder, without waiting long for an unreachable registry."""
    return subprocess.run(
        ["terraform", f"-chdir={folder}", *arguments, "-no-color"],
        env={**os.environ, "TF_REGISTRY_CLIENT_TIMEOUT": "10", "TF_REGISTRY_DISCOVERY_RETRY": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


@requires_terraform
def test_the_files_are_formatted() -> None:
    result = terraform(FOLDER, "fmt", "-check", "-diff", "-recursive")
    assert result.returncode == 0, result.stdout + result.stderr


@requires_terraform
def test_terraform_validates_the_files_with_their_provider(tmp_path: Path) -> None:
    for file in FOLDER.glob("*.tf"):
        shutil.copy(file, tmp_path)
    initialised = terraform(tmp_path, "init", "-backend=false", "-input=false")
    message = " ".join(initialised.stderr.split())
    if "could not connect to registry.terraform.io" in message:
        pytest.skip(message[message.index("Could not retrieve") :])
    assert initialised.returncode == 0, message
    result = terraform(tmp_path, "validate")
    assert result.returncode == 0, result.stdout + result.stderr
