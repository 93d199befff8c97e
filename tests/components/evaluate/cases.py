"""Small runs to judge: models whose scores are given, their data, and champions in a registry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from components.artifacts.evaluation import SCHEMA as EVALUATION_SCHEMA
from components.artifacts.evaluation import Evaluation
from components.artifacts.holdout import SCHEMA as HOLDOUT_SCHEMA
from components.evaluate.step import Judgement
from components.registry import open_registry
from tests.components.profiles import profile
from tests.components.registry.conftest import make_version
from tests.components.steps import evaluate
from trainer.catalogue import SCHEMA as CATALOGUE_SCHEMA
from trainer.choice import Choice
from trainer.config import TrainConfig
from trainer.files import finish_artifact, read_manifest
from trainer.history import Iteration
from trainer.matrix import InteractionMatrix
from trainer.model import Model, seen_of
from trainer.vocabulary import Vocabulary


def matrix(dense: np.ndarray) -> InteractionMatrix:
    return InteractionMatrix.from_scipy(sparse.csr_array(dense.astype(np.float32)))


def save_model(
    folder: Path,
    scores: np.ndarray,
    training: np.ndarray,
    *,
    feedback: str = "implicit",
    seed: int = 0,
    users: Vocabulary | None = None,
    items: Vocabulary | None = None,
    choice: Choice | None = None,
) -> Path:
    """Write a model whose score of each user and item is given, and return its folder."""
    count, width = scores.shape
    Model(
        TrainConfig(latent_factors=count, feedback=feedback, seed=seed),
        np.eye(count, dtype=np.float32),
        np.ascontiguousarray(scores.T, np.float32),
        users or Vocabulary.of_range(count),
        items or Vocabulary.of_range(width),
        seen_of(matrix(training).by_row),
        (Iteration(1, 12.5, 0.1), Iteration(2, 11.0, 0.1)),
        choice=choice,
    ).save(folder)
    return folder


@dataclass
class Case:
    """A run in a folder, which is judged as often as a test wants."""

    folder: Path

    @classmethod
    def write(
        cls,
        folder: Path,
        scores: np.ndarray,
        training: np.ndarray,
        held_out: np.ndarray,
        history: np.ndarray | None = None,
        **model: Any,
    ) -> "Case":
        save_model(folder / "model", scores, training, **model)
        matrix(training).save(folder / "training")
        for name, part in (("targets", held_out), ("history", history)):
            if part is not None:
                matrix(part).save(folder / "holdout" / name)
        finish_artifact(folder / "holdout", HOLDOUT_SCHEMA, {})
        (folder / "catalogue").mkdir()
        finish_artifact(folder / "catalogue", CATALOGUE_SCHEMA, {"tables": {}})
        profile().save(folder / "profile")
        return cls(folder)

    @property
    def registry(self) -> Path:
        return self.folder / "registry"

    def serve(self, scores: np.ndarray, training: np.ndarray, **model: Any) -> str:
        """Make a model the champion, and return its version."""
        version = make_version(1)
        folder = save_model(self.folder / "served", scores, training, **model)
        registry = open_registry(str(self.registry))
        registry.add(version, {"model": folder})
        registry.promote(version.name, None)
        return version.name

    def evaluate(self, **options: Any) -> Judgement:
        """Run the step; with the registry if there is one."""
        if self.registry.exists():
            options = {"registry": str(self.registry), **options}
        names = ("model", "training", "holdout", "catalogue", "profile", "evaluation")
        folders = {name: self.folder / name for name in names}
        judgement: Judgement = evaluate(**folders, report=self.report, **options)
        return judgement

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def evaluation(self) -> Evaluation:
        return read_manifest(self.folder / "evaluation", EVALUATION_SCHEMA, Evaluation)
