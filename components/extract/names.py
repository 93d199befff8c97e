"""Names in BigQuery and schemes of stores, checked before any request is made."""

import re
from collections.abc import Iterator

from trainer.errors import InputError

# With or without an organisation's domain, as in example.com:my-project.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*:)?[a-z][a-z0-9-]*[a-z0-9]"
_DEFAULT_TABLE = "staging.recommendation_training"

SCHEMES = ("gs", "s3", "minio")
"""Schemes of addresses in object stores: Cloud Storage, S3, and S3 in the spelling of Kubeflow."""


def table_of(source: str, data_type: str) -> tuple[str, str]:
    """Return the project and the table of a ``bq://`` source; the project twice for a query.

    Raises:
        InputError: the source has another form.
    """
    name = source.removeprefix("bq://")
    if data_type == "user_ratings" and re.fullmatch(_PROJECT, name):
        name = f"{name}.{_DEFAULT_TABLE}"
    is_query = data_type == "query"
    parts = "" if is_query else r"\.[\w-]+\.[\w-]+\*?"
    match = re.fullmatch(f"({_PROJECT}){parts}", name)
    if not match:
        form = "bq://PROJECT" if is_query else "bq://PROJECT.DATASET.TABLE"
        raise InputError("source", source, "is not a BigQuery table", f"give {form}")
    return match.group(1), name


def name_problems(*, project: str, location: str, staging_dataset: str) -> Iterator[InputError]:
    """Yield the problems of names that are set but not valid."""
    for field, value, form, example in (
        ("project", project, _PROJECT, "my-project"),
        ("location", location, r"[A-Za-z0-9-]+", "EU or europe-west1"),
        ("staging_dataset", staging_dataset, rf"{_PROJECT}\.\w+", "my-project.my_dataset"),
    ):
        if value and not re.fullmatch(form, value):
            yield InputError(field, value, "is not a valid name", f"give one such as {example}")
