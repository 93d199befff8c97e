"""Checking that the quotas of Vertex AI allow the GPUs that a run uses at the same time.

The quotas come from the Service Usage API: users of Vertex AI with their own credentials need its role
``serviceUsageConsumer`` anyway. The Cloud Quotas API would need another API and role.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

import requests
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import Credentials
from google.auth.transport.requests import AuthorizedSession
from pydantic import Field

from components.answers import bounded
from components.limits import TIMEOUT
from pipeline.platforms.backend import Gpus
from pipeline.platforms.environments import Vertex
from pipeline.platforms.findings import Findings
from pipeline.platforms.google.answers import Answer, typed
from pipeline.platforms.google.credentials import REFUSED
from trainer.errors import InputError, WalsError, translated

_ENDPOINT = "https://serviceusage.googleapis.com"
# The variable that gcloud uses for this purpose.
_OTHER_ENDPOINT = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE"
_SERVICE = "aiplatform.googleapis.com"
_UNLIMITED = -1

_INTERFACE = "Service Usage"


class _Bucket(Answer):
    dimensions: dict[str, str] = Field(default={})
    # Omitted if it is 0, like every zero.
    limit: int = Field(default=0, alias="effectiveLimit")


class _Limit(Answer):
    buckets: list[_Bucket] = Field(default=[], alias="quotaBuckets")


class _Metric(Answer):
    """A ``ConsumerQuotaMetric``."""

    limits: list[_Limit] = Field(default=[], alias="consumerQuotaLimits")


# Quotas have other names for GPUs than machines do.
_NAMES: Mapping[str, str] = {
    "NVIDIA_H100_80GB": "nvidia_h100",
    "NVIDIA_H100_MEGA_80GB": "nvidia_h100_mega",
    "NVIDIA_H200_141GB": "nvidia_h200",
}


def look_for_quotas(
    platform: Vertex, credentials: Credentials, gpus: Sequence[Gpus], findings: Findings
) -> None:
    """Note which quotas of the project are below what the steps of a run use.

    A quota bounds what the project uses in the region altogether; what other runs use is not known here.

    Args:
        platform: project and region.
        credentials: credentials of the user.
        gpus: GPUs that each step uses; none runs at the same time as another.
        findings: findings to add to; what the API refuses to tell is noted as unchecked.
    """
    users: dict[str, list[Gpus]] = {}
    for used in gpus:
        users.setdefault(quota_metric(used.accelerator, preemptible=used.preemptible), []).append(used)
    for metric, those in users.items():
        with findings.noted():
            limit = _limit(platform, credentials, metric)
            findings.problems += [
                InputError(
                    f"{used.step}.accelerator",
                    used.accelerator,
                    f"has a quota of {limit} in {platform.region}, below the {used.count} used at once",
                    " or ".join([f"request more of {metric}", *(f"lower {name}" for name in used.set_by)]),
                )
                for used in those
                if limit != _UNLIMITED and used.count > limit
            ]


def quota_metric(accelerator: str, *, preemptible: bool) -> str:
    """Return the metric that the quota of an accelerator limits.

    Args:
        accelerator: Vertex AI's name of the accelerator.
        preemptible: whether it is Spot capacity, which has a quota of its own.
    """
    plain = accelerator.replace("_TESLA_", "_").lower()
    kind = "preemptible_" if preemptible else ""
    return f"{_SERVICE}/custom_model_training_{kind}{_NAMES.get(accelerator, plain)}_gpus"


def _limit(platform: Vertex, credentials: Credentials, metric: str) -> int:
    """Return the limit of a metric in the platform's region; -1 if there is none.

    Raises:
        WalsError: it cannot be read.
    """
    endpoint = os.environ.get(_OTHER_ENDPOINT, _ENDPOINT).rstrip("/")
    # The basic view omits regions whose limit is the default.
    address = (
        f"{endpoint}/v1beta1/projects/{platform.project}/services/{_SERVICE}"
        f"/consumerQuotaMetrics/{quote(metric, safe='')}?view=FULL"
    )
    unread = f"the quota {metric} could not be read"
    with translated(
        (
            (requests.RequestException, auth_exceptions.TransportError),
            lambda _: WalsError(f"{unread}: Service Usage cannot be reached"),
        ),
        (auth_exceptions.GoogleAuthError, lambda _: WalsError(REFUSED)),
    ):
        session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        answer = bounded(session, _INTERFACE).get(address, timeout=TIMEOUT)
        if answer.status_code == requests.codes.forbidden:
            raise WalsError(
                f"{unread}: access is denied; ask for roles/serviceusage.serviceUsageConsumer on "
                f"{platform.project}, and for the API serviceusage.googleapis.com to be enabled"
            )
        if not answer.ok:
            raise WalsError(f"{unread}: Service Usage answers {answer.status_code} {answer.reason}")
        limits = [*_limits(typed(answer.content, _Metric, _INTERFACE), platform.region)]
    return min((limit for limit in limits if limit != _UNLIMITED), default=_UNLIMITED)


def _limits(metric: _Metric, region: str) -> Iterator[int]:
    """Yield every limit of a metric that applies to a region."""
    for limit in metric.limits:
        # The buckets that are for all dimensions come first, those for a region later.
        applicable = [bucket for bucket in limit.buckets if bucket.dimensions in ({}, {"region": region})]
        if applicable:
            yield applicable[-1].limit
