"""Passwords in addresses: never shown, wherever the address is given."""

import json
from pathlib import Path

import pytest

from tests.pipeline.conftest import Wals
from trainer import task
from trainer.errors import InputError, WalsError, has_credentials, without_credentials

pytestmark = pytest.mark.attack

PASSWORDS = ["hunter2", "p@ss", "abc/def+ghi/jkl", "%40secret", "x" * 300, "a:b"]
VERTEX = ("--target", "vertex", "--project", "my-project", "--region", "europe-west1")
VERTEX += ("--pipeline-root", "gs://bucket/runs", "--image-prefix", "wals")
KUBEFLOW = ("--target", "kubeflow", "--image-prefix", "wals")
SOURCE = ("-p", "source=gs://bucket/ratings.csv")
# By option or parameter: a command line with the place of the password.
PLACES = {
    "host": (*KUBEFLOW, *SOURCE, "--host", "http://user:{}@localhost:1"),
    "host without a user": (*KUBEFLOW, *SOURCE, "--host", "http://:{}@localhost:1"),
    "pipeline_root": (
        *KUBEFLOW,
        *SOURCE,
        "--host",
        "http://localhost:1",
        "--pipeline-root",
        "minio://k:{}@b/r",
    ),
    "endpoint": (*VERTEX, *SOURCE, "--endpoint", "https://user:{}@localhost:1"),
    "source": (*VERTEX, "-p", "source=s3://KEY:{}@bucket/ratings.csv"),
    "source of a wrong scheme": (*VERTEX, "-p", "source=ftp://KEY:{}@bucket/ratings.csv"),
    "previous_profile": (*VERTEX, *SOURCE, "-p", "previous_profile=gs://KEY:{}@bucket/profile"),
    "warm_start": (*VERTEX, *SOURCE, "-p", "warm_start=gs://KEY:{}@bucket/model"),
    "checkpoint_dir": (*VERTEX, *SOURCE, "-p", "checkpoint_dir=s3://KEY:{}@bucket/kept"),
    "an unknown parameter": (*VERTEX, *SOURCE, "-p", "sauce=s3://KEY:{}@bucket/ratings.csv"),
    "a number": (*VERTEX, *SOURCE, "-p", "top_k=s3://KEY:{}@bucket/ratings.csv"),
}


@pytest.mark.parametrize("password", PASSWORDS, ids=lambda text: text[:20])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    "command", [("submit", "--dry-run"), ("check", "--offline", "--json")], ids=lambda c: c[0]
)
def test_no_command_shows_a_password(
    command: tuple[str, ...], place: tuple[str, ...], password: str, wals: Wals
) -> None:
    result = wals(*command, *(text.format(password) for text in place))
    assert result.exit_code == 2
    shown = result.stdout + result.stderr
    assert "bug:" not in shown
    assert password[:20] not in shown
    assert "***@" in shown
    assert result.stderr.count("\n") <= 1
    if command[0] == "check":
        assert json.loads(result.stdout)["problems"]


@pytest.mark.parametrize("password", PASSWORDS, ids=lambda text: text[:20])
def test_the_repository_of_templates_shows_no_password(password: str, wals: Wals) -> None:
    repository = f"https://user:{password}@localhost/p/r"
    result = wals("upload", *VERTEX[:-2], "--template-repository", repository)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert password[:20] not in result.stdout + result.stderr
    assert "***@" in result.stderr


def test_the_location_of_a_template_shows_no_password(wals: Wals) -> None:
    location = "https://user:hunter2@registry.example.com/p/r/x/sha256:00"
    result = wals("submit", *VERTEX[:-2], *SOURCE, "--template", location, "--dry-run")
    assert result.exit_code == 2
    assert "contains credentials" in result.stderr
    assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.parametrize("flag", ["--train-file", "--job-dir", "--output-dir", "--warm_start"])
def test_the_training_job_shows_no_password(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], wals: Wals
) -> None:
    arguments = ["--job-dir", str(tmp_path), "--train-file", "r.csv", flag, "gs://KEY:hunter2@bucket/r"]
    assert task.main(arguments) == 2
    assert "hunter2" not in "".join(capsys.readouterr())
    result = wals("train-job", "train", *VERTEX, *arguments, "--dry-run")
    assert result.exit_code == 2
    assert "hunter2" not in result.stdout + result.stderr


def test_a_run_shows_no_password(wals: Wals, tmp_path: Path) -> None:
    result = wals("run", "--source", "s3://KEY:hunter2@bucket/r.csv", "--output-dir", tmp_path / "out")
    assert result.exit_code == 2
    assert "hunter2" not in result.stdout + result.stderr
    assert "AWS_SECRET_ACCESS_KEY" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", range(80, 140))
def test_a_shortened_value_has_no_part_of_a_password(length: int) -> None:
    error = InputError("source", f"{'x' * length} s3://KEY:hunter2@bucket", "is bad", "fix it")
    assert "hunt" not in str(error)
    assert (
        str(WalsError("at http://u:hunter2@h and http://v:hunter2@h")) == "at http://***@h and http://***@h"
    )


@pytest.mark.parametrize(
    "text",
    [
        *("http://localhost:8080", "http://localhost:8080/#/runs/a@b", "gs://bucket/user@example.com/r.csv"),
        *("bq://example.com:my-project.a.b", "s3://bucket/a:b", "trainer@p.iam.gserviceaccount.com"),
        *(
            "r/wals:1.0@sha256:00",
            "https://europe-west1-kfp.pkg.dev/p/r/x/sha256:00",
            "user:group",
            "http://[::1]:80/",
        ),
    ],
)
def test_addresses_without_credentials_stay(text: str) -> None:
    assert not has_credentials(text)
    assert without_credentials(text) == text
