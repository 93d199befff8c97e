"""Gathers factors among processes of this machine, by our exchange and by TensorFlow's collectives.

Every process holds its share of an array and ends with all of it, as after each half of a distributed
iteration. Usage: ``python benchmarks/exchange.py [--processes 2] [--megabytes 256 1024]``; it prints a table.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from tests.trainer.distributed.jobs import descriptions  # noqa: E402

_WIDTH = 128
_REPETITIONS = 3
_ENGINES = ("flight", "tensorflow")


def main() -> None:
    """Run every engine on every size, and print the table; or be one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--engine", choices=_ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.engine:
        _measure(given.engine, given.megabytes)
        return
    print("| engine | processes | array | best | rate of the array | CPU seconds of a process |")
    print("|---|---|---|---|---|---|")
    for engine in _ENGINES:
        for size, seconds, cpu in _run(engine, given.processes, given.megabytes):
            rate = f"{size / 1000 / seconds:.2f} GB/s"
            print(f"| {engine} | {given.processes} | {size} MB | {seconds:.2f} s | {rate} | {cpu:.2f} |")


def _run(engine: str, processes: int, megabytes: list[int]) -> list[list[float]]:
    """Return size, best seconds and CPU seconds of each size, as the first process measured them."""
    command = [sys.executable, __file__, "--engine", engine, "--megabytes"]
    running = []
    for description in descriptions(processes):
        environment = {**os.environ, "TF_CONFIG": description, "TF_CPP_MIN_LOG_LEVEL": "2"}
        running.append(
            subprocess.Popen(
                [*command, *map(str, megabytes)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    output = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit(f"{engine}: a process failed")
    rows: list[list[float]] = json.loads(output[0].splitlines()[-1])
    return rows


def _measure(engine: str, megabytes: list[int]) -> None:
    gather, rank, size = (_flight if engine == "flight" else _tensorflow)()
    found = []
    for number in megabytes:
        rows = number * 10**6 // (4 * _WIDTH) // size
        array = np.full((rows * size, _WIDTH), rank, np.float32)
        best, cpu = np.inf, np.inf
        for _ in range(_REPETITIONS):
            began, cpu_before = time.perf_counter(), time.process_time()
            array = gather(array, rows)
            best = min(best, time.perf_counter() - began)
            cpu = min(cpu, time.process_time() - cpu_before)
            if not np.array_equal(array[::rows, 0], np.arange(size)):
                raise SystemExit("the result is wrong")
        found.append([number, best, cpu])
    print(json.dumps(found), flush=True)
    # The processes wait for each other before the first of them goes.
    gather(np.full((size, _WIDTH), rank, np.float32), 1)


Gather = Callable[[NDArray[np.float32], int], NDArray[np.float32]]


def _flight() -> tuple[Gather, int, int]:
    from trainer.distributed.cluster import cluster_of_environment
    from trainer.distributed.workers import Workers

    workers = Workers(cluster_of_environment()).__enter__()

    def gather(array: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        workers.gather(array, np.arange(workers.size + 1) * rows)
        return array

    return gather, workers.rank, workers.size


def _tensorflow() -> tuple[Gather, int, int]:
    import tensorflow as tf

    task = json.loads(os.environ["TF_CONFIG"])
    rank, size = task["task"]["index"], len(task["cluster"]["worker"])
    distribute = tf.distribute
    options = distribute.experimental.CommunicationOptions(
        implementation=distribute.experimental.CommunicationImplementation.RING
    )
    # It starts the servers of the collectives.
    strategy = distribute.MultiWorkerMirroredStrategy(communication_options=options)

    @tf.function  # type: ignore[untyped-decorator]
    def collective(part: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        with tf.device(f"/job:worker/replica:0/task:{rank}/device:CPU:0"):
            return tf.raw_ops.CollectiveGatherV2(
                input=part,
                group_size=size,
                group_key=7,
                instance_key=key,
                ordering_token=[],
                communication_hint="ring",
            )

    def gather(array: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
        part = tf.constant(array[rank * rows : (rank + 1) * rows])
        # A key stands for one shape.
        gathered: NDArray[np.float32] = collective(part, tf.constant(100 + rows)).numpy()
        return gathered

    gather.strategy = strategy  # type: ignore[attr-defined]  # it lives as long as its servers are needed
    return gather, rank, size


if __name__ == "__main__":
    main()
