"""The Terraform files, read by a parser and, if it is installed, by Terraform."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml

from components.extract.columns import find_columns
from pipeline.platforms.environments import Vertex

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "terraform"
FACTS = Path("pipeline/definition/vertex_facts.yaml")
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


def resources(parsed: dict[str, list[Any]], kind: str) -> dict[str, Any]:
    """The resources of a kind by name."""
    return named([block[kind] for block in parsed["resource"] if kind in block])


def test_every_variable_is_described_typed_and_used(parsed: dict[str, list[Any]], text: str) -> None:
    variables = named(parsed["variable"])
    assert {"project", "region", "composer", "budget"} <= set(variables)
    for name, body in variables.items():
        assert body["description"], name
        assert body["type"], name
        assert re.search(rf"\bvar\.{name}\b", text), f"{name} is not used"
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(variables)


def test_no_project_is_named(text: str) -> None:
    projects = set(re.findall(r"\bproject\s*=\s*(.+)", text))
    assert {re.sub(r'^google_\w+\.\w+\["[\w.]+"\]\.project$', "var.project", name) for name in projects} == {
        "var.project"
    }


def test_every_reference_is_to_an_existing_resource(parsed: dict[str, list[Any]], text: str) -> None:
    existing = {
        f"{kind}.{name}"
        for block in parsed["resource"] + parsed["data"]
        for kind, body in block.items()
        for name in body
    }
    assert set(re.findall(r"\b(google_\w+\.\w+)", text)) <= existing


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
                        "builds": r"service_account\.builds",
                        "service agents": r"service_identity\.agents|service_account\.this",
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


def test_operators_may_look_up_every_dataset_that_they_check(parsed: dict[str, list[Any]]) -> None:
    grants = resources(parsed, "google_bigquery_dataset_iam_member").values()
    looked_up = [grant["dataset_id"] for grant in grants if grant["role"] == "roles/bigquery.metadataViewer"]
    assert sorted(looked_up) == ["${each.value[0]}", "${google_bigquery_dataset.staging.dataset_id}"]


def test_operators_may_go_back_to_another_version_in_every_dataset(parsed: dict[str, list[Any]]) -> None:
    grants = resources(parsed, "google_bigquery_dataset_iam_member")
    deliveries = {
        name: grant["role"]
        for name, grant in grants.items()
        if "var.delivery_datasets" in grant.get("for_each", "")
    }
    assert deliveries == dict.fromkeys(("steps_deliver", "operators_deliver"), "roles/bigquery.dataEditor")
    jobs = {
        grant["role"]
        for grant in resources(parsed, "google_project_iam_member").values()
        if "var.delivery_datasets" in grant.get("for_each", "")
    }
    assert jobs == {"roles/bigquery.jobUser", "roles/bigquery.readSessionUser"}


def test_the_output_is_the_platform_of_an_environment(parsed: dict[str, list[Any]]) -> None:
    (platform,) = [body for name, body in named(parsed["output"]).items() if name == "platform"]
    assert set(platform["value"]) <= set(Vertex.model_fields)
    required = {name for name, field in Vertex.model_fields.items() if field.is_required()}
    assert required <= set(platform["value"]), json.dumps(platform)


def registry_hosts() -> Iterator[tuple[str, str]]:
    """Yield the files of the repository that name hosts of Artifact Registry, and the hosts.

    Those of Google's own images for Vertex AI are left out.
    """
    for folder, folders, names in os.walk(ROOT):
        generated = {"build", "runs", "__pycache__"}
        folders[:] = [
            name for name in folders if name == ".github" or (name[0] != "." and name not in generated)
        ]
        for file in (Path(folder, name) for name in names):
            content = file.read_bytes()
            if b".pkg.dev" in content:
                for host in re.findall(
                    r"""[^\s/"'`(=]+\.pkg\.dev\b(?!/vertex-ai/)""", content.decode(errors="ignore")
                ):
                    yield file.relative_to(ROOT).as_posix(), host


def test_every_address_of_a_registry_is_one_that_terraform_makes(parsed: dict[str, list[Any]]) -> None:
    outputs = named(parsed["output"])
    made = [outputs["image_prefix"]["value"], outputs["platform"]["value"]["template_repository"]]
    kinds = [re.search(r"\$\{var\.region\}(-\w+\.pkg\.dev)/", address) for address in made]
    example = named(parsed["variable"])["region"]["default"]
    regions = {example, "REGION", "{REGION}", "${_REGION}", "${var.region}"}
    hosts = {f"{region}{kind.group(1)}" for kind in kinds if kind for region in regions}
    assert len(hosts) == 2 * len(regions)
    found = {*registry_hosts()}
    assert {"README.md", "Makefile", "cloudbuild.yaml"} <= {file for file, _ in found}
    assert [(file, host) for file, host in sorted(found) if host not in hosts] == []


