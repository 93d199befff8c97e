"""Kubeflow Pipelines on kind: what the script would do, since no cluster can be had in a test."""

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from components.images import DEFAULT_TAG

ROOT = Path(__file__).parents[2]
KIND = ROOT / "deploy" / "kind"
STEPS = sorted(path.parent.name for path in (ROOT / "components").glob("*/component.py"))
# Notes its name and arguments, and fails when told to.
TOOL = """#!{python}
import json, os, pathlib, runpy, sys
name = pathlib.Path(sys.argv[0]).name
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if name == os.environ.get("FAILS"):
    sys.exit(1)
if "port-forward" in sys.argv:
    runpy.run_path("{api}")
"""
# What `kubectl port-forward` leads to: as much of the API of Kubeflow Pipelines as a run needs.
API = """
import http.server, json, os
NOW = "2026-01-01T00:00:00Z"
RUN = {"run_id": "r", "experiment_id": "e", "display_name": "wals", "created_at": NOW}
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.removeprefix("/apis/v2beta1/").partition("?")[0]
        self.answer(RUN | {"state": os.environ["STATE"]} if path == "runs/r" else {})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/runs"):
            with open(os.environ["CALLS"], "a") as calls:
                calls.write(json.dumps(["started", json.dumps(body["runtime_config"]["parameters"])]) + "\\n")
            return self.answer(RUN | {"state": "PENDING"})
        self.answer({"experiment_id": "e", "display_name": body["display_name"], "created_at": NOW})
    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Api).serve_forever()
"""

Kfp = Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]


@pytest.fixture
def kfp(tmp_path: Path) -> Kfp:
    """Run the script with stand-ins for the tools, and return its result and the commands it gave."""
    (tmp_path / "api.py").write_text(API, "utf-8")
    for tool in ("kind", "kubectl", "docker"):
        path = tmp_path / tool
        path.write_text(TOOL.format(python=sys.executable, api=tmp_path / "api.py"), "utf-8")
        path.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        calls = tmp_path / "calls"
        calls.touch()
        result = subprocess.run(
            [KIND / "kfp.sh", *arguments],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "CALLS": str(calls),
                "PORT": str(port),
                "DOCKER": "docker",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return result, [" ".join(json.loads(line)) for line in calls.read_text("utf-8").splitlines()]

    return run


def test_up_makes_the_cluster_and_installs_one_release(kfp: Kfp) -> None:
    result, calls = kfp("up")
    assert result.returncode == 0, result.stderr
    assert "kind create cluster --config deploy/kind/cluster.yaml --wait 5m" in calls
    applied = [call for call in calls if " apply " in call]
    assert ["cluster-scoped-resources" in applied[0], "env/platform-agnostic" in applied[1]] == [True, True]
    pinned = next(
        dependency.removeprefix("kfp==")
        for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
            "dependencies"
        ]
        if dependency.startswith("kfp==")
    )
    assert {call.rpartition("?ref=")[2] for call in applied} == {pinned}
    assert all(
        call.startswith("kubectl --context kind-wals ") for call in calls if call.startswith("kubectl")
    )
    assert " wait deployment --all --for condition=available" in calls[-1]


def test_load_puts_every_image_into_the_cluster_under_names_of_its_own(kfp: Kfp) -> None:
    result, calls = kfp("load")
    assert result.returncode == 0, result.stderr
    loaded = [call.rpartition(" ")[2] for call in calls if call.startswith("kind load")]
    assert loaded == [f"kind.local/wals/{step}:{DEFAULT_TAG}" for step in STEPS]
    (build,) = (call for call in calls if call.startswith("docker build"))
    assert f"IMAGE=wals/extract:{DEFAULT_TAG} --tag kind.local/wals/extract:{DEFAULT_TAG}" in build


def test_run_waits_for_success(kfp: Kfp) -> None:
    result, calls = kfp("run", "num_iters=3", STATE="SUCCEEDED")
    assert result.returncode == 0, result.stderr
    assert 'started {"source": "/data/ratings.csv", "num_iters": 3}' in calls
    spec = yaml.safe_load((ROOT / "build/kind/wals-train.kubeflow.yaml").read_text("utf-8"))
    executors = spec["deploymentSpec"]["executors"]
    assert executors["exec-extract"]["container"]["image"] == f"kind.local/wals/extract:{DEFAULT_TAG}"


def test_a_run_that_fails_there_fails_here(kfp: Kfp) -> None:
    result, _ = kfp("run", STATE="FAILED")
    assert result.returncode == 1
    assert "kfp.sh: error: the run ended as FAILED" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "named"),
    [
        ((), {}, 2, "give one of: up, load, run, down"),
        (("reboot",), {}, 2, "give one of: up, load, run, down"),
        (("load", "none.csv"), {}, 2, "there is no file none.csv"),
        (("load",), {"FAILS": "docker"}, 2, "make images"),
        (("run",), {"FAILS": "kubectl"}, 1, "cannot be forwarded"),
    ],
)
def test_what_is_missing_is_one_line(
    kfp: Kfp, arguments: tuple[str, ...], environment: dict[str, str], code: int, named: str
) -> None:
    result, _ = kfp(*arguments, **environment)
    assert result.returncode == code, result.stderr
    assert result.stderr.splitlines()[-1].startswith("kfp.sh: error: ")
    assert named in result.stderr


def test_the_node_image_is_pinned() -> None:
    cluster = yaml.safe_load((KIND / "cluster.yaml").read_text("utf-8"))
    assert cluster["kind"] == "Cluster"
    for node in cluster["nodes"]:
        assert re.fullmatch(r"kindest/node:v[\d.]+@sha256:[0-9a-f]{64}", node["image"])
