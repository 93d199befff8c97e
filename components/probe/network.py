"""The network: Google's metadata server, the clock, and the services that a step calls."""

import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from components.probe.findings import Finding, fix, ok, warning
from components.train.options import CHAMPION

SECONDS = 3.0
"""Longest wait for a connection or an answer."""

_METADATA = "metadata.google.internal"
# A token is refused if the clock is minutes away; a difference of seconds only confuses logs and snapshots.
_FEW_SECONDS, _MANY_SECONDS = 5, 60


@dataclass(frozen=True)
class Cloud:
    """What Google Cloud's metadata server says about the machine.

    Attributes:
        account: email address of the service account.
        region: region of the machine.
        offset: seconds by which the machine's clock is ahead; None if the answer has no date.
    """

    account: str
    region: str
    offset: float | None


def google_cloud(host: str = "") -> Cloud | None:
    """Return what the metadata server says; None if the machine is not on Google Cloud.

    Args:
        host: ``host:port`` of the server; by default the one that Google's own libraries ask.
    """
    address = host or os.environ.get("GCE_METADATA_HOST", _METADATA)
    offsets: list[float | None] = []

    def answer(path: str) -> str:
        connection = http.client.HTTPConnection(address, timeout=SECONDS)
        try:
            connection.request(
                "GET", f"/computeMetadata/v1/instance/{path}", headers={"Metadata-Flavor": "Google"}
            )
            response = connection.getresponse()
            text = response.read().decode().strip()
        finally:
            connection.close()
        offsets.append(_offset(response.headers.get("Date")))
        return text if response.status == http.client.OK else ""

    try:
        account = answer("service-accounts/default/email")
        zone = answer("zone").rpartition("/")[2]
    except (OSError, http.client.HTTPException):
        return None
    return Cloud(account, zone.rpartition("-")[0], offsets[0])


def services(step: str, options: Any, cloud: Cloud | None) -> dict[str, bool]:
    """Return the addresses that a step calls, and whether it fails without each.

    Args:
        step: name of the step.
        options: its options; see `components.probe.step.probe`.
        cloud: what the metadata server says, or None.
    """
    # The variable that Google's client takes for an emulator.
    storage = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com")
    called: dict[str, bool] = {}
    if cloud and cloud.region:
        # No step requires them, but logs, mounts and the launcher of a custom job do.
        called |= {storage: False, f"https://{cloud.region}-aiplatform.googleapis.com": False}
    in_bigquery = step == "extract" and options.source.startswith("bq://")
    staged = step == "prepare" and options.staging_dataset
    if (in_bigquery or staged) and "BIGQUERY_EMULATOR_HOST" not in os.environ:
        called |= {"https://bigquery.googleapis.com": True, "https://bigquerystorage.googleapis.com": True}
    for place in _places(step, options):
        if place.startswith("gs://"):
            called[storage] = True
        if place.startswith(("s3://", "minio://")) and "AWS_ENDPOINT_URL" in os.environ:
            called[os.environ["AWS_ENDPOINT_URL"]] = True
    return called


def _places(step: str, options: Any) -> Iterator[str]:
    """Yield the files and folders that a step reads or writes besides its artifacts; some may be ""."""
    if step == "extract":
        yield options.source
    if step == "train":
        yield options.checkpoint_dir
        yield options.registry if options.warm_start == CHAMPION else options.warm_start
    if step == "evaluate":
        yield options.registry


def egress(called: Mapping[str, bool]) -> Iterator[Finding]:
    """Connect to services.

    Args:
        called: addresses, and whether the step fails without each.
    """
    for address, is_needed in called.items():
        host = urlsplit(address).hostname
        try:
            _date(address)
        except OSError as error:
            problem = fix if is_needed else warning
            yield problem("egress", f"{host} cannot be reached: {_reason(error)}", _remedy(error))
        else:
            yield ok("egress", f"{host} answers")


def clock(cloud: Cloud | None, addresses: Iterable[str]) -> Iterator[Finding]:
    """Compare the clock with the metadata server's, or with that of the first address that answers."""
    offset = cloud.offset if cloud else None
    for address in addresses:
        if offset is not None:
            break
        try:
            offset = _offset(_date(address))
        except OSError:
            continue
    if offset is None:
        yield ok("clock", "not applicable: no server to compare it with")
    elif abs(offset) <= _FEW_SECONDS:
        # Not to the second, so that steps that find the same share a line.
        yield ok("clock", f"right to {_FEW_SECONDS} s")
    else:
        problem = fix if abs(offset) > _MANY_SECONDS else warning
        yield problem("clock", f"{offset:+.0f} s from the server's", "set the node's clock, by NTP")


def _date(address: str) -> str | None:
    """Return the date with which an address answers, whatever else it answers; through a proxy if one is set.

    Raises:
        OSError: it cannot be reached.
    """
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - one of `services`
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            date: str | None = answer.headers.get("Date")
    except urllib.error.HTTPError as refused:
        date = refused.headers.get("Date")
    except http.client.HTTPException as error:
        raise OSError(f"the answer is not HTTP ({error!r})") from error
    return date


def _offset(date: str | None) -> float | None:
    """Return by how many seconds this clock is ahead of an HTTP date, whose fractions are cut off."""
    if not date:
        return None
    return (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds() - 0.5


def _reason(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error)


def _remedy(error: OSError) -> str:
    text = _reason(error).lower()
    if "certificate" in text or "ssl" in text:
        return "let the service's own certificate through the proxy"
    if "name" in text or "address" in text:
        return "give the network DNS for googleapis.com, such as Private Google Access"
    return "open HTTPS to it in the firewall, or turn on Private Google Access"
