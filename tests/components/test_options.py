"""The options of every step: what their models promise, and that the components agree with them."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl.python_component import PythonComponent
from kfp.dsl.structures import InputSpec
from pydantic.fields import FieldInfo

from components.deliver.options import DeliverOptions
from components.evaluate.options import EvaluateOptions
from components.extract.options import ExtractOptions
from components.notify.options import NotifyOptions
from components.prepare.options import PrepareOptions
from components.probe.options import ProbeOptions
from components.publish.options import PublishOptions
from components.train.options import RefitOptions, TrainStepOptions
from components.tune.options import ChooseOptions, SuggestOptions, TrialOptions
from trainer.errors import CombinedInputError
from trainer.options import Bounds, Options, value_type

MODELS: dict[str, type[Options]] = {
    "extract": ExtractOptions,
    "prepare": PrepareOptions,
    "train": TrainStepOptions,
    "refit": RefitOptions,
    "evaluate": EvaluateOptions,
    "reject": Options,
    "publish": PublishOptions,
    "deliver": DeliverOptions,
    "notify": NotifyOptions,
    "suggest": SuggestOptions,
    "trial": TrialOptions,
    "choose": ChooseOptions,
    "probe": ProbeOptions,
    "probe_extract": ExtractOptions,
    "probe_suggest": Options,
    "probe_trial": ProbeOptions,
    "probe_report": Options,
}
"""The options model of each component."""

ROOT = Path(__file__).parents[2]
DATA = {
    *("first", "second", "third", "candidate", "trials", "item", "run"),
    *("step", "cores", "memory_bytes", "accelerators", "status", "pipeline", "tuned"),
}
"""Inputs that are the results of other steps, the platform's, or a step's own settings, not options."""

PYTHON_TYPES = {"String": "str", "Integer": "int", "Float": "float", "Boolean": "bool"}
"""Types of a signature, by kfp's names of them."""

UNKNOWN = "no_such_option"

FIELDS = [
    pytest.param(field, id=f"{model.__name__}.{name}")
    for model in MODELS.values()
    for name, field in model.model_fields.items()
]


def components() -> dict[str, tuple[PythonComponent, Path]]:
    """Return each component with its file, by the component's name."""
    by_name = {}
    for file in sorted((ROOT / "components").glob("*/component.py")):
        module = importlib.import_module(f"components.{file.parent.name}.component")
        for name, value in vars(module).items():
            if isinstance(value, PythonComponent):
                by_name[name] = (value, file.relative_to(ROOT))
    return by_name


def test_every_component_has_a_model_here() -> None:
    assert components().keys() == MODELS.keys(), "add the component's options model to MODELS in this file"


def parameter(name: str, kind: str, *default: Any) -> str:
    """Return a parameter as a signature has it."""
    values = [f'"{value}"' if isinstance(value, str) else repr(value) for value in default]
    return " = ".join([f"{name}: {kind}", *values])


def parameter_of_input(name: str, spec: InputSpec) -> str:
    """Return an input of a component as its signature has it."""
    default = [spec.default] if spec.optional else []
    return parameter(name, PYTHON_TYPES.get(spec.type, spec.type), *default)


def parameter_of_field(name: str, field: FieldInfo) -> str:
    """Return the parameter that a component needs for a field of its model."""
    default = [] if field.is_required() else [field.default]
    return parameter(name, value_type(field).__name__, *default)


@pytest.mark.parametrize("name", MODELS)
def test_a_component_takes_the_fields_of_its_model(name: str) -> None:
    component, file = components()[name]
    model = MODELS[name]
    takes = [
        parameter_of_input(*named)
        for named in (component.component_spec.inputs or {}).items()
        if "@" not in named[1].type and named[0] not in DATA
    ]
    needs = [parameter_of_field(*named) for named in model.model_fields.items()]
    missing = [line for line in needs if line not in takes]
    surplus = [line for line in takes if line not in needs]
    assert takes == needs, "\n".join(
        [
            f"the parameters of {name}() in {file} are not the fields of {model.__name__}:",
            *(f"  add     {line}" for line in missing),
            *(f"  remove  {line}" for line in surplus),
            f"After its artifacts, {name}() must have exactly these lines, in this order:",
            *(f"    {line}," for line in needs),
            "The compiled pipelines change with them: renew the golden files with `make golden`.",
        ]
    )


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_has_a_description_of_one_sentence_and_a_group(field: FieldInfo) -> None:
    description = field.description or ""
    assert description[:1].isupper(), "give the field a description that begins with a capital"
    assert description.endswith("."), "end the description with a full stop"
    assert ". " not in description, "describe the field in one sentence"
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "give the field json_schema_extra=group(...)"
    assert extra.get("group"), "give the field json_schema_extra=group(...)"


def unusable(field: FieldInfo) -> Any:
    """Return a value outside a field's bounds, or of a wrong type if it has none."""
    low = Bounds.of(field).low
    return [] if low is None else value_type(field)(low - 1)


@pytest.mark.parametrize(
    "model", [model for model in MODELS.values() if model.model_fields], ids=lambda model: model.__name__
)
def test_every_unusable_value_is_reported_at_once(model: type[Options]) -> None:
    values = {name: unusable(field) for name, field in model.model_fields.items()} | {UNKNOWN: 1}
    with pytest.raises(CombinedInputError) as caught:
        model(**values)
    lines = [str(problem) for problem in caught.value.problems]
    assert [line.split()[0] for line in lines] == list(values)
    for line in lines:
        assert "\n" not in line
        assert line.count("; ") == 1, "a problem and a remedy"


def test_a_line_has_the_field_the_value_the_problem_and_the_remedy() -> None:
    with pytest.raises(CombinedInputError) as caught:
        ExtractOptions(source=5, data_type="tables", has_header="yes", window_days=-1, sorce="a.csv")
    assert [str(problem) for problem in caught.value.problems] == [
        "source 5: is not text; give another value",
        "data_type 'tables': is unknown; choose from ratings, user_ratings, web_views, ga4, query",
        "has_header 'yes': is not true or false; give another value",
        "window_days -1: is below 0; give an integer of at least 0 and of at most 10000000",
        "sorce 'a.csv': is unknown; did you mean source?",
    ]