def test_buckets_are_private_and_delete_only_runs_and_sources(parsed: dict[str, list[Any]]) -> None:
    buckets = resources(parsed, "google_storage_bucket")
    assert {bucket["public_access_prevention"] for bucket in buckets.values()} == {"enforced"}
    deleted = {
        (name, *rule["condition"][0].get("matches_prefix", ()))
        for name, bucket in buckets.items()
        for rule in bucket["lifecycle_rule"]
        if rule["action"][0]["type"] == "Delete"
    }
    assert deleted == {("pipeline", "runs/${data.google_project.this.number}/"), ("builds", "source/")}


def test_nothing_that_a_schedule_names_is_deleted(parsed: dict[str, list[Any]]) -> None:
    repositories = resources(parsed, "google_artifact_registry_repository")
    assert set(repositories) == {"images", "templates"}
    for name, repository in repositories.items():
        assert "cleanup_policies" not in repository, name
        assert repository["lifecycle"][0]["prevent_destroy"] is True, name


def test_staged_tables_live_as_long_as_the_steps_and_the_documents_say(parsed: dict[str, list[Any]]) -> None:
    from components.extract import bigquery  # slow to import

    days = bigquery._STAGED_FOR.days
    staging = resources(parsed, "google_bigquery_dataset")["staging"]
    for what in ("table", "partition"):
        factors = re.findall(r"\d+", staging[f"default_{what}_expiration_ms"])
        assert prod(map(int, factors)) == days * 24 * 3600 * 1000, what
    for document in ("deploy/terraform/README.md", "docs/data.md", "docs/artifacts.md"):
        assert re.search(rf"after\s+{days} days", (ROOT / document).read_text("utf-8")), document


def test_cloud_build_uses_what_terraform_creates(parsed: dict[str, list[Any]], text: str) -> None:
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text("utf-8"))
    project = "${PROJECT_ID}"
    account = resources(parsed, "google_service_account")["builds"]["account_id"]
    assert build["serviceAccount"] == (
        f"projects/{project}/serviceAccounts/{account}@{project}.iam.gserviceaccount.com"
    )
    assert build["options"]["logging"] == "CLOUD_LOGGING_ONLY"
    bucket = resources(parsed, "google_storage_bucket")["builds"]["name"].replace("${var.project}", project)
    substitutions = build["substitutions"]
    assert substitutions["_IMAGES"].startswith(f"gs://{bucket}/")
    assert substitutions["_REGION"] == named(parsed["variable"])["region"]["default"]
    repository = resources(parsed, "google_artifact_registry_repository")["images"]["repository_id"]
    assert substitutions["_REGISTRY"] == "${_REGION}-docker.pkg.dev/" + f"{project}/{repository}"
    assert '"cloudbuild.googleapis.com"' in text


def test_the_key_encrypts_whatever_stores_data(parsed: dict[str, list[Any]]) -> None:
    region = {"for_each": "${var.encryption_key[*]}"}
    bigquery_location = {"for_each": "${local.bigquery_key[*]}"}
    for name, bucket in resources(parsed, "google_storage_bucket").items():
        assert bucket["dynamic"][0]["encryption"].items() >= region.items(), name
    for name, dataset in resources(parsed, "google_bigquery_dataset").items():
        encryption = dataset["dynamic"][0]["default_encryption_configuration"]
        assert encryption.items() >= bigquery_location.items(), name
    for name, repository in resources(parsed, "google_artifact_registry_repository").items():
        assert repository["kms_key_name"] == "${var.encryption_key}", name


def test_the_agents_of_whatever_stores_data_are_granted_the_key_first(parsed: dict[str, list[Any]]) -> None:
    grants = resources(parsed, "google_kms_crypto_key_iam_member")
    granted_to = {name: f"{grant.get('for_each')} {grant['member']}" for name, grant in grants.items()}
    for agent in ("aiplatform.googleapis.com", "artifactregistry.googleapis.com", "storage_project_service"):
        assert agent in granted_to["region"]
    assert "bigquery_default_service_account" in granted_to["bigquery"]
    for kind, grant in (
        ("google_storage_bucket", "region"),
        ("google_artifact_registry_repository", "region"),
        ("google_bigquery_dataset", "bigquery"),
    ):
        for name, resource in resources(parsed, kind).items():
            needed = f"${{google_kms_crypto_key_iam_member.{grant}}}"
            assert needed in resource["depends_on"], f"{kind}.{name}"


