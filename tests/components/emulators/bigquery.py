"""Start the emulator of BigQuery, with less work for each of its many small queries."""

import sys

import duckdb

connect = duckdb.connect


def connect_with_one_thread(*arguments, config=None, **options):
    """Connect without the threads that cost more than they save on tables of a few rows."""
    return connect(*arguments, config={**(config or {}), "threads": 1}, **options)


if __name__ == "__main__":
    duckdb.connect = connect_with_one_thread
    # DuckDB looks for it with every query, and it is not installed.
    sys.modules["pandas"] = None
    from local_bigquery.cli import main

    sys.exit(main())
