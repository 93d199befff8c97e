"""The steps of a compiled pipeline, including those that a loop repeats."""

import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any

from pipeline.platforms.backend import pipeline_of

METRICS, HTML = "system.Metrics", "system.HTML"
EVALUATION = "evaluate"


def step_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the steps of a compiled pipeline, each after those it depends on; a loop is not a step."""
    return [name for name, _, _ in _steps(spec)]


def repeated_steps(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the steps that run in loops."""
    return frozenset(name for name, _, in_loop in _steps(spec) if in_loop)


def loop_names(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the tasks that contain others: loops and conditions."""
    pipeline = pipeline_of(spec)
    components = pipeline.get("components", {})
    return frozenset(
        name
        for part in (pipeline.get("root", {}), *components.values())
        for name, task in part.get("dag", {}).get("tasks", {}).items()
        if "dag" in components.get(task.get("componentRef", {}).get("name"), {})
    )


def repetition(step: str, number: int) -> str:
    """Return the name of one of the runs of a step in a loop: ``trial-2.3`` for the third of ``trial-2``.

    kfp names the tasks of a component ``trial``, ``trial-2``, …; the first is ``trial-1`` here.
    """
    named = step if re.search(r"-\d+$", step) else f"{step}-1"
    return f"{named}.{number}"


def steps_with(schema: str, spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the output artifacts of a schema, such as ``system.Metrics``, by step."""
    outputs = {
        step: [
            name
            for name, artifact in component.get("outputDefinitions", {}).get("artifacts", {}).items()
            if artifact.get("artifactType", {}).get("schemaTitle") == schema
        ]
        for step, component, _ in _steps(spec)
    }
    return {step: names for step, names in outputs.items() if names}


def _steps(spec: Mapping[str, Any]) -> list[tuple[str, Any, bool]]:
    """Return the steps with their components, and whether they run in a loop."""
    pipeline = pipeline_of(spec)
    return list(_inside(pipeline.get("root", {}), pipeline.get("components", {}), in_loop=False))


def _inside(
    part: Mapping[str, Any], components: Mapping[str, Any], *, in_loop: bool
) -> Iterator[tuple[str, Any, bool]]:
    tasks = part.get("dag", {}).get("tasks", {})
    before = {name: task.get("dependentTasks") or [] for name, task in tasks.items()}
    for name in TopologicalSorter(before).static_order():
        component = components.get(tasks[name].get("componentRef", {}).get("name"), {})
        loops = in_loop or bool(tasks[name].keys() & {"parameterIterator", "artifactIterator"})
        if "dag" in component:
            yield from _inside(component, components, in_loop=loops)
        else:
            yield name, component, loops