def test_the_documents_name_the_images_of_others_that_runs_need() -> None:
    specs = sorted((ROOT / "tests/pipeline/definition/golden").rglob("*.vertex.yaml"))
    images = {image for spec in specs for image in re.findall(r"image: (\S+)", spec.read_text("utf-8"))}
    others = {image.rpartition(":")[0] for image in images if not image.startswith("wals/")}
    assert others
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [image for image in others if f"`{image}`" not in readme] == []


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


def test_the_region_is_checked_against_the_list_that_the_command_uses(parsed: dict[str, list[Any]]) -> None:
    (validation,) = named(parsed["variable"])["region"]["validation"]
    path = re.search(r"\$\{path\.module\}/([\w./]+)", validation["condition"])
    assert path
    assert (FOLDER / path.group(1)).resolve() == ROOT / FACTS


def copied(folder: Path, *names: str) -> Path:
    """Copy some of the files and what they read, in the same layout, and return their folder."""
    copy = folder / FOLDER.relative_to(ROOT)
    (folder / FACTS).parent.mkdir(parents=True)
    copy.mkdir(parents=True)
    shutil.copy(ROOT / FACTS, folder / FACTS)
    for name in names:
        shutil.copy(FOLDER / name, copy)
    return copy


IN_REGION = "projects/p/locations/europe-west1/keyRings/r/cryptoKeys/k"
IN_EUROPE = "projects/p/locations/europe/keyRings/r/cryptoKeys/k"


@requires_terraform
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({}, ""),
        ({"region": "us-central1"}, ""),
        ({"region": "europe-west10"}, "Vertex AI runs no pipelines in europe-west10"),
        ({"region": "EU"}, "Vertex AI runs no pipelines in EU"),
        ({"encryption_key": IN_REGION, "bigquery_encryption_key": IN_EUROPE}, ""),
        ({"encryption_key": IN_REGION, "bigquery_location": "europe-west1"}, ""),
        ({"encryption_key": IN_REGION}, "The datasets are in EU and require a key there"),
        (
            {"encryption_key": IN_REGION, "bigquery_encryption_key": IN_EUROPE, "bigquery_location": "US"},
            "The datasets are in US and require a key there",
        ),
        ({"encryption_key": IN_EUROPE}, "Give a key in the region"),
        ({"encryption_key": "k", "bigquery_encryption_key": IN_EUROPE}, "Give a key in the region"),
        ({"bigquery_encryption_key": IN_EUROPE}, "Set encryption_key too"),
        (
            {"encryption_key": IN_REGION, "bigquery_encryption_key": IN_EUROPE, "composer": "true"},
            "Cloud Composer is not encrypted with the key",
        ),
    ],
    ids=str,
)
def test_values_that_google_would_refuse_are_refused(
    values: dict[str, str], problem: str, tmp_path: Path
) -> None:
    options = [f"-var={name}={value}" for name, value in {"project": "my-project", **values}.items()]
    # The variables alone need no provider.
    result = terraform(copied(tmp_path, "variables.tf"), "plan", "-input=false", *options)
    assert result.returncode == (1 if problem else 0), result.stderr
    assert problem in " ".join(result.stderr.replace("│", "").split())


@requires_terraform
def test_terraform_validates_the_files_with_their_provider(tmp_path: Path) -> None:
    tmp_path = copied(tmp_path, *(file.name for file in FOLDER.glob("*.tf")))
    initialised = terraform(tmp_path, "init", "-backend=false", "-input=false")
    message = " ".join(initialised.stderr.split())
    if "could not connect to registry.terraform.io" in message:
        pytest.skip(message[message.index("Could not retrieve") :])
    assert initialised.returncode == 0, message
    result = terraform(tmp_path, "validate")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_costs_reach_a_topic_besides_mail(parsed: dict[str, list[Any]]) -> None:
    budget = resources(parsed, "google_billing_budget")["monthly"]
    (rule,) = budget["all_updates_rule"]
    assert rule["pubsub_topic"] == "${google_pubsub_topic.budget[0].id}"
    assert "disable_default_iam_recipients" not in rule
    assert resources(parsed, "google_pubsub_topic")["budget"]["count"] == budget["count"]


def test_the_steps_may_read_the_secrets_that_settings_name(parsed: dict[str, list[Any]], text: str) -> None:
    grant = resources(parsed, "google_secret_manager_secret_iam_member")["steps"]
    assert grant["for_each"] == "${local.secrets}"
    assert "setunion(var.step_secrets, var.webhook_secret[*])" in text
