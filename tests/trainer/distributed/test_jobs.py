"""Training by several processes, each with its own TF_CONFIG, over real connections."""

import contextlib
import itertools
import os
import re
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from tests.processes import LONGEST, Ended, all_ended, running
from tests.trainer.distributed.jobs import descriptions, factors, free_addresses, training, write_job
from tests.trainer.distributed.program import take_part
from tests.trainer.shapes import interactions
from trainer.config import TrainConfig
from trainer.distributed import exchange
from trainer.distributed.cluster import Cluster
from trainer.distributed.workers import Workers
from trainer.errors import WalsError
from trainer.files import MANIFEST
from trainer.matrix import InteractionMatrix
from trainer.solvers.part import bounds_of
from trainer.training import fit

MATRIX = interactions(301, 97, 3000, counts=True)


def alone(matrix: sparse.csr_array, parameters: dict[str, Any]) -> dict[str, np.ndarray]:
    model = fit(InteractionMatrix.from_scipy(matrix), TrainConfig(**parameters))
    objectives = np.array([iteration.objective for iteration in model.history])
    return {"users": model.user_factors, "items": model.item_factors, "objectives": objectives}


def errors_of(ended: Ended) -> list[str]:
    return [line for line in ended.lines if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("processes", "parameters"),
    [
        (2, {"solver": "cg", "alpha": 0.5}),
        (4, {"solver": "cg", "feedback": "explicit"}),
        pytest.param(3, {"solver": "ialspp", "block_size": 3}, marks=pytest.mark.slow),
    ],
)
def test_several_processes_find_the_factors_of_one(
    processes: int, parameters: dict[str, Any], tmp_path: Path
) -> None:
    parameters = {**parameters, "latent_factors": 12, "num_iters": 4, "num_threads": 1}
    write_job(tmp_path, MATRIX, **parameters)
    with training(tmp_path, processes) as job:
        assert [ended.code for ended in all_ended(job)] == [0] * processes
    expected, found = alone(MATRIX, parameters), factors(tmp_path)
    for side in ("users", "items"):
        np.testing.assert_allclose(
            found[side], expected[side], rtol=0, atol=1e-4 * np.abs(expected[side]).max()
        )
    np.testing.assert_allclose(found["objectives"], expected["objectives"], rtol=1e-6)


def test_a_worker_may_have_no_rows(tmp_path: Path) -> None:
    parameters = {"solver": "cg", "latent_factors": 2, "num_iters": 3}
    dense = np.zeros((3, 40), np.float32)
    dense[0], dense[1, 3], dense[2, 5:7] = 1, 2, 1
    matrix = sparse.csr_array(dense)
    assert 0 in np.diff(bounds_of(matrix.indptr, 4))
    write_job(tmp_path, matrix, **parameters)
    with training(tmp_path, 4) as job:
        assert [ended.code for ended in all_ended(job)] == [0] * 4
    np.testing.assert_allclose(factors(tmp_path)["users"], alone(matrix, parameters)["users"], atol=1e-5)


def test_the_log_says_how_much_is_sent(tmp_path: Path) -> None:
    """Each process sends its own rows to each other one; the small things beside are below a thousandth."""
    matrix, d = interactions(3000, 500, 9000), 16
    write_job(tmp_path, matrix, solver="cg", latent_factors=d, num_iters=3)
    with training(tmp_path, 3) as job:
        chief = all_ended(job)[0]
    found = re.search(r"sent (\S+) MB to the other workers in each iteration", "\n".join(chief.lines))
    assert found
    rows = sum(int(bounds_of(of_side.indptr, 3)[1]) for of_side in (matrix, matrix.T.tocsr()))
    assert float(found[1]) == pytest.approx(2 * 4 * d * rows / 1e6, rel=0.05)


