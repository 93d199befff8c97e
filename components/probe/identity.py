"""Who a step runs as: its user, and its account on the platform."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

from components.probe.findings import Finding, fix, ok, warning
from components.probe.network import Cloud

_KUBERNETES_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_CUSTOM_CODE_AGENT = "@gcp-sa-aiplatform-cc.iam.gserviceaccount.com"
_COMPUTE_DEFAULT = "-compute@developer.gserviceaccount.com"


def user() -> Iterator[Finding]:
    """Find the user and the groups of the process."""
    groups = ", ".join(map(str, sorted({os.getgid(), *os.getgroups()})))
    yield ok("user", f"uid {os.getuid()}, groups {groups}")


def account(cloud: Cloud | None, kubernetes_token: Path = _KUBERNETES_TOKEN) -> Iterator[Finding]:
    """Find the service accounts of the process, on Google Cloud and on Kubernetes.

    Args:
        cloud: what Google's metadata server says, or None.
        kubernetes_token: file in which Kubernetes gives a pod its token.
    """
    if kubernetes_token.exists():
        yield ok("account", f"Kubernetes {_subject(kubernetes_token.read_text('utf-8'))}")
    elif not cloud:
        yield ok("account", "not applicable: neither on Google Cloud nor on Kubernetes")
    if not cloud:
        return
    if not cloud.account:
        yield fix("account", "the machine has no service account", "set service_account")
    elif cloud.account.endswith(_CUSTOM_CODE_AGENT):
        yield fix(
            "account",
            f"{cloud.account} is Vertex AI's own agent, not the run's account",
            "set custom_job.service_account in the settings",
        )
    elif cloud.account.endswith(_COMPUTE_DEFAULT):
        yield warning(
            "account",
            f"{cloud.account} is the project's default, which often may do too much",
            "set service_account in the environment file",
        )
    else:
        yield ok("account", cloud.account)


def _subject(token: str) -> str:
    """Return whom a JSON Web Token is about, such as ``system:serviceaccount:kubeflow:pipeline-runner``."""
    payload = token.split(".")[1]
    content = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(content["sub"]).removeprefix("system:serviceaccount:")
