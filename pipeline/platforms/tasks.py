"""The steps of a compiled pipeline, including those that a loop repeats."""

from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

import pydantic
from pydantic import Field

from pipeline.platforms.backend import groups_of_tasks, pipeline_of
from trainer.choice import shown

METRICS, HTML = "system.Metrics", "system.HTML"
EVALUATION = "evaluate"
EVALUATED = "evaluation"
"""Output of that step whose metadata have the checksum of the holdout."""
TRAINING = "train"
MODEL = "model"
"""Output of that step whose metadata have the parameters that were chosen for the data."""


class _Part(pydantic.BaseModel):
    """The part of a compiled pipeline that is read here; other fields are ignored."""

    model_config = pydantic.ConfigDict(strict=True)


class _Reference(_Part):
    name: str = ""


class _Task(_Part):
    componentRef: _Reference = _Reference()  # noqa: N815 - the spec's names
    dependentTasks: list[str] = Field(default=[])  # noqa: N815


class _Dag(_Part):
    tasks: dict[str, _Task] = Field(default={})


class _ArtifactType(_Part):
    schemaTitle: str = ""  # noqa: N815


class _Artifact(_Part):
    artifactType: _ArtifactType = _ArtifactType()  # noqa: N815


class _Outputs(_Part):
    artifacts: dict[str, _Artifact] = Field(default={})


class _Input(_Part):
    defaultValue: Any = None  # noqa: N815


class _Inputs(_Part):
    parameters: dict[str, _Input] = Field(default={})


class _Component(_Part):
    dag: _Dag = _Dag()
    inputDefinitions: _Inputs = _Inputs()  # noqa: N815
    outputDefinitions: _Outputs = _Outputs()  # noqa: N815


class _Pipeline(_Part):
    root: _Component = _Component()
    components: dict[str, _Component] = Field(default={})


def check_spec(spec: Any) -> None:
    """Check what the functions below read of a compiled pipeline that a server has sent; it may be empty.

    Raises:
        ValueError: it is not a compiled pipeline, or its tasks contain each other or wait for each other.
    """
    if not isinstance(spec, Mapping):
        raise ValueError("it is not an object")
    _Pipeline.model_validate(pipeline_of(spec))
    try:
        steps_with("", spec)
    except (RecursionError, CycleError) as error:
        raise ValueError("its tasks form a circle") from error


def step_names(spec: Mapping[str, Any]) -> list[str]:
    """Return the steps of a compiled pipeline, each after those it depends on; a loop is not a step."""
    return [name for name, _, _ in _steps(spec)]


def chosen_parameters(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters that were chosen for the data as people read them, from a model's metadata."""
    names = str(metadata.get("auto", "")).split(", ")
    return {name: shown(metadata[name]) for name in names if isinstance(metadata.get(name), int | float)}


def repeated_steps(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the steps that run in loops."""
    return frozenset(name for name, _, in_loop in _steps(spec) if in_loop)


def loop_names(spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the tasks that contain others: exit handlers, conditions and loops."""
    components = pipeline_of(spec).get("components", {})
    return frozenset(
        name
        for tasks in groups_of_tasks(spec)
        for name, task in tasks.items()
        if "dag" in components.get(task.get("componentRef", {}).get("name"), {})
    )


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
