"""The training step and the refit on several machines of a Vertex AI custom job."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.components.train.program import run_on_machine
from tests.components.train.test_refit import CONFIGS, write_run
from tests.processes import Ended, all_ended, running
from tests.trainer.distributed.jobs import free_addresses
from trainer.config import TrainOptions
from trainer.model import Model


def on_two_machines(step: str, folder: Path, paths: dict[str, Path], **options: Any) -> list[Ended]:
    first, second = free_addresses(2)
    cluster = {"workerpool0": [first], "workerpool1": [second]}
    variables = [
        {"CLUSTER_SPEC": json.dumps({"cluster": cluster, "task": {"type": pool, "index": 0}})}
        for pool in cluster
    ]
    with running(run_on_machine, [step, options, paths], variables, folder) as job:
        return all_ended(job)


def test_two_machines_train_the_model_of_one(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["implicit"])
    expected = Model.load(inputs["judged"])
    paths = {"matrix": inputs["training"], "vocabulary": inputs["vocabulary"], "model": tmp_path / "model"}
    options = TrainOptions(**CONFIGS["implicit"].model_dump())
    first, second = on_two_machines("train", tmp_path, paths, **options.model_dump())
    assert (first.code, second.code) == (0, 0)
    found = Model.load(tmp_path / "model")
    np.testing.assert_allclose(found.user_factors, expected.user_factors, atol=1e-5)
    assert found.training == expected.training
    metadata = json.loads(first.lines[-1])
    assert metadata["iterations"] == 6
    # kfp writes outputs once a step has returned, which the second machine's must not.
    assert not any(line.startswith("{") for line in second.lines)
    assert any("iteration 6 of 6" in line for line in second.lines)


def test_two_machines_refit_the_model_of_one(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["linear"])
    outputs = {"model": tmp_path / "model", "saved_model": tmp_path / "saved"}
    first, second = on_two_machines("refit", tmp_path, {**inputs, **outputs}, refit_iters=2)
    assert (first.code, second.code) == (0, 0)
    assert len(Model.load(tmp_path / "model").history) == 2
    assert any("iteration 2 of 2" in line for line in second.lines)


def test_the_second_machine_has_nothing_to_do_without_a_refit(tmp_path: Path) -> None:
    inputs = write_run(tmp_path, CONFIGS["linear"])
    outputs = {"model": tmp_path / "model", "saved_model": tmp_path / "saved"}
    ended = on_two_machines("refit", tmp_path, {**inputs, **outputs}, refit_iters=0)
    assert [machine.code for machine in ended] == [0, 0]
    delivered, judged = Model.load(tmp_path / "model"), Model.load(inputs["judged"])
    np.testing.assert_array_equal(delivered.item_factors, judged.item_factors)
