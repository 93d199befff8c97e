"""The notification at the end of real runs on this machine, each step in its own process."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler, dsl

from components.notify.component import notify
from components.notify.step import SCHEMA
from pipeline.local.runner import run_compiled
from tests.components.notify.examples import REASON
from tests.components.notify.receiver import Receiver, receiver
from trainer.errors import WalsError


@dsl.component(base_image="none", packages_to_install=[], install_kfp_package=False)
def evaluate(evaluation: dsl.Output[dsl.Artifact]) -> None:
    """Judge a model."""
    from pathlib import Path

    from tests.components.notify import examples

    examples.write_evaluation(Path(evaluation.path), examples.evaluation("blessed"))


@dsl.component(base_image="none", packages_to_install=[], install_kfp_package=False)
def train(how: str) -> None:
    """Succeed, fail, or be killed."""
    import os
    import signal

    from components.runtime import run_step
    from trainer.errors import InputError
    from trainer.options import Options

    def step(_: Options) -> None:
        if how == "fails":
            raise InputError("alpha", 3, "<!here> is too large", "give a smaller one")
        if how == "is killed":
            os.kill(os.getpid(), signal.SIGKILL)

    run_step(step, Options, {})


@dsl.pipeline(name="wals-small")
def small(how: str) -> None:
    told = notify(pipeline="wals-small")
    with dsl.ExitHandler(told):
        judged = evaluate()
        train(how=how).after(judged)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spec") / "small.yaml"
    compiler.Compiler().compile(small, str(path))
    return path


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as found:
        monkeypatch.setenv("WALS_WEBHOOK", found.url)
        yield found


def run(spec: Path, folder: Path, **arguments: Any) -> str:
    """Run the pipeline; return the error line it ends with, or ""."""
    try:
        run_compiled(spec, arguments, folder, lambda _: None)
    except WalsError as error:
        return str(error)
    return ""


def notification(folder: Path) -> Any:
    """Return the artifact of a run."""
    (manifest,) = folder.glob("steps/*/notify/notification/_manifest.json")
    content = json.loads(manifest.read_text("utf-8"))
    assert (content["schema"], content["schema_version"]) == SCHEMA
    return content


def test_a_good_run_is_told_and_what_was_told_is_kept_without_the_address(
    spec: Path, tmp_path: Path, webhook: Receiver
) -> None:
    assert not run(spec, tmp_path, how="succeeds")
    (message,) = webhook.messages
    assert message["text"].startswith(f"wals-small succeeded: the new model is blessed\n{REASON}\n")
    assert {key: notification(tmp_path)[key] for key in ("state", "sent", "reason", "message")} == {
        "state": "succeeded",
        "sent": True,
        "reason": "",
        "message": message,
    }
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "run.log" in everything
    assert not [path for path in everything if b"sesame" in path.read_bytes()]
    assert not [*tmp_path.rglob("wals-error.txt")]


@pytest.mark.parametrize(
    ("how", "line", "error"),
    [
        (
            "fails",
            "train: wals-error[2] alpha 3: &lt;!here&gt; is too large; give a smaller one",
            "alpha 3: <!here> is too large; give a smaller one",
        ),
        (
            "is killed",
            "train: ended without an error line: it was stopped, ran out of memory",
            "Inner task failed: 'train'",
        ),
    ],
)
def test_a_failed_run_is_told_with_the_steps_own_line(
    how: str, line: str, error: str, spec: Path, tmp_path: Path, webhook: Receiver
) -> None:
    # The run ends with its step's error, not with anything of the notification's.
    assert error in run(spec, tmp_path, how=how)
    (message,) = webhook.messages
    assert message["text"].startswith("wals-small failed\n")
    assert line in message["text"]
    assert notification(tmp_path)["state"] == "failed"
