"""Progress of long work: a bar on a terminal, plain log lines elsewhere."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(what: str, total: int, logger: logging.Logger, done: int = 0) -> Iterator[Callable[[str], None]]:
    """Yield a function to call with a short note after each of ``total`` pieces.

    Args:
        what: name of a piece, such as "iteration".
        total: number of pieces.
        logger: receives the lines if stderr is not a terminal.
        done: number of pieces that an earlier run finished.
    """
    if not sys.stderr.isatty():
        counter = iter(range(done + 1, total + 1))
        yield lambda note: logger.info("%s %d of %d: %s", what, next(counter), total, note)
        return
    # Slow to import, and steps in containers have no terminal.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done, note="")
        yield lambda note: bar.update(task, advance=1, note=note)
