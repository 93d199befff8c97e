"""What the steps of a run on this machine wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Written by a step's executor at its end, with the values of the outputs and their metadata.
_EXECUTOR_OUTPUT = "executor_output.json"
FINISHED = ".finished"
"""Folder, in that of a run, of what `pipeline.local.finished` keeps."""

PAGES: Mapping[tuple[str, str], str] = {
    ("prepare", "profile_report"): "profile.html",
    ("evaluate", "report"): "report.html",
    ("choose", "study"): "study.html",
}
"""Files of a run's folder by the step and output that is HTML."""


@dataclass(frozen=True)
class StepOutputs:
    """Outputs of a step that ended without an error.

    Attributes:
        folder: folder with the output artifacts, by name.
        values: output parameters by name.
        metadata: metadata of the artifacts that have any, by name.
    """

    folder: Path
    values: Mapping[str, Any]
    metadata: Mapping[str, Mapping[str, Any]]

    def path(self, artifact: str) -> Path:
        """Return the path of an output artifact."""
        return self.folder / artifact


def read_outputs(folder: Path) -> dict[str, StepOutputs]:
    """Return the outputs of a run's steps by step; those in loops are left out.

    Args:
        folder: folder that kfp.local made for the run, with one for each step.
    """
    return {file.parent.name: _read(file) for file in sorted(folder.glob(f"*/{_EXECUTOR_OUTPUT}"))}


def has_ended(folder: Path, step: str) -> bool:
    """Return whether a step, or one run of a step in a loop, came to its end.

    Args:
        folder: as for `read_outputs`.
        step: name of the step.
    """
    return any(folder.rglob(f"{step}/{_EXECUTOR_OUTPUT}"))


def _read(file: Path) -> StepOutputs:
    content = json.loads(file.read_text("utf-8"))
    artifacts = {name: listed["artifacts"] for name, listed in content.get("artifacts", {}).items()}
    return StepOutputs(
        folder=file.parent,
        values=content.get("parameterValues", {}),
        metadata={name: listed[0].get("metadata", {}) for name, listed in artifacts.items() if listed},
    )
