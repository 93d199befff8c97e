"""The gate for known vulnerabilities: pip-audit, and the list of accepted ones; OSV's API is a stand-in."""

import json
import os
import runpy
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
AUDIT = runpy.run_path(str(ROOT / "requirements" / "audit.py"))
UV = Path(sys.executable).with_name("uv")
TODAY = datetime.now(UTC).date()


@pytest.mark.parametrize(
    "text",
    [
        "accepted = [",
        '[[accepted]]\nid = "GHSA-1"\nexpires = 2027-01-31',
        '[[accepted]]\nid = "GHSA-1"\nreason = " "\nexpires = 2027-01-31',
        '[[accepted]]\nid = "GHSA-1"\nreason = "unused"\nexpires = "2027-01-31"',
        '[[accepted]]\nid = "GHSA-1"\nreason = "unused"\nexpires = 2027-01-31\nseverity = "low"',
    ],
)
def test_a_vulnerability_is_accepted_only_with_a_reason_and_a_day(tmp_path: Path, text: str) -> None:
    (tmp_path / "accepted.toml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"entry 1 requires exactly id, reason and expires|Invalid value"):
        AUDIT["read_accepted"](tmp_path / "accepted.toml")


def test_the_list_of_accepted_vulnerabilities_is_valid() -> None:
    AUDIT["read_accepted"](ROOT / "requirements" / "accepted.toml")


class Osv(BaseHTTPRequestHandler):
    """Knows one vulnerability, of urllib3 before 3."""

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/query"
        assert query["package"]["ecosystem"] == "PyPI"
        assert query["version"]
        answer: dict[str, Any] = {}
        if query["package"]["name"] == "urllib3":
            events = [{"introduced": "0"}, {"fixed": "3.0"}]
            affected = {"package": query["package"], "ranges": [{"type": "ECOSYSTEM", "events": events}]}
            answer["vulns"] = [
                {
                    "id": "GHSA-test",
                    "aliases": ["CVE-2026-1"],
                    "summary": "A test.",
                    "details": "A test.",
                    "published": "2026-01-01T00:00:00Z",
                    "affected": [{**affected, "versions": [query["version"]]}],
                }
            ]
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def osv() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with pip-audit."""
    python = tmp_path_factory.mktemp("audit") / "bin" / "python"
    lock = ROOT / "requirements" / "audit.lock.txt"
    for command in (
        ("venv", "--quiet", "--clear", "--python", sys.executable, python.parents[1]),
        ("pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock),
    ):
        subprocess.run([UV, *command], check=True)
    return python


def accepting(name: str, days: int) -> str:
    return f'[[accepted]]\nid = "{name}"\nreason = "unused"\nexpires = {TODAY + timedelta(days)}\n'


@pytest.mark.install
@pytest.mark.parametrize(
    ("accepted", "code", "line"),
    [
        ("", 1, "urllib3 2.7.0: CVE-2026-1, GHSA-test; fixed in 3.0"),
        (accepting("GHSA-test", 0), 0, "known vulnerabilities: 1, all accepted"),
        (accepting("CVE-2026-1", 30), 0, "known vulnerabilities: 1, all accepted"),
        (accepting("GHSA-test", -1), 1, "GHSA-test: was accepted until"),
        (accepting("GHSA-test", 1) + accepting("GHSA-other", 1), 0, "GHSA-other: no locked package has it"),
    ],
)
def test_the_gate(osv: str, python: Path, tmp_path: Path, accepted: str, code: int, line: str) -> None:
    shutil.copy(ROOT / "requirements" / "audit.py", tmp_path)
    (tmp_path / "accepted.toml").write_text(accepted, "utf-8")
    # Two versions of one package are in the locks, for different versions of Python.
    (tmp_path / "run.lock.txt").write_text("urllib3==2.7.0 \\\n    --hash=sha256:0\nnumpy==2.4.6\n", "utf-8")
    (tmp_path / "library.lock.txt").write_text("numpy==2.5.5 ; python_version >= '3.12'\n", "utf-8")
    (tmp_path / "dev.lock.txt").write_text("urllib3==1.0\n", "utf-8")
    result = audited(python, tmp_path, osv)
    assert result.returncode == code, result.stderr
    assert line in result.stdout
    assert "urllib3 1.0" not in result.stdout
    assert ('run make upgrade PACKAGES="urllib3", or accept them' in result.stderr) is bool(code)


@pytest.mark.install
def test_a_service_that_does_not_answer_closes_the_gate(python: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "requirements" / "audit.py", tmp_path)
    (tmp_path / "accepted.toml").write_text("", "utf-8")
    (tmp_path / "run.lock.txt").write_text("urllib3==2.7.0\n", "utf-8")
    result = audited(python, tmp_path, "http://127.0.0.1:9/v1/query")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("audit: error: the vulnerabilities are not known: ")
    assert line.endswith("; set OSV_URL to a mirror of OSV's API")


def audited(python: Path, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, folder / "audit.py"],
        env={**os.environ, "OSV_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
