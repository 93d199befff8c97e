"""Names in BigQuery and schemes of stores, checked before any request is made."""

import re

from trainer.errors import InputError

# With or without an organisation's domain, as in example.com:my-project.
_PROJECT = r"(?:[a-z0-9][a-z0-9.-]*:)?[a-z][a-z0-9-]*[a-z0-9]"
_DEFAULT_TABLE = "staging.recommendation_training"

ITEM_SOURCES = ("items", "blocked_items", "available_items")
"""Options that name a source of items, or a list of them."""

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


def check_project(name: str) -> None:
    """Refuse a text that is neither a Google Cloud project ID nor ""."""
    _check_name("project", name, _PROJECT, "project ID", "my-project")


def check_location(name: str) -> None:
    """Refuse a text that is neither a location of BigQuery nor ""."""
    _check_name("location", name, r"[A-Za-z0-9-]+", "location", "EU or europe-west1")


def check_dataset(name: str) -> None:
    """Refuse a text that is neither ``project.dataset`` nor ""."""
    _check_name("dataset", name, rf"{_PROJECT}\.\w+", "dataset", "my-project.my_dataset")


def check_scheme(source: str) -> None:
    """Refuse a source that is empty, or an address that is not in BigQuery or a supported store."""
    scheme, separator, path = source.rpartition("://")
    if scheme != "bq" and (
        not source.strip() or (separator and (scheme not in SCHEMES or not path.strip("/")))
    ):
        raise InputError(
            "source",
            source,
            "is not a readable source",
            "give files, or an address with gs://, s3:// or bq://",
        )


def check_place(source: str) -> None:
    """Refuse a text that is neither a file, nor an address in a supported store, nor a table, nor ""."""
    if source.startswith("bq://"):
        table_of(source, "")
    elif source:
        check_scheme(source)


def _check_name(field: str, name: str, form: str, what: str, example: str) -> None:
    if name and not re.fullmatch(form, name):
        raise InputError(field, name, f"is not a valid {what}", f"give one such as {example}")
