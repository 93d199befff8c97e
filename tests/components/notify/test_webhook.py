"""Sending to a webhook: every kind of receiver, and an address that nobody else learns."""

import base64
import json
import logging

import pytest

from components.notify import webhook
from tests.components.notify import receiver as receivers
from tests.components.notify.receiver import Answer, answers, receiver
from tests.pipeline.serving import Call, RefusedError, serving
from trainer.errors import WalsError

CONTENT = {"text": "wals-train failed"}
SECRET = "projects/my-project/secrets/webhook/versions/latest"
WELL = answers("200 OK", body=b"ok")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_TIMEOUT", (0.3, 0.3))
    monkeypatch.setattr(webhook, "_SECONDS", 2.0)
    monkeypatch.setattr(webhook, "_PAUSES", (0.0, 0.0))


@pytest.mark.parametrize(
    ("script", "attempts"),
    [
        pytest.param([WELL], 1, id="at once"),
        pytest.param([answers("204 No Content")], 1, id="without a body"),
        pytest.param([answers("500 Oops"), answers("503 Busy"), WELL], 3, id="after two errors"),
        pytest.param([answers("429 Slow down", "Retry-After: 0"), WELL], 2, id="after a limit"),
        pytest.param([receivers.hangs, WELL], 2, id="after hanging"),
        pytest.param([receivers.breaks_off, WELL], 2, id="after breaking off"),
        pytest.param([receivers.is_endless], 1, id="with an endless body"),
    ],
)
def test_a_message_arrives(script: list[Answer], attempts: int) -> None:
    with receiver(script) as found:
        webhook.send(found.url, CONTENT)
    assert found.messages == [CONTENT] * attempts
    assert "Content-Type: application/json" in found.requests[0][0]


@pytest.mark.parametrize(
    ("answer", "attempts", "problem"),
    [
        (answers("500 Oops"), 3, "it answers 500"),
        (answers("404 Not Found", body=b"no_service"), 1, "it answers 404: no_service"),
        (answers("403 Forbidden", body=b"sesame"), 1, "it answers 403"),
        (answers("400 Bad", body=b"<h1>/services/T0/B0/sesame</h1>"), 1, "it answers 400"),
        (answers("302 Found"), 1, "it answers 302"),
        (receivers.hangs, 3, "it cannot be reached (ReadTimeout)"),
        (receivers.drips, 1, "it did not answer in 2 s"),
        (receivers.breaks_off, 3, "it cannot be reached (ConnectionError)"),
        (receivers.talks_nonsense, 3, "it cannot be reached (ConnectionError)"),
    ],
)
def test_a_message_that_is_not_accepted_has_one_line_without_the_address(
    answer: Answer, attempts: int, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "components")
    with receiver([answer]) as found, pytest.raises(WalsError) as refused:
        webhook.send(found.url, CONTENT)
    assert len(found.requests) == attempts
    assert str(refused.value) == problem
    assert "sesame" not in caplog.text


def test_a_redirect_carries_the_message_nowhere() -> None:
    with receiver() as elsewhere:
        moved = answers("307 Moved", f"Location: {elsewhere.url}")
        with (
            receiver([moved]) as found,
            pytest.raises(WalsError, match="redirects are not followed"),
        ):
            webhook.send(found.url, CONTENT)
    assert len(found.requests) == 1
    assert not elsewhere.requests


def test_a_receiver_that_is_not_there_has_one_line_without_the_address() -> None:
    with receiver() as found:
        pass
    with pytest.raises(WalsError) as refused:
        webhook.send(found.url, CONTENT)
    assert str(refused.value) == "it cannot be reached (ConnectionError)"
    assert refused.value.__suppress_context__


def test_the_address_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(webhook.VARIABLE, raising=False)
    assert webhook.address("") == ""
    monkeypatch.setenv(webhook.VARIABLE, " https://hooks.example.com/services/x\n")
    assert webhook.address("") == "https://hooks.example.com/services/x"


@pytest.mark.parametrize(
    "value",
    ["sesame", "file:///etc/sesame", "https://", "https://[sesame", "https://a:b:sesame", "http://é/sesame"],
)
def test_another_value_is_refused_without_showing_it(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.VARIABLE, value)
    with pytest.raises(WalsError) as refused:
        webhook.address("")
    assert str(refused.value) == "WALS_WEBHOOK: does not contain an address that starts with https://"


def secret_of(answer: object, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what is read of a secret for which Secret Manager gives an answer."""

    def give(_: Call) -> object:
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    routes = [("GET", f"/v1/{SECRET}:access", give)]
    with serving(routes, lambda _, message: {"error": message}, []) as address:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", f"{address}/")
        return webhook.address(SECRET)


def payload(data: bytes) -> dict[str, object]:
    return {"name": SECRET, "payload": {"data": base64.b64encode(data).decode()}}


def test_the_address_is_in_secret_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.VARIABLE, "https://not.this.one")
    url = "https://hooks.example.com/services/x"
    assert secret_of(payload(url.encode() + b"\n"), monkeypatch) == url


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (RefusedError(403, "no"), "access is denied; give the run's service account roles/secretmanager"),
        (RefusedError(404, "no"), "Secret Manager answers 404"),
        ("<html>sesame</html>", "the response is not a secret"),
        ({"payload": {"data": "c2VzYW1l*"}}, "the response is not a secret"),
        (["sesame"], "the response is not a secret"),
        (payload("é sesame".encode()), "the response is not a secret"),
        ({"payload": {"data": "a" * 1_000_000}}, "it is larger than a secret can be"),
        (payload(b"sesame"), "does not contain an address"),
        (payload(b""), "is empty"),
    ],
)
def test_a_secret_that_cannot_be_used_has_one_line_without_its_text(
    answer: object, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WalsError) as refused:
        secret_of(answer, monkeypatch)
    assert problem in str(refused.value)
    assert SECRET in str(refused.value)
    assert "sesame" not in str(refused.value)


def test_a_secret_manager_that_hangs_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("components.secret_manager._ANSWER_SECONDS", 0.5)
    with receiver([receivers.hangs]) as found:
        monkeypatch.setenv(
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", found.url.partition("/services")[0]
        )
        with pytest.raises(WalsError, match="cannot be read: Secret Manager: did not answer in "):
            webhook.address(SECRET)


def test_the_message_is_json_that_every_receiver_reads() -> None:
    with receiver() as found:
        webhook.send(found.url, {"text": "für \ud800 \x00"})
    assert json.loads(found.requests[0][1].decode("ascii")) == {"text": "für \ud800 \x00"}
