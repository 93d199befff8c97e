"""Names of what is in BigQuery, checked before anything is asked of it."""

import re
from collections.abc import Iterator

from trainer.errors import InputError

# Of an organisation's domain, as in example.com:my-project, or of none.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*:)?[a-z][a-z0-9-]*[a-z0-9]"
_DEFAULT_TABLE = "staging.recommendation_training"

SCHEMES = ("gs", "s3", "minio")
"""Of the addresses in object stores: Cloud Storage, S3, and S3 as Kubeflow names its own."""


def table_of(source: str, data_type: str) -> tuple[str, str]:
    """Return the project of a ``bq://`` source and its table, or of a query's the project twice.

    Raises:
        InputError: the source is of another form.
    """
    name = source.removeprefix("bq://")
    if data_type == "user_ratings" and re.fullmatch(_PROJECT, name):
        name = f"{name}.{_DEFAULT_TABLE}"
    is_query = data_type == "query"
    parts = "" if is_query else r"\.[\w-]+\.[\w-]+\*?"
    found = re.fullmatch(f"({_PROJECT}){parts}", name)
    if not found:
        form = "bq://PROJECT" if is_query else "bq://PROJECT.DATASET.TABLE"
        raise InputError("source", source, "is not a BigQuery table", f"give {form}")
    return found.group(1), name


def name_problems(*, project: str, location: str, staging_dataset: str) -> Iterator[InputError]:
    """Yield the problems of names that are given and cannot be such names."""
    for field, value, form, example in (
        ("project", project, _PROJECT, "my-project"),
        ("location", location, r"[A-Za-z0-9-]+", "EU or europe-west1"),
        ("staging_dataset", staging_dataset, rf"{_PROJECT}\.\w+", "my-project.my_dataset"),
    ):
        if value and not re.fullmatch(form, value):
            yield InputError(field, value, "is not a valid name", f"give one such as {example}")
