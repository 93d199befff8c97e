"""Arrays from process to process, by Arrow Flight: each serves its own, and the others fetch them.

A process publishes an array under a name, fetches the arrays that the others publish under theirs, and keeps
its own unchanged until all have them. A process that ends, is killed or vanishes with its machine is noticed
by those that wait for it within seconds: they ask again and again instead of waiting in one long call.
"""

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import flight

from trainer.distributed.cluster import Cluster
from trainer.errors import InputError, WalsError, translated

logger = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a process waits before it answers that an array is not there yet."""

_ANSWER = 60.0
"""Seconds after which a process that does not answer is taken for lost."""

_STARTING = 1200.0
"""Seconds in which all processes of a job have to be there: machines start minutes apart."""

_FAREWELL = 15.0
"""Seconds in which a process that failed tells the others why."""

_PIECE = 32 << 20
"""Bytes that one call fetches, which a slow network carries within `_ANSWER`."""

_BATCH = 1 << 20
"""Bytes of one message."""

_SCHEMA = pa.schema([("bytes", pa.uint8())])


class WorkerFailedError(WalsError):
    """Another process of the job failed, and said why."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Exchange:
    """Serves the arrays of this process, and fetches those of the others.

    Use it as a context manager. If its block fails, the other processes are told why, and fail as well.

    Attributes:
        cluster: the processes.
        sent: bytes of arrays that the others fetched from this process so far.
    """

    def __init__(self, cluster: Cluster) -> None:
        """Listen on this process's port, and find the other processes.

        Raises:
            InputError: the port cannot be listened on.
        """
        self.cluster = cluster
        self._others = [rank for rank in range(cluster.size) if rank != cluster.rank]
        self._published = _Published(self._others)
        with translated(((OSError, pa.ArrowException), lambda error: _unusable(cluster, error))):
            self._server = _Server(f"grpc://0.0.0.0:{cluster.port}", self._published)
        self._clients = {rank: _connect(cluster.addresses[rank]) for rank in self._others}
        self._identities: dict[int, str] = {}
        self._giving_up = False
        self._threads = ThreadPoolExecutor(max(1, len(self._others)))

    @property
    def sent(self) -> int:
        """Bytes that the others have fetched."""
        return self._published.sent

    def __enter__(self) -> Self:
        """Wait until all processes are there.

        Raises:
            WalsError: one of them is not.
        """
        began = time.monotonic()
        logger.info("this is %s; waiting for the others", self.cluster.name(self.cluster.rank))
        try:
            for rank in self._others:
                self._identities[rank] = self._meet(rank, began + _STARTING)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Tell the others of a failure, and stop serving."""
        if error is not None:
            message = str(error) if isinstance(error, WalsError) else f"{type(error).__name__}: {error}"
            code = error.exit_code if isinstance(error, WalsError) else 1
            if not isinstance(error, WorkerFailedError):
                message = f"{self.cluster.name(self.cluster.rank)}: {message}"
            self._published.fail(message, code)
        self._close()

    def publish(self, name: str, array: NDArray[Any]) -> None:
        """Offer an array to the others under a name that no other array has had.

        Args:
            name: the array's name.
            array: contiguous; it must not change until `settle` has returned.
        """
        self._published.put(name, array)

    def fetch(self, rank: int, name: str, target: NDArray[Any] | None = None) -> NDArray[Any]:
        """Fetch an array of another process, once it is published.

        Args:
            rank: the process.
            name: the array's name.
            target: contiguous array to overwrite; one of bytes is made if omitted.

        Returns:
            The target.

        Raises:
            WalsError: the process failed, ended or does not answer, or the array is of another size.
        """
        size = self._size(rank, name)
        target = np.empty(size, np.uint8) if target is None else target
        if target.nbytes != size:
            raise WalsError(
                f"{self.cluster.name(rank)} sent {size} bytes as {name}, not {target.nbytes}; "
                "give all processes the same data and the same version"
            )
        flat = target.reshape(-1).view(np.uint8)
        for start in range(0, size, _PIECE):
            self._fetch(rank, name, start, flat[start : start + _PIECE])
        self._act(rank, "received", name=name)
        return target

    def fetch_all(self, name: str, targets: Sequence[NDArray[Any]]) -> None:
        """Fetch an array of each other process, all at once.

        Args:
            name: the name that they all give it.
            targets: contiguous arrays to overwrite, by process.

        Raises:
            WalsError: as `fetch`.
        """
        running = [self._threads.submit(self.fetch, rank, name, targets[rank]) for rank in self._others]
        done, others = wait(running, return_when=FIRST_EXCEPTION)
        # The rest would wait until processes that do not know of the failure yet have computed their rows.
        self._giving_up = bool(others)
        for call in (*done, *others):
            call.result()

    def settle(self, name: str) -> None:
        """Wait until all others have fetched an array, and stop offering it.

        Raises:
            WalsError: a process failed, ended or does not answer.
        """
        while waiting := self._published.missing(name, _PATIENCE / 10):
            for rank in waiting:
                self._act(rank, "greet")
        self._published.drop(name)

    def _size(self, rank: int, name: str) -> int:
        while True:
            answer = self._act(rank, "await", name=name)
            if answer["size"] is not None:
                return int(answer["size"])
            if self._giving_up:
                raise self._lost(rank)

    def _fetch(self, rank: int, name: str, start: int, target: NDArray[np.uint8]) -> None:
        ticket = self._request(rank, name=name, start=start, stop=start + len(target))
        position = 0
        with self._noticing(rank):
            reader = self._clients[rank].do_get(flight.Ticket(ticket), _options())
            for batch, _ in reader:
                part = batch.column(0).to_numpy()
                target[position : position + len(part)] = part
                position += len(part)
        if position != len(target):
            raise self._lost(rank)

    def _meet(self, rank: int, deadline: float) -> str:
        """Return the identity of a process, once it is there."""
        while True:
            try:
                return str(self._act(rank, "greet")["identity"])
            except _LostError:
                if time.monotonic() > deadline:
                    problem = f"{self.cluster.name(rank)} has not started within {_STARTING / 60:.0f} minutes"
                    raise WalsError(
                        f"{problem}; see its log, and check that its port can be reached"
                    ) from None
                time.sleep(1)

    def _act(self, rank: int, action: str, **request: Any) -> dict[str, Any]:
        body = self._request(rank, **request)
        with self._noticing(rank):
            results = list(self._clients[rank].do_action(flight.Action(action, body), _options()))
        answer: dict[str, Any] = json.loads(results[0].body.to_pybytes())
        if failure := answer.get("failure"):
            raise WorkerFailedError(failure["message"], failure["exit_code"])
        return answer

    def _request(self, rank: int, **request: Any) -> bytes:
        # A process that was started again must not take the place of the one before it.
        identity = self._identities.get(rank)
        return json.dumps({"to": identity, "from": self.cluster.rank, **request}).encode()

    @contextlib.contextmanager
    def _noticing(self, rank: int) -> Iterator[None]:
        with translated(((flight.FlightError, pa.ArrowException, OSError), lambda _: self._lost(rank))):
            yield

    def _lost(self, rank: int) -> "_LostError":
        return _LostError(
            f"{self.cluster.name(rank)} has ended or cannot be reached; see its log, and run the job again: "
            "it resumes from the last checkpoint, if there is one"
        )

    def _tell_failure(self) -> None:
        """Wait until those who still run have been told why this process failed."""
        deadline = time.monotonic() + _FAREWELL
        while (waiting := self._published.untold(_PATIENCE / 100)) and time.monotonic() < deadline:
            for rank in waiting:
                try:
                    self._act(rank, "greet")
                except WalsError:
                    # It has ended or is about to.
                    self._published.failure(rank)

    def _close(self) -> None:
        self._tell_failure()
        self._threads.shutdown()
        for client in self._clients.values():
            client.close()
        self._server.shutdown()


class _LostError(WalsError):
    """A process does not answer, and nobody knows why."""


def _unusable(cluster: Cluster, error: Exception) -> InputError:
    address = cluster.addresses[cluster.rank]
    return InputError("address", address, f"cannot be listened on ({error})", "give a free port")


def _connect(address: str) -> flight.FlightClient:
    # Otherwise gRPC tries ever less often to reach a process that has not started, up to two minutes apart.
    return flight.connect(f"grpc://{address}", generic_options=[("grpc.max_reconnect_backoff_ms", 2000)])


def _options() -> flight.FlightCallOptions:
    return flight.FlightCallOptions(timeout=_ANSWER)


class _Published:
    """The arrays that the other processes may fetch, and who has them."""

    def __init__(self, others: list[int]) -> None:
        self.identity = uuid.uuid4().hex
        self.sent = 0
        self._others = others
        self._arrays: dict[str, NDArray[np.uint8]] = {}
        self._lacking: dict[str, set[int]] = {}
        self._failure: dict[str, Any] | None = None
        self._untold: set[int] = set()
        self._changed = threading.Condition()

    def put(self, name: str, array: NDArray[Any]) -> None:
        with self._changed:
            self._arrays[name] = array.reshape(-1).view(np.uint8)
            self._lacking[name] = set(self._others)
            self._changed.notify_all()

    def drop(self, name: str) -> None:
        with self._changed:
            del self._arrays[name], self._lacking[name]

    def fail(self, message: str, exit_code: int) -> None:
        with self._changed:
            self._failure = {"message": message, "exit_code": exit_code}
            self._untold = set(self._others)
            self._changed.notify_all()

    def failure(self, rank: int) -> dict[str, Any] | None:
        """Return why this process failed, and note who has been told."""
        with self._changed:
            if self._failure:
                self._untold.discard(rank)
                self._changed.notify_all()
            return self._failure

    def size(self, name: str) -> int | None:
        """Return the bytes of an array; None if it is not there after a while."""
        with self._changed:
            self._changed.wait_for(lambda: name in self._arrays or self._failure, _PATIENCE)
            return self._arrays[name].nbytes if name in self._arrays else None

    def part(self, name: str, start: int, stop: int) -> NDArray[np.uint8]:
        with self._changed:
            part = self._arrays[name][start:stop]
            self.sent += len(part)
            return part

    def received(self, name: str, rank: int) -> None:
        with self._changed:
            self._lacking[name].discard(rank)
            self._changed.notify_all()

    def missing(self, name: str, patience: float) -> set[int]:
        """Return who lacks an array, after waiting for all to have it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lacking[name], patience)
            return set(self._lacking[name])

    def untold(self, patience: float) -> set[int]:
        """Return who does not know of the failure, if there is one, after waiting for all to know."""
        with self._changed:
            self._changed.wait_for(lambda: not self._untold, patience)
            return set(self._untold)


