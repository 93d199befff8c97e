"""Kubeflow Pipelines on kind: the commands of the script, because tests have no cluster."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from components.images import DEFAULT_TAG
from tests.images import STEPS
from tests.pipeline.kubeflow_server import KubeflowServer, kubeflow_server

ROOT = Path(__file__).parents[2]
KIND = ROOT / "deploy" / "kind"
# Records its name and arguments, and fails on request. Forwarded ports lead to the test's own servers.
TOOL = """#!{python}
import base64, json, os, pathlib, signal, sys
name = pathlib.Path(sys.argv[0]).name
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if name == os.environ.get("FAILS"):
    sys.exit(1)
if "port-forward" in sys.argv:
    print("Forwarding from 127.0.0.1:80 -> 80", flush=True)
    signal.pause()
if "secret" in sys.argv:
    print(base64.b64encode(b"minio").decode(), end="")
"""
REPORT = "<!doctype html><title>Evaluation</title>"

Kfp = Callable[..., tuple[subprocess.CompletedProcess[str], list[str]]]


@pytest.fixture
def api() -> Iterator[KubeflowServer]:
    """The API of Kubeflow Pipelines."""
    with kubeflow_server() as server:
        look = server._live

        # A run ends at the first poll: following a run waits seconds between polls.
        def hurried(run: dict[str, Any]) -> None:
            for _ in range(10):
                look(run)

        server._live = hurried  # type: ignore[method-assign]
        yield server


@pytest.fixture
def store(api: KubeflowServer) -> Iterator[int]:
    """Port of an object store with the report of every run that succeeded."""

    def objects() -> list[str]:
        done = [run["run_id"] for run in api.runs.values() if run["state"] == "SUCCEEDED"]
        return [f"v2/artifacts/wals-train/{run_id}/evaluate/1/report" for run_id in done]

    class S3(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            place = urlsplit(self.path)
            if "list-type=2" in place.query:
                (prefix,) = parse_qs(place.query)["prefix"]
                contents = "".join(
                    f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified>"
                    f"<Size>{len(REPORT)}</Size></Contents>"
                    for key in objects()
                    if key.startswith(prefix)
                )
                listed = f"<IsTruncated>false</IsTruncated>{contents}"
                return self.answer(f"<ListBucketResult>{listed}</ListBucketResult>")
            return self.answer(REPORT, 200 if place.path.removeprefix("/mlpipeline/") in objects() else 404)

        do_HEAD = do_GET  # noqa: N815

        def answer(self, content: str, status: int = 200) -> None:
            assert "Credential=minio/" in self.headers["Authorization"]
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content.encode())

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), S3)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with its own build folder, where the script records the port that it forwards."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in (".venv", "components", "containers", "data", "deploy", "pyproject.toml", "requirements"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture
def kfp(tmp_path: Path, checkout: Path, api: KubeflowServer, store: int) -> Iterator[Kfp]:
    """Run the script with stand-ins for the tools, and return its result and the commands it ran."""
    for tool in ("kind", "kubectl", "docker"):
        path = tmp_path / tool
        path.write_text(TOOL.format(python=sys.executable), "utf-8")
        path.chmod(0o755)

    def run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        calls = tmp_path / "calls"
        calls.touch()
        result = subprocess.run(
            [checkout / "deploy" / "kind" / "kfp.sh", *arguments],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "CALLS": str(calls),
                "PORT": api.url.rpartition(":")[2],
                "STORE_PORT": str(store),
                "DOCKER": "docker",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        return result, [" ".join(json.loads(line)) for line in calls.read_text("utf-8").splitlines()]

    yield run
    run("down")


@pytest.fixture
def forwarding(tmp_path: Path) -> Callable[[], list[str]]:
    """List the processes that forward ports for this test's cluster."""

    def forwarding() -> list[str]:
        command = ["ps", "-A", "-ww", "-o", "args="]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        forward = f"{tmp_path}/kubectl --context kind-wals"
        return [line for line in listed.splitlines() if forward in line and "port-forward" in line]

    return forwarding


def ends(forwarding: Callable[[], list[str]]) -> bool:
    """Return whether nothing is forwarded any more, once what was told to end has had the time to."""
    deadline = time.monotonic() + 60
    while forwarding() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not forwarding()


def test_up_creates_the_cluster_and_installs_one_release(kfp: Kfp) -> None:
    result, calls = kfp("up")
    assert result.returncode == 0, result.stderr
    assert "kind create cluster --config deploy/kind/cluster.yaml --wait 5m" in calls
    applied = [call for call in calls if " apply " in call]
    assert ["cluster-scoped-resources" in applied[0], "env/platform-agnostic" in applied[1]] == [True, True]
    pinned = next(
        dependency.removeprefix("kfp==")
        for dependency in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
            "optional-dependencies"
        ]["pipeline"]
        if dependency.startswith("kfp==")
    )
    assert {call.rpartition("?ref=")[2] for call in applied} == {pinned}
    assert all(
        call.startswith("kubectl --context kind-wals ") for call in calls if call.startswith("kubectl")
    )
    assert " wait deployment --all --for condition=available" in calls[-2]
    assert " port-forward service/ml-pipeline-ui " in calls[-1]