def test_a_killed_worker_ends_the_job_which_resumes_with_another_number_of_workers(tmp_path: Path) -> None:
    disturbed, quiet = tmp_path / "disturbed", tmp_path / "quiet"
    parameters = {"solver": "cg", "latent_factors": 12, "num_iters": 1500, "num_threads": 1}
    write_job(disturbed, MATRIX, every=1, **parameters)
    with training(disturbed, 3) as job:
        while not list(disturbed.glob(f"checkpoints/iteration-*/{MANIFEST}")):
            assert job[0].runs, job[0].ended().lines
            os.sched_yield()
        os.kill(job[2].pid, signal.SIGKILL)
        chief, other, killed = all_ended(job)
    assert killed.code == -signal.SIGKILL
    for survivor in (chief, other):
        assert survivor.code == 1
        (line,) = errors_of(survivor)
        assert re.search(r"worker 3 of 3 \(127.0.0.1:\d+\)", line)
    assert any("run the job again: it resumes from the last checkpoint" in line for line in chief.lines)
    (kept,) = disturbed.glob(f"checkpoints/iteration-*/{MANIFEST}")
    done = int(kept.parent.name.removeprefix("iteration-"))

    parameters["num_iters"] = done + 3
    for folder, processes in ((disturbed, 2), (quiet, 1)):
        write_job(folder, MATRIX, **parameters)
        with training(folder, processes) as job:
            first, *others = all_ended(job)
        assert first.code == 0
        assert all(f"iteration {done + 1} of {done + 3}: " in "\n".join(other.lines) for other in others)
        resumed = f"resuming from the checkpoint of iteration {done}" in first.lines
        assert resumed == (folder == disturbed)
    np.testing.assert_allclose(factors(disturbed)["items"], factors(quiet)["items"], atol=1e-4)


def test_all_processes_say_why_one_of_them_failed(tmp_path: Path) -> None:
    write_job(tmp_path, MATRIX, solver="cg", latent_factors=4, num_iters=3)
    sparse.save_npz(tmp_path / "other.npz", MATRIX[:-1])
    with training(tmp_path, 3, MATRIX=str(tmp_path / "other.npz")) as job:
        ended = all_ended(job)
    assert [process.code for process in ended] == [2, 2, 2]
    reasons = list(itertools.chain.from_iterable(map(errors_of, ended)))
    assert len(reasons) == 3
    assert all("differs from the first worker's" in reason for reason in reasons)
    assert all("worker 3 of 3" in reason for reason in reasons[:2])


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    write_job(tmp_path, MATRIX, solver="cg", latent_factors=4, num_iters=3)
    (text, _) = descriptions(2)
    port = int(re.findall(r":(\d+)", text)[0])
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", port))
        taken.listen()
        with running(take_part, [tmp_path], [{"TF_CONFIG": text}], tmp_path) as job:
            (ended,) = all_ended(job)
    assert ended.code == 2
    assert [f"address '127.0.0.1:{port}': cannot be listened on" in line for line in errors_of(ended)] == [
        True
    ]


def test_nobody_waits_for_the_busy_once_a_worker_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three never answers that its rows are there; the third ends."""
    monkeypatch.setattr(exchange, "_PATIENCE", 0.2)
    monkeypatch.setattr(exchange, "_FAREWELL", 0.5)
    addresses = tuple(free_addresses(3))
    array, bounds = np.zeros((3, 2), np.float32), np.arange(4)
    met = threading.Barrier(3)

    def ends() -> None:
        with Workers(Cluster(addresses, 2)):
            met.wait()

    def computes(stop: threading.Event) -> None:
        with contextlib.suppress(WalsError), Workers(Cluster(addresses, 1)):
            met.wait()
            stop.wait(LONGEST)
            raise WalsError("not reached by the others")

    stop = threading.Event()
    others = [threading.Thread(target=ends), threading.Thread(target=computes, args=(stop,))]
    for other in others:
        other.start()

    def waits() -> None:
        with Workers(Cluster(addresses, 0)) as first:
            met.wait()
            first.gather(array, bounds)

    with pytest.raises(WalsError, match="worker 3 of 3"):
        waits()
    assert not stop.is_set()
    stop.set()
    for other in others:
        other.join()
