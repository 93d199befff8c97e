"""Registries in the places where they are kept, and versions to put into them."""

import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from components.artifacts.evaluation import Decision
from components.registry import Version, open_registry
from components.registry.manifests import version_name


@pytest.fixture(params=["local", "gs", "s3"])
def address(request, tmp_path):
    """The address of an empty registry on a file system, in Cloud Storage, or in S3."""
    if request.param == "local":
        return str(tmp_path / "registry")
    request.getfixturevalue("bucket" if request.param == "gs" else "s3_bucket")
    return f"{request.param}://bucket/models/shop"


def make_version(number, **changes):
    """Return the manifest of a version; a higher number is newer."""
    digest = sha256(str(number).encode()).hexdigest()
    created = datetime(2026, 11, 1, 2, tzinfo=UTC) + timedelta(days=number)
    decision = Decision(outcome="blessed", reason="It is better.", metric="ndcg_at_20", checks=())
    fields = {
        "name": version_name(created, digest),
        "created": created.isoformat(),
        "run": f"run-{number}",
        "decision": decision,
        "metrics": {"ndcg_at_20": 0.25 + number / 100},
        "parameters": {"latent_factors": 8},
        "model_checksum": digest,
        "holdout_checksum": "0" * 64,
        "code_version": "0.1.0",
        "refit_iters": 2,
    }
    return Version(**{**fields, **changes})


def make_parts(folder: Path, number=0):
    """Write parts of a version and return them."""
    model = folder / f"parts-{number}" / "model"
    (model / "variables").mkdir(parents=True)
    (model / "factors.npy").write_bytes(bytes(range(256)) * (number + 1))
    (model / "variables" / "data-00000-of-00001").write_bytes(b"")
    (model / "_manifest.json").write_text(json.dumps({"number": number}), "utf-8")
    report = folder / f"parts-{number}" / "report.html"
    report.write_text(f"<p>{number}</p>", "utf-8")
    return {"model": model, "report.html": report}


@pytest.fixture
def filled(address, tmp_path):
    """A registry with three versions; return it and their names, oldest first."""
    registry = open_registry(address)
    names = []
    for number in range(3):
        version = make_version(number)
        registry.add(version, make_parts(tmp_path, number))
        names.append(version.name)
    return registry, names
