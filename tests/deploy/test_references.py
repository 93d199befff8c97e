"""External references are pinned to releases, and everything that builds images builds all of them."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(path: Path) -> dict[str, Any]:
    workflow = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(workflow, dict)
    return dict(workflow["jobs"])


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    used = [step["uses"] for job in jobs(path).values() for step in job["steps"] if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action)] == []
    assert all(job["runs-on"] == "ubuntu-24.04" for job in jobs(path).values())


def test_manifests_are_pinned_to_a_release() -> None:
    script = (ROOT / "deploy" / "kind" / "kfp.sh").read_text("utf-8")
    assert re.search(r"^release=\d+\.\d+\.\d+$", script, re.MULTILINE)
    applied = re.findall(r"apply -k (\S+)", script)
    assert applied
    assert all(reference.endswith('?ref=$release"') for reference in applied)


def test_the_workflow_pushes_only_images_without_known_vulnerabilities_and_signs_them() -> None:
    run = commands(jobs(ROOT / ".github" / "workflows" / "images.yml")["push"])
    assert run[:2] == ["containers/build.sh", "containers/sbom.sh"]
    assert "for list in build/sbom/*.spdx.json" in run[2]
    assert "--fail-on high" in run[2]
    assert run[3:] == ['containers/push.sh "$REGISTRY"', "containers/sign.sh"]


def test_cloud_build_runs_the_same_scripts() -> None:
    build = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text("utf-8"))
    scripts = [step["args"][0] for step in build["steps"]]
    assert scripts == ["containers/build.sh", "containers/push.sh"]
    assert all(
        re.fullmatch(r"gcr\.io/cloud-builders/docker:\d+\.\d+\.\d+", step["name"]) for step in build["steps"]
    )
