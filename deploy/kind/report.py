"""Fetch the report of a run from the cluster's object store; the keys are in AWS's usual variables."""

import sys
from pathlib import Path

from pyarrow import fs

BUCKET = "mlpipeline"


def main() -> int:
    """Read the store's address, the run's id and the output file from the arguments; return the exit code."""
    address, run_id, file = sys.argv[1:]
    store = fs.S3FileSystem(endpoint_override=address, scheme="http", region="us-east-1")
    try:
        artifacts = store.get_file_info(
            fs.FileSelector(f"{BUCKET}/v2/artifacts/wals-train/{run_id}", recursive=True)
        )
        # A retried step leaves a folder for each attempt.
        reports = sorted(
            (artifact for artifact in artifacts if artifact.base_name == "report"),
            key=lambda artifact: artifact.mtime,
        )
        if not reports:
            raise OSError("the run has no report")
        with store.open_input_stream(reports[-1].path) as report:
            Path(file).write_bytes(report.read())
    except OSError as error:
        print(f"kfp.sh: error: {BUCKET} at {address}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
