"""Signing pushed images and attesting their packages; a stand-in checks cosign's documented arguments."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.images import STEPS

REFERENCES = {step: f"gcr.io/p/wals/{step}@sha256:{number:064x}" for number, step in enumerate(STEPS)}
# Parses what `cosign help sign` and `cosign help attest` document, records it, and fails for one image.
COSIGN = """#!{python}
import argparse, json, os, re, sys
parser = argparse.ArgumentParser(exit_on_error=True)
commands = parser.add_subparsers(dest="command", required=True)
commands.add_parser("version")
for name in ("sign", "attest"):
    command = commands.add_parser(name, allow_abbrev=False)
    command.add_argument("--yes", action="store_true", required=True)
    command.add_argument("--key")
    command.add_argument("--allow-insecure-registry", action="store_true")
    for option in ("--tlog-upload", "--use-signing-config"):
        command.add_argument(option, choices=["true", "false"])
    if name == "attest":
        command.add_argument("--type", required=True, choices=["spdx", "spdxjson", "cyclonedx"])
        command.add_argument("--predicate", required=True, type=lambda path: json.load(open(path)))
    command.add_argument("image")
called = vars(parser.parse_args())
if called["command"] != "version":
    assert re.fullmatch(r".+@sha256:[0-9a-f]{{64}}", called["image"])
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(json.dumps(called) + "\\n")
    if called["image"] == os.environ.get("BROKEN"):
        sys.exit("no access")
"""
Sign = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sign(script: Sign, tmp_path: Path) -> Sign:
    """Sign images that were pushed and listed."""
    cosign = tmp_path / "cosign"
    cosign.write_text(COSIGN.format(python=sys.executable), "utf-8")
    cosign.chmod(0o755)
    images = {
        "schema": "wals.images",
        "schema_version": 1,
        "images": REFERENCES,
        "accelerators": {"train": "cpu"},
    }
    (tmp_path / "images.json").write_text(json.dumps(images, indent=2), "utf-8")
    for step in STEPS:
        (tmp_path / f"{step}.spdx.json").write_text(json.dumps({"name": step}), "utf-8")

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        paths = {
            "IMAGES": str(tmp_path / "images.json"),
            "SBOM": str(tmp_path),
            "CALLS": str(tmp_path / "calls"),
        }
        return script("sign.sh", **{"COSIGN": str(cosign), **paths, **variables})

    return run


@pytest.mark.parametrize("key", ["", "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k"])
def test_each_image_is_signed_and_its_packages_attested(sign: Sign, tmp_path: Path, key: str) -> None:
    options = "--allow-insecure-registry --tlog-upload=false --use-signing-config=false"
    result = sign(KEY=key, COSIGN_OPTIONS=options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == list(REFERENCES.values())
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text("utf-8").splitlines()]
    signed = [call for call in calls if call["command"] == "sign"]
    attested = [call for call in calls if call["command"] == "attest"]
    assert [call["image"] for call in signed] == list(REFERENCES.values())
    assert {call["predicate"]["name"]: call["image"] for call in attested} == REFERENCES
    assert all((call["key"] or "") == key and call["allow_insecure_registry"] for call in calls)
    assert all(call["tlog_upload"] == call["use_signing_config"] == "false" for call in calls)


@pytest.mark.parametrize(
    ("variables", "message", "code"),
    [
        ({"COSIGN": "no-cosign"}, "COSIGN 'no-cosign' cannot be run; install cosign", 2),
        ({"IMAGES": "none.json"}, "none.json does not exist; push the images with containers/push.sh", 2),
        ({"SBOM": "none"}, f"none/{STEPS[0]}.spdx.json does not exist; list the packages", 2),
        ({"BROKEN": REFERENCES["evaluate"]}, f"{REFERENCES['evaluate']} cannot be signed", 1),
    ],
)
def test_what_is_missing_is_one_line(
    sign: Sign, tmp_path: Path, variables: dict[str, str], message: str, code: int
) -> None:
    result = sign(**variables)
    assert result.returncode == code
    assert result.stderr.splitlines()[-1].startswith(f"sign.sh: error: {message}")
    assert (tmp_path / "calls").exists() is (code == 1)