class _Server(flight.FlightServerBase):
    """Answers the other processes."""

    def __init__(self, address: str, published: _Published) -> None:
        super().__init__(address)
        self._published = published

    def do_get(self, _: Any, ticket: flight.Ticket) -> Any:
        """Return a part of an array as batches of bytes."""
        request = self._checked(ticket.ticket)
        part = self._published.part(request["name"], request["start"], request["stop"])

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(part), _BATCH):
                piece = part[start : start + _BATCH]
                column = pa.Array.from_buffers(pa.uint8(), len(piece), [None, pa.py_buffer(piece.data)])
                yield pa.record_batch([column], schema=_SCHEMA)

        return flight.GeneratorStream(_SCHEMA, batches())

    def do_action(self, _: Any, action: flight.Action) -> Iterator[bytes]:
        """Answer one of the three requests with JSON."""
        request = self._checked(action.body.to_pybytes())
        published, rank, name = self._published, request["from"], request.get("name", "")
        answer: dict[str, Any] = {}
        match action.type:
            case "greet":
                answer = {"identity": published.identity}
            case "await":
                answer = {"size": published.size(name)}
            case "received":
                published.received(name, rank)
        if failure := published.failure(rank):
            answer = {"failure": failure}
        yield json.dumps(answer).encode()

    def _checked(self, body: bytes) -> dict[str, Any]:
        request: dict[str, Any] = json.loads(body)
        if request["to"] not in (None, self._published.identity):
            raise flight.FlightServerError("this is another process than before")
        return request
