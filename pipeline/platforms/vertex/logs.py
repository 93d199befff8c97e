"""The output of jobs on Vertex AI, from Cloud Logging."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from pydantic import Field

from components.answers import bounded
from components.limits import REQUEST_SECONDS
from pipeline.platforms.google.answers import Answer, typed
from pipeline.platforms.google.credentials import REFUSED
from trainer.errors import WalsError, translated

_NAME = "Cloud Logging"
_ENDPOINT = "https://logging.googleapis.com"
# The variable that gcloud uses for this purpose.
_OTHER_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"
_PAGE = 1000
# gcloud reads the number of a trial from either.
_TRIAL_LABELS = ("trial_id", "ml.googleapis.com/trial_id")


class _ResourceLabels(Answer):
    job_id: str


class _Resource(Answer):
    labels: _ResourceLabels


class _Entry(Answer):
    resource: _Resource
    labels: dict[str, str] = Field(default={})
    text_payload: str = Field(default="", alias="textPayload")
    json_payload: dict[str, Any] = Field(default={}, alias="jsonPayload")


class _Page(Answer):
    entries: list[_Entry] = Field(default=[])
    next_page_token: str = Field(default="", alias="nextPageToken")


@dataclass(frozen=True)
class JobLine:
    """A line of a job's output.

    Attributes:
        job: number of the job.
        trial: number of the trial that wrote it, in a tuning job; empty in others.
        text: the line, without its line break.
    """

    job: str
    trial: str
    text: str


def job_lines(
    project: str, credentials: Credentials, jobs: Sequence[str], since: datetime
) -> Iterator[JobLine]:
    """Yield what jobs wrote, ordered by time.

    Args:
        project: project of the jobs.
        credentials: credentials with permission to read its logs.
        jobs: numbers of custom jobs or tuning jobs; at least one.
        since: a time before the jobs began, which limits the search through the project's logs.

    Raises:
        WalsError: Cloud Logging cannot be queried.
    """
    numbers = " OR ".join(f'"{job}"' for job in jobs)
    request: dict[str, Any] = {
        "resourceNames": [f"projects/{project}"],
        "filter": f'resource.type="ml_job" AND resource.labels.job_id=({numbers})'
        f' AND timestamp>="{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"',
        "orderBy": "timestamp asc",
        "pageSize": _PAGE,
    }
    session = bounded(AuthorizedSession(credentials), _NAME)  # type: ignore[no-untyped-call]
    tokens = set[str]()
    while True:
        page = _listed(session, project, request)
        for entry in page.entries:
            trial = next(filter(None, (entry.labels.get(name) for name in _TRIAL_LABELS)), "")
            text = entry.text_payload or entry.json_payload.get("message", "")
            for line in str(text).splitlines():
                yield JobLine(entry.resource.labels.job_id, trial, line)
        # An empty page is not always the last one.
        token = page.next_page_token
        if not token:
            return
        if token in tokens:
            raise WalsError(f"{_NAME} returned the same page twice; try again")
        tokens.add(token)
        request["pageToken"] = token


def _listed(session: AuthorizedSession, project: str, request: dict[str, Any]) -> _Page:
    endpoint = os.environ.get(_OTHER_ENDPOINT, _ENDPOINT).rstrip("/")
    unreachable = f"{_NAME} cannot be reached; check the network and try again"
    with translated(
        ((requests.RequestException, auth_exceptions.TransportError), lambda _: WalsError(unreachable)),
        (auth_exceptions.GoogleAuthError, lambda _: WalsError(REFUSED)),
    ):
        answer: requests.Response = session.post(
            f"{endpoint}/v2/entries:list", json=request, timeout=REQUEST_SECONDS
        )
    if answer.status_code == requests.codes.forbidden:
        raise WalsError(f"access to the logs of {project} is denied; ask for roles/logging.viewer on it")
    if answer.status_code == requests.codes.unauthorized:
        raise WalsError(REFUSED)
    if not answer.ok:
        raise WalsError(f"{_NAME} answers {answer.status_code} {answer.reason}")
    return typed(answer.content, _Page, _NAME)
