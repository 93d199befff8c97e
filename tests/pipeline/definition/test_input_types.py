"""The types of tasks' inputs, which the driver of Kubeflow Pipelines checks only when a step is about to run.

It converts any value to text for a STRING; for other types, the value must already have the type. The rules
are those of ``resolveInputs`` in its ``backend/src/v2/driver``, applied to what a compiled spec declares.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.pipeline.serving import task_of

GOLDEN = Path(__file__).parent / "golden"
SPECS = {
    str(path.relative_to(GOLDEN)): spec
    for path in sorted(GOLDEN.rglob("*.yaml"))
    if "root" in (spec := yaml.load(path.read_text("utf-8"), yaml.CSafeLoader))
}
_KINDS = {"NUMBER_DOUBLE": "number", "NUMBER_INTEGER": "number", "TASK_FINAL_STATUS": "STRUCT"}
_CONSTANTS: tuple[tuple[type, str], ...] = (
    (bool, "BOOLEAN"),
    (int | float, "number"),  # type: ignore[arg-type]
    (str, "STRING"),
    (list, "LIST"),
    (dict, "STRUCT"),
)


def mismatches(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each input of a task that the driver would refuse."""
    for name, component in {"root": spec["root"], **spec["components"]}.items():
        tasks = component.get("dag", {}).get("tasks", {})
        for task_name, task in tasks.items():
            place = f"{name}.{task_name}"
            wanted = _parameters(spec["components"][task["componentRef"]["name"]])
            given = dict(task.get("inputs", {}).get("parameters", {}))
            if "parameterIterator" in task:
                yield from _loop_mismatches(place, task, wanted, given)
            for parameter, definition in wanted.items():
                if parameter in given:
                    kind = _kind_of(spec, component, tasks, given[parameter])
                    if definition["parameterType"] != "STRING" and _kind(definition) != kind:
                        yield f"{place}: {parameter} expects {_kind(definition)}, gets {kind}"
                elif not (definition.get("isOptional") or "defaultValue" in definition):
                    yield f"{place}: {parameter} gets nothing"


def _loop_mismatches(
    place: str, task: Mapping[str, Any], wanted: Mapping[str, Any], given: dict[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with the items of a loop, and add its item to the given inputs."""
    iterator = task["parameterIterator"]
    items, item = iterator["items"], iterator["itemInput"]
    if "inputParameter" in items:
        if _kind(wanted[items["inputParameter"]]) != "LIST":
            yield f"{place}: {items['inputParameter']} is not a list to iterate over"
        # The type of the items is nowhere in a spec; within the loop they have the one that it declares.
        given[item] = {"runtimeType": _kind(wanted[item])}
    else:
        first, *_ = yaml.safe_load(items["raw"])
        given[item] = {"runtimeValue": {"constant": first}}


def _kind_of(
    spec: Mapping[str, Any], around: Mapping[str, Any], tasks: Mapping[str, Any], source: Mapping[str, Any]
) -> str:
    """Return the type of the value that an input's source gives."""
    assert "parameterExpressionSelector" not in source, "not supported here"
    if "runtimeType" in source:
        return str(source["runtimeType"])
    if "componentInputParameter" in source:
        return _kind(_parameters(around)[source["componentInputParameter"]])
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        producer = tasks[output["producerTask"]]
        if "parameterIterator" in producer:
            return "LIST"
        outputs = spec["components"][producer["componentRef"]["name"]]["outputDefinitions"]["parameters"]
        return _kind(outputs[output["outputParameterKey"]])
    if "taskFinalStatus" in source:
        return "STRUCT"
    constant = source["runtimeValue"]["constant"]
    return next(kind for python_type, kind in _CONSTANTS if isinstance(constant, python_type))


def _parameters(component: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = component.get("inputDefinitions", {}).get("parameters", {})
    return found


def _kind(definition: Mapping[str, Any]) -> str:
    declared = str(definition["parameterType"])
    return _KINDS.get(declared, declared)


@pytest.mark.parametrize("name", SPECS)
def test_every_input_gets_a_value_of_its_type(name: str) -> None:
    assert list(mismatches(SPECS[name])) == []


def test_there_is_a_spec_of_every_pipeline_for_every_platform() -> None:
    assert {
        f"wals-{pipeline}.{target}.yaml"
        for pipeline in ("train", "tune")
        for target in ("vertex", "kubeflow")
    } <= set(SPECS)


def _loop_item(spec: Any) -> None:
    loop = spec["components"]["comp-for-loop-1"]["inputDefinitions"]["parameters"]
    loop["pipelinechannel--suggest-Output-loop-item"]["parameterType"] = "STRING"


def _loop_items(spec: Any) -> None:
    loop = spec["components"]["comp-for-loop-1"]["inputDefinitions"]["parameters"]
    loop["pipelinechannel--suggest-Output"]["parameterType"] = "STRING"


def _output(spec: Any) -> None:
    outputs = spec["components"]["comp-choose"]["outputDefinitions"]["parameters"]
    outputs["regularization_exponent"]["parameterType"] = "STRING"


def _constant(spec: Any) -> None:
    inputs = task_of(spec, "suggest")["inputs"]["parameters"]
    inputs["width"] = {"runtimeValue": {"constant": "four"}}


def _collected(spec: Any) -> None:
    inputs = spec["components"]["comp-suggest-2"]["inputDefinitions"]["parameters"]
    inputs["first"]["parameterType"] = "STRUCT"


def _missing(spec: Any) -> None:
    del task_of(spec, "choose")["inputs"]["parameters"]["first"]


@pytest.mark.parametrize(
    ("breaks", "reported"),
    [
        (_loop_item, ["comp-for-loop-1.trial: candidate expects STRUCT, gets STRING"]),
        (
            _loop_items,
            ["root.for-loop-1: pipelinechannel--suggest-Output is not a list to iterate over"],
        ),
        (
            _output,
            [
                "root.exit-handler-4: "
                "pipelinechannel--choose-regularization_exponent expects number, gets STRING"
            ],
        ),
        (_constant, ["root.suggest: width expects number, gets STRING"]),
        (_collected, ["root.suggest-2: first expects STRUCT, gets LIST"]),
        (_missing, ["root.choose: first gets nothing"]),
    ],
)
def test_what_the_driver_refuses_is_found(breaks: Callable[[Any], None], reported: list[str]) -> None:
    spec = copy.deepcopy(SPECS["wals-tune.kubeflow.yaml"])
    breaks(spec)
    assert list(mismatches(spec)) == reported