def test_the_port_is_forwarded_until_the_cluster_is_gone(
    kfp: Kfp, api: KubeflowServer, forwarding: Callable[[], list[str]]
) -> None:
    assert kfp("up")[0].returncode == 0
    assert len(forwarding()) == 1
    result, _ = kfp("up")
    assert f"http://127.0.0.1:{api.url.rpartition(':')[2]}" in result.stdout
    assert len(forwarding()) == 1, "the port is forwarded twice"
    # A run uses the forwarded port, and does not close it.
    assert "cannot be forwarded" not in kfp("run", "colour=red")[0].stderr
    assert len(forwarding()) == 1
    result, calls = kfp("down")
    assert result.returncode == 0, result.stderr
    assert calls[-1] == "kind delete cluster --name wals"
    assert ends(forwarding)
    assert kfp("down")[0].returncode == 0


def test_load_puts_every_image_into_the_cluster_under_separate_names(kfp: Kfp) -> None:
    result, calls = kfp("load")
    assert result.returncode == 0, result.stderr
    loaded = [call.rpartition(" ")[2] for call in calls if call.startswith("kind load")]
    assert loaded == [f"kind.local/wals/{step}:{DEFAULT_TAG}" for step in STEPS]
    (build,) = (call for call in calls if call.startswith("docker build"))
    assert f"IMAGE=wals/extract:{DEFAULT_TAG} --tag kind.local/wals/extract:{DEFAULT_TAG}" in build


def test_run_uploads_the_pipeline_waits_for_success_and_fetches_the_report(
    kfp: Kfp, api: KubeflowServer, checkout: Path, forwarding: Callable[[], list[str]]
) -> None:
    result, calls = kfp("run", "num_iters=3")
    assert result.returncode == 0, result.stderr
    assert len(api.versions) == 1
    (run,) = api.runs.values()
    assert run["runtime_config"]["parameters"] == {"source": "/data/ratings.csv", "num_iters": 3}
    executors = run["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-extract"]["container"]["image"] == f"kind.local/wals/extract:{DEFAULT_TAG}"
    assert result.stdout.splitlines()[-1] == "build/kind/report.html"
    assert (checkout / "build/kind/report.html").read_text("utf-8") == REPORT
    assert any(" port-forward service/seaweedfs " in call for call in calls)
    assert ends(forwarding)


def test_a_run_that_fails_there_fails_here(
    kfp: Kfp, api: KubeflowServer, forwarding: Callable[[], list[str]]
) -> None:
    api.failing_step = "extract"
    result, _ = kfp("run")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("wals: error: ")
    assert ends(forwarding)


def test_an_unknown_parameter_is_one_line(kfp: Kfp) -> None:
    result, _ = kfp("run", "colour=red")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("wals: error: colour")


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "message"),
    [
        ((), {}, 2, "give one of: up, load, run, down"),
        (("reboot",), {}, 2, "give one of: up, load, run, down"),
        (("load", "none.csv"), {}, 2, "none.csv does not exist"),
        (("load",), {"FAILS": "docker"}, 2, "make images"),
        (("run",), {"FAILS": "kubectl"}, 1, "cannot be forwarded"),
    ],
)
def test_an_error_of_the_script_is_one_line(
    kfp: Kfp, arguments: tuple[str, ...], environment: dict[str, str], code: int, message: str
) -> None:
    result, _ = kfp(*arguments, **environment)
    assert result.returncode == code, result.stderr
    assert result.stderr.splitlines()[-1].startswith("kfp.sh: error: ")
    assert message in result.stderr


def test_another_cluster_is_neither_created_nor_deleted(
    kfp: Kfp, api: KubeflowServer, checkout: Path
) -> None:
    other = {"KUBE_CONTEXT": "staging", "FAILS": "kind"}
    for action in ("up", "down"):
        result, calls = kfp(action, **other)
        assert result.returncode == 0, result.stderr
    assert {call.partition(" ")[0] for call in calls} == {"kubectl"}
    assert all(call.startswith("kubectl --context staging ") for call in calls)
    refused = kfp("load", **other)[0]
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "make push" in refused.stderr
    (checkout / "build").mkdir(exist_ok=True)
    images = {step: f"registry.example.com/wals/{step}@sha256:{'0' * 64}" for step in STEPS}
    pushed = {"schema": "wals.images", "schema_version": 1, "images": images}
    content = json.dumps({**pushed, "accelerators": dict.fromkeys(STEPS, "cpu")})
    (checkout / "build" / "images.json").write_text(content, "utf-8")
    result, _ = kfp("run", "source=s3://bucket/ratings.csv", **other)
    assert result.returncode == 0, result.stderr
    (run,) = api.runs.values()
    executors = run["pipeline_spec"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["image"] == images["train"]


def test_up_lets_argo_retry_a_step_that_fails(kfp: Kfp) -> None:
    """With a default policy, Argo would merge it into the compiled retries, which name none."""
    _, calls = kfp("up")
    (patch,) = (call for call in calls if " patch configmap workflow-controller-configmap " in call)
    file = ROOT / patch.rpartition("--patch-file ")[2]
    defaults = yaml.safe_load(yaml.safe_load(file.read_text("utf-8"))["data"]["workflowDefaults"])
    assert set(defaults["spec"]) == {"ttlStrategy"}


def test_the_node_image_is_pinned() -> None:
    cluster = yaml.safe_load((KIND / "cluster.yaml").read_text("utf-8"))
    assert cluster["kind"] == "Cluster"
    for node in cluster["nodes"]:
        assert re.fullmatch(r"kindest/node:v[\d.]+@sha256:[0-9a-f]{64}", node["image"])
