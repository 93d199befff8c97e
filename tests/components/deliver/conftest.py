"""Artifacts to deliver, as the steps before the delivery write them."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from components.artifacts.evaluation import SCHEMA as EVALUATION_SCHEMA
from components.artifacts.evaluation import (
    ChampionFacts,
    Decision,
    Estimate,
    Evaluation,
    Holdout,
)
from components.deliver import vertex_rest
from components.deliver.options import DeliverOptions
from components.deliver.step import deliver
from tests.components.deliver.model_server import model_server
from tests.components.profiles import profile
from trainer.config import TrainConfig
from trainer.files import Schema, finish_artifact
from trainer.history import Iteration
from trainer.model import Model, Seen
from trainer.vocabulary import Vocabulary


class Artifacts(SimpleNamespace):
    """Folders of the artifacts of a run, and the delivery of them."""

    def inputs(self):
        return {name: path for name, path in vars(self).items() if name != "root"}

    def deliver(self, **options):
        """Run the step and return its metadata."""
        delivery = self.root / "delivery"
        return deliver(DeliverOptions(**options), **self.inputs(), delivery=delivery, run="run-1")


def write_artifacts(root, seed=0, *, champion=None, outcome="blessed", refit=True, with_saved_model=True):
    """Write what a run makes of a small model; the seed decides which.

    Args:
        champion: version that the model was compared with.
    """
    random = np.random.default_rng(seed)
    factors = random.normal(size=(6, 2)).astype(np.float32)
    history = (Iteration(1, 10.0 + seed, 0.5),)
    model = Model(
        TrainConfig(latent_factors=2, num_iters=1),
        factors[:4],
        factors[4:],
        Vocabulary(pa.array(list("abcd"))),
        Vocabulary(pa.array(list("xy"))),
        Seen(np.array([0, 1, 2, 2, 3]), np.array([0, 1, 1], np.int32)),
        (Iteration(1, 9.0 + seed, 0.1),) if refit else history,
    )
    folders = ("model", "recommendations", "similar_items", "embeddings", "evaluation", "saved_model")
    paths = {name: root / name for name in folders}
    model.save(paths["model"])
    for name in ("recommendations", "similar_items", "embeddings"):
        paths[name].mkdir(parents=True)
        (paths[name] / "part-00000.parquet").write_bytes(random.bytes(100))
        finish_artifact(paths[name], Schema(f"wals.{name}", 1), {"seed": seed})
    paths["saved_model"].mkdir()
    if with_saved_model:
        (paths["saved_model"] / "variables").mkdir()
        (paths["saved_model"] / "saved_model.pb").write_bytes(random.bytes(50))
        (paths["saved_model"] / "variables" / "variables.index").write_bytes(random.bytes(50))
        finish_artifact(paths["saved_model"], Schema("wals.saved_model", 1), {"seed": seed})
    metrics = {"ndcg_at_20": Estimate(value=0.25 + seed / 100, low=0.2, high=0.3)}
    evaluation = Evaluation(
        decision=Decision(outcome=outcome, reason="It is better.", metric="ndcg_at_20", checks=()),
        champion=champion
        and ChampionFacts(
            version=champion,
            promoted="2026-11-25T02:00:00+00:00",
            unknown_users=0,
            unknown_items=0,
            excluded_entries=0,
        ),
        holdout=Holdout(users=3, entries=5, checksum="0" * 64),
        metrics={"model": metrics, "popularity": metrics},
        segments=(),
        parameters=model.config.model_dump(),
        history=history,
        facts={"users": "4"},
    )
    paths["evaluation"].mkdir()
    finish_artifact(paths["evaluation"], EVALUATION_SCHEMA, evaluation.model_dump(mode="json"))
    paths["profile"] = root / "profile"
    profile().save(paths["profile"])
    report = root / "report.html"
    report.write_text(f"<p>{seed}</p>", "utf-8")
    return Artifacts(root=root, report=report, **paths)


@pytest.fixture
def artifacts(tmp_path):
    """The artifacts of a run without a champion."""
    return write_artifacts(tmp_path / "run")


@pytest.fixture
def server(bucket, monkeypatch):
    """A Model Registry without models, and an endpoint where nothing is deployed."""
    monkeypatch.setattr(vertex_rest, "_POLL_SECONDS", 0.01)
    with model_server(bucket) as (server, address):
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_AIPLATFORM", address)
        yield server
