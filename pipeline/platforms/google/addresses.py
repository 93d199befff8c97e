"""Addresses of Google Cloud, for which its libraries are not needed."""

import re

REGISTRY_TEMPLATE = re.compile(r"https?://\S+/[\w.-]+/sha256:[0-9a-f]{64}")
"""Address of a version in Artifact Registry."""
