"""Following a run on a platform to its end: a live table on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live

from components.limits import deadline, unhurried
from pipeline.display.output import PlainTable, plain, print_line
from pipeline.platforms.backend import FINAL_STATES, Run, Runs, Step
from pipeline.platforms.network import AccessError
from trainer.errors import InputError, WalsError

_FIRST_POLL_SECONDS = 1.0
_LONGEST_POLL_SECONDS = 15.0
_SILENCE_SECONDS = 300.0

_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow"}


def follow(backend: Runs, run_id: str, console: Console, again: str) -> Run:
    """Show a run until it ends, and return it.

    Args:
        backend: backend of the run's platform.
        run_id: id of the run.
        console: console to show it on.
        again: command line that follows it again.

    Raises:
        InputError: the run does not exist.
        WalsError: access is denied, or the platform could not be reached for minutes; the run continues.
        KeyboardInterrupt: after printing how to follow the run again.
    """
    try:
        with unhurried():
            return _shown(_polls(backend, run_id, console), console)
    except InputError:
        raise
    except WalsError as error:
        raise WalsError(
            f"lost the connection to run {run_id}, which continues; follow it with `{again}` ({error})"
        ) from error
    except KeyboardInterrupt:
        print_line(console, f"Run {run_id} continues; follow it with `{again}`")
        raise


def _shown(polls: Iterator[Run], console: Console) -> Run:
    """Show a run as it changes, and return its last state."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4) as live:
            for run in polls:
                live.update(run_view(run))
        return run
    # The steps of a loop share a name, but each started at its own time.
    shown: dict[tuple[str, datetime | None], str] = {}
    for run in polls:
        for step in run.steps:
            place = (step.name, step.started)
            if shown.get(place) != step.state:
                shown[place] = step.state
                link = _own_link(step, run)
                print_line(
                    console, " ".join(filter(None, (f"{step.name:<9}", step.state, _duration(step), link)))
                )
    return run


def run_view(run: Run) -> RenderableType:
    """Return a run's state, steps and link, to print."""
    table = PlainTable.grid(padding=(0, 2))
    for step in run.steps:
        state = plain(step.state, _STYLES.get(step.state, "dim"))
        table.add_row(
            plain(step.name), state, plain(_duration(step)), plain(_own_link(step, run), overflow="fold")
        )
    head = plain(f"{run.id}  {run.state}", _STYLES.get(run.state, ""))
    error = [plain(run.error, "red")] if run.error else []
    return Group(head, table, *error, plain(run.link, overflow="fold"))


def check_succeeded(run: Run) -> None:
    """Raise an error for a run that has ended without success.

    Raises:
        WalsError: naming the run, its failed steps and the reason.
    """
    if run.state in FINAL_STATES and run.state != "succeeded":
        failed = ", ".join(step.name for step in run.steps if step.state == "failed")
        at = f" at {failed}" if failed else ""
        why = f": {run.error}" if run.error else ""
        raise WalsError(f"run {run.id} {run.state}{at}{why}; see {run.link}")


def _polls(backend: Runs, run_id: str, console: Console) -> Iterator[Run]:
    """Yield a run as it changes, until it has ended; errors are retried for minutes."""
    wait = _FIRST_POLL_SECONDS
    lost_since: float | None = None
    while True:
        try:
            with deadline():
                run = backend.get(run_id)
        except (InputError, AccessError):
            raise
        except WalsError as error:
            if lost_since is None:
                lost_since = time.monotonic()
                print_line(console, f"{error}; trying again for {_SILENCE_SECONDS / 60:.0f} minutes")
            elif time.monotonic() - lost_since > _SILENCE_SECONDS:
                raise
        else:
            lost_since = None
            yield run
            if run.state in FINAL_STATES:
                return
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_POLL_SECONDS)


def _own_link(step: Step, run: Run) -> str:
    """Return the link to a step's own page; "" if there is only the run's page."""
    return "" if step.link == run.link else step.link


def _duration(step: Step) -> str:
    if not step.started:
        return ""
    seconds = round(((step.ended or datetime.now(UTC)) - step.started).total_seconds())
    return str(timedelta(seconds=max(seconds, 0)))
