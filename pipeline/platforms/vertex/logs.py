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

from pipeline.platforms.google.credentials import REFUSED
from pipeline.platforms.network import REQUEST_SECONDS
from trainer.errors import WalsError, translated

_ENDPOINT = "https://logging.googleapis.com"
# The variable that gcloud uses for this purpose.
_OTHER_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"
_PAGE = 1000
# gcloud reads the number of a trial from either.
_TRIAL_LABELS = ("trial_id", "ml.googleapis.com/trial_id")


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
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    while True:
        page = _listed(session, project, request)
        for entry in page.get("entries", []):
            job, labels = entry["resource"]["labels"]["job_id"], entry.get("labels", {})
            trial = next(filter(None, (labels.get(name) for name in _TRIAL_LABELS)), "")
            text = entry.get("textPayload") or entry.get("jsonPayload", {}).get("message", "")
            for line in str(text).splitlines():
                yield JobLine(job, trial, line)
        # An empty page is not always the last one.
        if not page.get("nextPageToken"):
            return
        request["pageToken"] = page["nextPageToken"]


def _listed(session: AuthorizedSession, project: str, request: dict[str, Any]) -> dict[str, Any]:
    endpoint = os.environ.get(_OTHER_ENDPOINT, _ENDPOINT).rstrip("/")
    unreachable = "Cloud Logging cannot be reached; check the network and try again"
    with translated(
        ((requests.RequestException, auth_exceptions.TransportError), lambda _: WalsError(unreachable)),
        (auth_exceptions.GoogleAuthError, lambda _: WalsError(REFUSED)),
    ):
        answer = session.post(f"{endpoint}/v2/entries:list", json=request, timeout=REQUEST_SECONDS)
    if answer.status_code == requests.codes.forbidden:
        raise WalsError(f"access to the logs of {project} is denied; ask for roles/logging.viewer on it")
    if answer.status_code == requests.codes.unauthorized:
        raise WalsError(REFUSED)
    if not answer.ok:
        raise WalsError(f"Cloud Logging answers {answer.status_code} {answer.reason}")
    content: dict[str, Any] = answer.json()
    return content
