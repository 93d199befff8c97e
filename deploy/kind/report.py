"""Fetch the report of a run from the cluster's object store, whose keys are in AWS's usual variables."""

import sys
from pathlib import Path

from pyarrow import fs

BUCKET = "mlpipeline"


def main() -> int:
    """Take the store's address, the run's id and the file to write; return the exit code."""
    address, run_id, file = sys.argv[1:]
    store = fs.S3FileSystem(endpoint_override=address, scheme="http", region="us-east-1")
    try:
        artifacts = store.get_file_info(
            fs.FileSelector(f"{BUCKET}/v2/artifacts/wals-train/{run_id}", recursive=True)
        )
        # A step that was tried again leaves a folder for each time.
        reports = sorted(
            (artifact for artifact in artifacts if artifact.base_name == "report"),
            key=lambda found: found.mtime,
        )
        if not reports:
            raise OSError("the run left no report there")
        with store.open_input_stream(reports[-1].path) as report:
            Path(file).write_bytes(report.read())
    except OSError as error:
        print(f"kfp.sh: error: {BUCKET} at {address}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
