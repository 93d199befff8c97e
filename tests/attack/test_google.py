"""Hostile and slow answers in place of Cloud Logging's and Service Usage's: used, or refused in one line."""

import json
from datetime import UTC, datetime

import pytest
from google.auth.credentials import AnonymousCredentials

from components import answers as whole_answers
from components import limits
from pipeline.platforms.environments import Vertex
from pipeline.platforms.vertex import quotas
from pipeline.platforms.vertex.logs import job_lines
from tests.components.notify import receiver as receivers
from tests.components.notify.receiver import Answer, answers, receiver
from trainer.errors import WalsError

pytestmark = pytest.mark.attack

PLATFORM = Vertex(
    target="vertex", project="my-project", region="europe-west1", pipeline_root="gs://bucket/root"
)
NOT_AS_DOCUMENTED = "returned an unexpected response"
ENTRY = {"resource": {"labels": {"job_id": "7"}}, "textPayload": "epoch 1"}
HOSTILE = [
    (receivers.is_endless, "returned more than 1,048,576 bytes"),
    (receivers.is_slow, "did not answer in 1 s"),
    (receivers.drips, "did not answer in 1 s"),
    (receivers.hangs, "did not answer in 1 s"),
    (receivers.breaks_off, "cannot be reached"),
    (receivers.talks_nonsense, "cannot be reached"),
    *(
        (answers("200 OK", body=body), NOT_AS_DOCUMENTED)
        for body in (b"", b"<html>", b"[]", b"null", b"[" * 100_000, b'{"a":' * 100_000, b"\xff")
    ),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(whole_answers, "LARGEST_ANSWER", 1 << 20)


def read_logs(script: list[Answer], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with receiver(script) as server:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", server.url)
        since = datetime(2026, 1, 1, tzinfo=UTC)
        return [line.text for line in job_lines("my-project", AnonymousCredentials(), ["7"], since)]


def read_quota(answer: Answer, monkeypatch: pytest.MonkeyPatch) -> int:
    with receiver([answer]) as server:
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE", server.url)
        return quotas._limit(PLATFORM, AnonymousCredentials(), "aiplatform.googleapis.com/gpus")


def page(**content: object) -> Answer:
    return answers("200 OK", body=json.dumps(content).encode())


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        *HOSTILE,
        *(
            (page(entries=entries), NOT_AS_DOCUMENTED)
            for entries in (
                None,
                {},
                [None],
                [{}],
                [{**ENTRY, "resource": None}],
                [{**ENTRY, "labels": {"trial_id": None}}],
                [{**ENTRY, "jsonPayload": []}],
                [{**ENTRY, "textPayload": 3}],
            )
        ),
        (page(entries=[ENTRY], nextPageToken="again"), "returned the same page twice"),
    ],
)
def test_logs_that_are_none_are_refused_in_one_line(
    answer: Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WalsError, match="Cloud Logging") as refused:
        read_logs([answer], monkeypatch)
    assert problem in str(refused.value)


def test_logs_of_several_pages_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    script = [page(entries=[ENTRY], nextPageToken="2"), page(nextPageToken="3"), page(entries=[ENTRY])]
    assert read_logs(script, monkeypatch) == ["epoch 1"] * 2


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        *HOSTILE,
        *(
            (page(consumerQuotaLimits=limits), NOT_AS_DOCUMENTED)
            for limits in (
                None,
                {},
                [None],
                [{"quotaBuckets": None}],
                [{"quotaBuckets": [{"effectiveLimit": "many"}]}],
                [{"quotaBuckets": [{"effectiveLimit": None}]}],
                [{"quotaBuckets": [{"dimensions": [1]}]}],
            )
        ),
    ],
)
def test_a_quota_that_is_none_is_refused_in_one_line(
    answer: Answer, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WalsError) as refused:
        read_quota(answer, monkeypatch)
    assert problem in str(refused.value)


def test_a_quota_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = [{"effectiveLimit": "-1"}, {"effectiveLimit": "4", "dimensions": {"region": "europe-west1"}}]
    assert read_quota(page(consumerQuotaLimits=[{"quotaBuckets": buckets}]), monkeypatch) == 4
