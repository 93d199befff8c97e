"""The summary of what a command would send."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from pipeline.display.output import PlainTable, plain, print_line


def show_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Show a summary, as `pipeline.commands.dry_run.summary_of` returns it."""
    print_line(console, f"Would create the {summary['kind']} {summary['name']}; nothing was sent.")
    facts = {
        **summary["platform"],
        "pipeline": summary["pipeline"],
        "template": summary["template"],
        "trials": summary["trials"],
        "arguments": " ".join(summary["arguments"]) if summary["arguments"] else None,
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    _show_pairs(console, "Where and what", facts)
    if summary["parameters"] is not None:
        _show_pairs(console, "Parameters that differ from the defaults", summary["parameters"])
    console.print(_steps_table(summary["steps"]))
    print_line(console, "Images")
    for image in dict.fromkeys(step["image"] for step in summary["steps"]):
        print_line(console, f"  {image}")
    if schedule := summary["schedule"]:
        own = {name: value for name, value in schedule.items() if name != "next_times"}
        _show_pairs(console, "Schedule", {name: value for name, value in own.items() if value is not None})
        console.print(times_table(schedule["time_zone"], schedule["next_times"]))
    print_line(console, "--full prints the whole request.")


def times_table(time_zone: str, times: list[datetime]) -> PlainTable:
    """Return the next times of a schedule in their own zone, in local time and in UTC."""
    table = PlainTable(time_zone, "local time", "UTC", title="Next runs", title_justify="left")
    for time in times:
        table.add_row(*(f"{at:%a %Y-%m-%d %H:%M}" for at in (time, time.astimezone(), time.astimezone(UTC))))
    return table


def _show_pairs(console: Console, title: str, values: Mapping[str, Any]) -> None:
    print_line(console, title)
    if not values:
        print_line(console, "  none")
        return
    table = PlainTable.grid(padding=(0, 2))
    for name, value in values.items():
        table.add_row("", name, plain(_text(value), overflow="fold"))
    console.print(table)


def _text(value: Any) -> str:
    """Return a value as it is given on the command line."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return str(value)


def _steps_table(steps: list[Mapping[str, Any]]) -> PlainTable:
    """Return what the steps run on; columns that are empty for all steps are left out."""
    rows = [
        {
            "step": step["step"],
            "machine": step["machine_type"] or f"{step['cpu']} CPU, {step['memory']}",
            "GPUs": f"{step['accelerators']} {step['accelerator']}" if step["accelerators"] else "",
            "at once": _count(step["replicas"] * step["side_by_side"]),
            "strategy": step["strategy"],
            "retries": str(step["retries"] or ""),
            "timeout": step["timeout"],
        }
        for step in steps
    ]
    used = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    table = PlainTable(title="Steps", title_justify="left")
    for name in used:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in used))
    return table


def _count(machines: int) -> str:
    return str(machines) if machines > 1 else ""
