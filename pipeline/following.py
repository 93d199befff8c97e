"""Following a run on a platform to its end: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipeline.backends import FINAL_STATES, Backend, Run, Step
from trainer.errors import InputError, WalsError

_FIRST_POLL_SECONDS = 1.0
_LONGEST_POLL_SECONDS = 15.0
_POLLS_LOST = 5

_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow"}


def follow(backend: Backend, run_id: str, console: Console) -> Run:
    """Show a run until it ends, and return it.

    Args:
        backend: where the run is.
        run_id: of the run.
        console: where to show it.

    Raises:
        InputError: there is no such run.
        WalsError: the platform could not be reached several times in a row; the run goes on.
    """
    polls = _polls(backend, run_id)
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            for run in polls:
                live.update(run_view(run))
        return run
    # A step inside a loop has its name several times, but began at a time of its own.
    told: dict[tuple[str, datetime | None], str] = {}
    for run in polls:
        for step in run.steps:
            place = (step.name, step.started)
            if told.get(place) != step.state:
                told[place] = step.state
                line = f"{step.name:<9} {step.state} {_taken(step)}".rstrip()
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    return run


def run_view(run: Run) -> RenderableType:
    """Return a run's state, steps, metrics and link for people to read."""
    table = Table.grid(padding=(0, 2))
    for step in run.steps:
        table.add_row(Text(step.name), Text(step.state, _STYLES.get(step.state, "dim")), Text(_taken(step)))
    head = Text(f"{run.id}  {run.state}", _STYLES.get(run.state, ""))
    error = [Text(run.error, "red")] if run.error else []
    return Group(head, table, *error, Text(run.link, overflow="fold"))


def check_succeeded(run: Run) -> None:
    """Refuse a run that has ended otherwise than well.

    Raises:
        WalsError: naming the run, its failed steps and why.
    """
    if run.state in FINAL_STATES and run.state != "succeeded":
        failed = ", ".join(step.name for step in run.steps if step.state == "failed")
        at = f" at {failed}" if failed else ""
        why = f": {run.error}" if run.error else ""
        raise WalsError(f"run {run.id} {run.state}{at}{why}; see {run.link}")


def _polls(backend: Backend, run_id: str) -> Iterator[Run]:
    """Yield a run as it changes, until it has ended."""
    wait, lost = _FIRST_POLL_SECONDS, 0
    while True:
        try:
            run = backend.get(run_id)
        except InputError:
            raise
        except WalsError as error:
            lost += 1
            if lost == _POLLS_LOST:
                raise WalsError(
                    f"lost sight of run {run_id}, which goes on; "
                    f"follow it with `wals runs {run_id} --wait` ({error})"
                ) from error
        else:
            lost = 0
            yield run
            if run.state in FINAL_STATES:
                return
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_POLL_SECONDS)


def _taken(step: Step) -> str:
    if not step.started:
        return ""
    seconds = round(((step.ended or datetime.now(UTC)) - step.started).total_seconds())
    return str(timedelta(seconds=max(seconds, 0)))
