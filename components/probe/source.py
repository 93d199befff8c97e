"""The sources and the staging dataset: may the step read the ones, and create tables in the other."""

from collections.abc import Iterator

from components.extract.options import ExtractOptions
from components.probe.findings import Finding, fix, ok
from trainer.errors import InputError, WalsError

_READ = {
    "bq": "give the account roles/bigquery.jobUser on the project and dataViewer on the dataset",
    "gs": "give the account roles/storage.objectViewer on the bucket",
}
_REACH = "let the step reach it"


def source(options: ExtractOptions) -> Iterator[Finding]:
    """Look at the sources as the extraction does, without reading their rows.

    Args:
        options: options of the extraction.
    """
    scheme = options.source.partition("://")[0]
    options = options.with_window()
    try:
        if scheme == "bq":
            # Google's libraries are slow to import, and files do not need them.
            from components.extract.bigquery import look_at
        else:
            from components.extract.files import look_at
        yield ok("source", f"{options.source} can be read; {look_at(options)}")
    except WalsError as error:
        yield _failed("source", error, _READ.get(scheme, _REACH))
    yield from _items(options)
    if options.staging_dataset:
        yield from _staging(options)


def _items(options: ExtractOptions) -> Iterator[Finding]:
    # Slow to import, as in `source`.
    from components.extract.catalogue import given
    from components.extract.catalogue import look_at as look_at_items

    for field in given(options):
        place = getattr(options, field)
        try:
            yield ok(field, f"{place} can be read; {look_at_items(field, options)}")
        except WalsError as error:
            yield _failed(field, error, _READ.get(place.partition("://")[0], _REACH))


def _staging(options: ExtractOptions) -> Iterator[Finding]:
    from components.extract.bigquery import try_staging

    try:
        try_staging(options)
    except WalsError as error:
        yield _failed("staging", error, "give the account roles/bigquery.dataEditor on the staging dataset")
    else:
        yield ok("staging", f"tables can be created in {options.staging_dataset} and deleted again")


def _failed(check: str, error: WalsError, remedy: str) -> Finding:
    """Return the finding for an error, which may already say what to do."""
    if isinstance(error, InputError) and hasattr(error, "remedy"):
        return fix(check, f"{str(error).removesuffix(f'; {error.remedy}')}", error.remedy)
    return fix(check, str(error), remedy)
