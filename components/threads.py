"""Work in threads with bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from trainer.threads import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function(item)`` of each item in order, computed by as many threads as there are cores.

    Unlike the executor's own ``map``, it holds at most one item or result more than there are threads: enough
    to keep all threads busy while the caller works.
    """
    workers = usable_cores()
    with ThreadPoolExecutor(workers) as executor:
        pending: deque[Future[Result]] = deque()
        for item in items:
            # The function has the caller's deadline.
            pending.append(executor.submit(copy_context().run, function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
