"""Odd names and numbers on the command line and in configuration: used, or refused in one line."""

from pathlib import Path

import pytest

from components.deliver.options import DeliverOptions
from components.extract.options import ExtractOptions
from components.prepare.options import PrepareOptions
from pipeline.cli import run_command, wals
from trainer import task
from trainer.errors import InputError
from trainer.options import Options

pytestmark = pytest.mark.attack

LONG = "a" * 5000
NAMES = [
    "",
    " ",
    "-",
    LONG,
    "/",
    "/dev/null",
    "/dev/null/x",
    "..",
    "~",
    "\x1b]0;x\x07",
    "[/foo]",
    "%s{}",
    "\udcff",
    "a\ud800b",
    "a\0b",
]
COMMANDS = [
    ["runs", "NAME"],
    ["report", "NAME"],
    ["run", "--source", "NAME"],
    ["run", "--source", "x.csv", "--output-dir", "NAME"],
    ["compile", "--output-dir", "NAME/x"],
    ["models", "list", "--registry", "NAME/x"],
    ["models", "list", "--registry", "s3://bucket/NAME"],
    ["compare", "NAME", "NAME"],
    ["recommend", "--model", "NAME", "--user", "1"],
    ["similar", "--model", "NAME", "--item", "1"],
    ["check", "--offline", "--config", "NAME"],
    ["check", "--offline", "-p", "source=NAME"],
    ["check", "--offline", "--name", "NAME"],
    ["check", "--offline", "--cron", "NAME", "--time-zone", "NAME"],
]
ENVIRONMENT = "platform: {target: kubeflow, host: 'http://127.0.0.1:9'}\nimages: {prefix: x/y, tag: z}\n"
CONFIGURATION = [
    "platform: null",
    "platform: {target: [kubeflow]}",
    "platform: {target: kubeflow, host: 'http://['}",
    "platform: {target: kubeflow, host: 'http://x:99999'}",
    'platform: {target: kubeflow, host: "http://a\\0b"}',
    f"{ENVIRONMENT}parameters: {{1: 2}}",
    f'{ENVIRONMENT}parameters: {{source: "a\\0b"}}',
    f'{ENVIRONMENT}parameters: {{source: "a\\ud800b"}}',
    f'{ENVIRONMENT}parameters: {{"sou\\0rce": a}}',
    f'{ENVIRONMENT}parameters: {{row_filter: "a\\udfff"}}',
    f"{ENVIRONMENT}parameters: {{seed: {'9' * 5000}}}",
    f"{ENVIRONMENT}parameters: {{seed: 0x{'f' * 5000}}}",
    f"{ENVIRONMENT}parameters: {{alpha: 1e400}}",
    f"{ENVIRONMENT}parameters: {{alpha: .nan}}",
    f"{ENVIRONMENT}parameters: {{source: {{a: b}}}}",
    f"{ENVIRONMENT}parameters: {{window_start: '9999-12-31T23:59:59-14:00'}}",
    f"{ENVIRONMENT}parameters: {{window_start: '0001-01-01T00:00:00+14:00'}}",
    f"{ENVIRONMENT}settings: {LONG}",
    f"{ENVIRONMENT}settings: /dev/null",
]
SETTINGS = [
    "null",
    "{cpu: '\u0663'}",
    "{cpu: '0.0'}",
    "{memory: '\u0663G'}",
    "{retries: true}",
    "{retries: 1.0}",
    "{secrets: {A: b}}",
    "{custom_job: {}}",
    "{custom_job: {machine_type: 'a-b', labels: {A: b}}}",
]


def attack(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return what a command writes to standard error, which must not be a bug."""
    code = run_command(wals, list(map(str, arguments)), "wals")
    error = capsys.readouterr().err
    assert code in (0, 1, 2)
    assert "bug:" not in error
    return error


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:12])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_name(
    command: list[str],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    attack(capsys, *(part.replace("NAME", name) for part in command))


@pytest.mark.parametrize("text", CONFIGURATION, ids=range(len(CONFIGURATION)))
def test_a_configuration(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text, "utf-8")
    attack(capsys, "check", "--offline", "--config", config)


@pytest.mark.parametrize("text", SETTINGS)
def test_settings(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"train: {text}\n", "utf-8")
    host = ("--target", "kubeflow", "--host", "http://127.0.0.1:9", "--image-prefix", "x/y")
    assert "train" in attack(capsys, "check", "--offline", *host, "--settings", settings) or text == "null"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\udcff"], ids=ascii)
@pytest.mark.parametrize(
    "model", [ExtractOptions, PrepareOptions, DeliverOptions], ids=lambda model: model.__name__
)
def test_texts_that_nothing_can_store_are_refused_by_every_step(model: type[Options], text: str) -> None:
    texts = [name for name, field in model.model_fields.items() if field.annotation is str]
    required = {"source": "x.csv"} if "source" in model.model_fields else {}
    for name in texts:
        with pytest.raises(InputError) as refused:
            model(**{**required, name: text})
        assert name in str(refused.value)
        str(refused.value).encode()


@pytest.mark.parametrize("argument", ["a\0b", "\udcff"], ids=ascii)
def test_a_job_refuses_them_in_one_line(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert task.main(["--data-type", "ratings", "--job-dir", "job", "--train-file", argument]) == 2
    assert capsys.readouterr().err.startswith("trainer.task: error: argument ")
