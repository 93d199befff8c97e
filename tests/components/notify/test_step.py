"""The step: whom it tells, and that nothing but its own folder makes it fail."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.notify import facts, step
from components.notify.options import NotifyOptions
from components.notify.step import notify
from tests.components.notify.examples import FAILED_TASKS, evaluation, status, write_evaluation
from tests.components.notify.receiver import Receiver, answers, receiver
from trainer.errors import InputError


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of the step's artifact, in a run whose model was judged."""
    write_evaluation(tmp_path / "run" / "evaluate_1" / "evaluation", evaluation("blessed"))
    return tmp_path / "run" / "notify_2" / "notification"


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiver() as found:
        monkeypatch.setenv("WALS_WEBHOOK", found.url)
        yield found


def tell(own: Path, state: str = "SUCCEEDED", **options: Any) -> dict[str, Any]:
    """Run the step, and return the content of its artifact."""
    told = status(state, FAILED_TASKS if state == "FAILED" else None)
    metadata = notify(NotifyOptions(**options), status=told, pipeline="wals-train", notification=own)
    content: dict[str, Any] = json.loads((own / "_manifest.json").read_text("utf-8"))
    assert {**content, **metadata} == {**content, "checksum": metadata["checksum"]}
    return content


@pytest.mark.parametrize(
    ("notify_on", "state", "outcome", "is_told"),
    [
        ("always", "SUCCEEDED", "blessed", True),
        ("problems", "SUCCEEDED", "blessed", False),
        ("problems", "SUCCEEDED", "rejected", True),
        ("problems", "FAILED", "blessed", True),
        ("problems", "CANCELLED", "blessed", True),
        ("problems", "RUNNING", "blessed", True),
        ("never", "FAILED", "rejected", False),
    ],
)
def test_only_runs_that_are_asked_for_are_told(
    notify_on: str, state: str, outcome: str, is_told: bool, own: Path, webhook: Receiver
) -> None:
    write_evaluation(own.parents[1] / "evaluate_1" / "evaluation", evaluation(outcome))
    content = tell(own, state, notify_on=notify_on)
    assert len(webhook.requests) == is_told
    assert (content["sent"], content["reason"]) == (is_told, "" if is_told else f"notify_on is {notify_on}")
    assert webhook.messages == ([content["message"]] if is_told else [])


def test_a_webhook_that_refuses_is_a_warning(
    own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiver([answers("404 Not Found", body=b"no_service")]) as found:
        monkeypatch.setenv("WALS_WEBHOOK", found.url)
        content = tell(own)
    assert content["reason"] == "it answers 404: no_service"
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["the webhook was not notified: it answers 404: no_service"]
    assert "sesame" not in caplog.text
    assert "sesame" not in json.dumps(content)


def test_an_address_that_cannot_be_used_is_a_warning(
    own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WALS_WEBHOOK", "sesame")
    assert "does not contain an address" in tell(own)["reason"]
    assert "sesame" not in caplog.text


def test_without_a_webhook_the_outcome_is_in_the_log(
    own: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.delenv("WALS_WEBHOOK", raising=False)
    assert tell(own)["reason"] == "no webhook is configured"
    assert [record.getMessage() for record in caplog.records] == [
        "wals-train succeeded: the new model is blessed",
        "no webhook was notified: no webhook is configured",
    ]


def slow(*_: Any) -> Any:
    time.sleep(30)


def defective(*_: Any) -> Any:
    raise AttributeError("a defect")


@pytest.mark.parametrize("finding", [slow, defective])
def test_what_cannot_be_found_out_keeps_nobody_from_hearing_of_a_failure(
    finding: Any, own: Path, webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "_from_folders", finding)
    monkeypatch.setattr(step, "_GATHER_SECONDS", 0.2)
    tell(own, "FAILED")
    (message,) = webhook.messages
    assert message["text"].startswith("wals-train failed\nThe DAG failed because some tasks failed.")


def test_a_pod_of_a_server_that_does_not_answer_is_told_of_by_its_state(
    own: Path, webhook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "notify")
    with receiver([answers("503 Busy")]) as server:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.url)
        tell(own, "FAILED")
    (message,) = webhook.messages
    assert message["text"].startswith("wals-train failed\n")


def test_a_repeated_attempt_replaces_the_artifact(own: Path, webhook: Receiver) -> None:
    assert tell(own) == tell(own)


@pytest.mark.parametrize(
    "secret",
    ["projects/p/secrets/s", "https://hooks.example.com/x", "projects/p/secrets/s/versions/1/../../x", "s\n"],
)
def test_a_secrets_name_that_is_none_is_refused(secret: str) -> None:
    with pytest.raises(InputError, match="webhook_secret"):
        NotifyOptions(webhook_secret=secret)
