"""Evaluations and statuses for tests."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from components.artifacts.evaluation import SCHEMA, Decision, Estimate, Evaluation, Holdout
from trainer.files import begin_artifact, finish_artifact

REASON = "Rejected: NDCG@20 is 3.2 % below the champion's."
JOB = "projects/271/locations/europe-west1/pipelineJobs/wals-train-20261126"
FAILED_TASKS = "The DAG failed because some tasks failed. The failed tasks are: [train]."


def evaluation(outcome: Any = "rejected", reason: str = REASON, **changes: Any) -> Evaluation:
    """Return the evaluation of a model that was compared with a champion."""
    metrics: Any = {
        name: {
            "recall_at_20": Estimate(value=value, low=value - 0.01, high=value + 0.01),
            "ndcg_at_20": Estimate(value=value / 2, low=value / 2 - 0.01, high=value / 2 + 0.01),
            "ndcg_at_100": Estimate(value=0.9),
            "coverage_at_20": Estimate(value=0.25),
        }
        for name, value in {"model": 0.31, "champion": 0.32, "popularity": 0.12, "random": 0.01}.items()
    }
    values: dict[str, Any] = {
        "decision": Decision(outcome=outcome, reason=reason, metric="ndcg_at_20", checks=()),
        "champion": None,
        "holdout": Holdout(users=1000, entries=9000, checksum="0" * 64),
        "metrics": metrics,
        "segments": (),
        "parameters": {},
        "history": (),
    }
    return Evaluation(**{**values, **changes})


def write_evaluation(folder: Path, content: Evaluation) -> None:
    """Write the artifact of an evaluation, without its table."""
    begin_artifact(folder)
    finish_artifact(folder, SCHEMA, content.model_dump(mode="json"))


def status(state: str = "SUCCEEDED", message: str | None = None, job: str = JOB) -> Any:
    """Return the status that Vertex AI gives to an exit task."""
    return SimpleNamespace(state=state, pipeline_job_resource_name=job, error_message=message)
