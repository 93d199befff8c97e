"""Showing a local run: a live table of steps on a terminal, plain lines elsewhere."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner

from components.runtime import WARNING_MARK
from pipeline.display.output import PlainTable, plain, print_line
from pipeline.local.runner import StepEvent


@dataclass
class _Step:
    started: float = 0.0
    seconds: float = 0.0
    state: str = "waiting"
    line: str = ""


@dataclass
class RunDisplay:
    """Shows the events of a run as they happen; a context manager around the run.

    Attributes:
        console: console to print to.
        steps: names of the steps, in the order to show them.
    """

    console: Console
    steps: Sequence[str]
    _state: dict[str, _Step] = field(init=False)
    _live: Live | None = field(init=False, default=None)
    _spinner: Spinner = field(init=False, default_factory=lambda: Spinner("dots"))

    def __post_init__(self) -> None:
        self._state = {step: _Step() for step in self.steps}

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for step in self._state.values():
            if step.state == "waiting":
                step.state = "skipped"
        if self._live:
            self._live.stop()

    def show(self, event: StepEvent) -> None:
        """Record an event; print it if it is a warning, or if there is no terminal to draw on."""
        step = self._state.setdefault(event.step, _Step())
        if event.kind == "started":
            step.state, step.started = "running", time.monotonic()
        elif event.kind == "logged":
            step.line = event.line
        elif event.kind == "reused":
            step.state, step.line = event.kind, "was done before"
        else:
            step.state, step.seconds = event.kind, time.monotonic() - step.started
        # On a terminal it stays above the table, where later lines of the step would replace it.
        if not self._live or (event.kind == "logged" and event.line.startswith(WARNING_MARK)):
            self._print(event, step)

    def _print(self, event: StepEvent, step: _Step) -> None:
        text = {
            "started": "started",
            "logged": event.line,
            "succeeded": f"done in {step.seconds:.1f} s",
            "failed": f"FAILED after {step.seconds:.1f} s",
            "reused": "was done before",
        }[event.kind]
        print_line(self.console, f"{event.step:<9} {text}")

    def _table(self) -> RenderableType:
        table = PlainTable.grid(padding=(0, 2))
        for name, step in self._state.items():
            marks: dict[str, RenderableType] = {
                "waiting": plain("·", style="dim"),
                "skipped": plain("-", style="dim"),
                "running": self._spinner,
                "succeeded": plain("✓", style="green"),
                "failed": plain("✗", style="red"),
                "reused": plain("✓", style="dim"),
            }
            duration = time.monotonic() - step.started if step.state == "running" else step.seconds
            seconds = "" if step.state in ("waiting", "skipped", "reused") else f"{duration:.1f} s"
            # The last line of a step has its counts; those before it would make the table jump.
            ended = step.state not in ("waiting", "running")
            line = plain(step.line, style="dim", no_wrap=not ended, overflow="fold" if ended else "ellipsis")
            table.add_row(marks[step.state], plain(name), plain(seconds, justify="right"), line)
        return table
