"""The pipelines' parameters, as the steps' options models declare them."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pydantic
from pydantic.fields import FieldInfo

from trainer.errors import CombinedInputError, InputError, problems_of
from trainer.options import Bounds, Options, choices_of, input_errors, is_common, value_type

Models = Sequence[type[Options]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a pipeline.

    Attributes:
        name: name of the parameter, and of the field that declares it.
        field: the declaration.
    """

    name: str
    field: FieldInfo

    @property
    def type(self) -> type:
        """``str``, ``int``, ``float`` or ``bool``."""
        return value_type(self.field)

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.field.is_required()

    @property
    def default(self) -> Any:
        """Value if none is given; never None, which platforms cannot pass. Unset if required."""
        return self.field.default

    @property
    def description(self) -> str:
        """What the consoles, the command line and the documentation show."""
        return self.field.description or ""

    @property
    def group(self) -> str:
        """Heading under which help texts list the parameter."""
        extra = self.field.json_schema_extra
        return str(extra["group"]) if isinstance(extra, dict) else ""

    @property
    def common(self) -> bool:
        """Whether ``--help`` shows the parameter, and not only ``--help-all``."""
        return is_common(self.field)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The allowed values; empty if the type allows any."""
        return choices_of(self.field.annotation)

    @property
    def bounds(self) -> Bounds:
        """The range of a number."""
        return Bounds.of(self.field)

    def parse(self, value: Any, *, text: bool) -> Any:
        """Return a value of the parameter's type.

        Args:
            value: value from a configuration file or the command line.
            text: whether to convert the value from text, as on the command line.

        Raises:
            InputError: the value cannot be used.
        """
        model = _model_of(self.name, self.field.annotation, self.field)
        try:
            if text:
                # First the type alone: pydantic does not convert text to the numbers of a Literal.
                typed = _model_of(self.name, self.type)
                value = getattr(typed.model_validate_strings({self.name: value}), self.name)
            return getattr(model.model_validate({self.name: value}), self.name)
        except pydantic.ValidationError as error:
            raise CombinedInputError.of(input_errors(error, model)) from error


def _model_of(name: str, annotation: Any, default: Any = ...) -> type[pydantic.BaseModel]:
    """Return a model with a single field, which is validated like a field of `Options`."""
    definition: dict[str, Any] = {name: (annotation, default)}
    return pydantic.create_model("Parameter", __config__=Options.model_config, **definition)


def parameters_of(models: Models) -> dict[str, Parameter]:
    """Return all parameters of the steps, by name, in the order of their declarations.

    Raises:
        TypeError: two models declare a parameter differently.
    """
    parameters: dict[str, Parameter] = {}
    for model in models:
        for name, field in model.model_fields.items():
            known = parameters.setdefault(name, Parameter(name, field))
            if _declaration(known.field) != _declaration(field):
                raise TypeError(f"{model.__name__}.{name} differs from another step's {name}")
    return parameters


def _declaration(field: FieldInfo) -> tuple[object, ...]:
    return field.annotation, field.default, field.metadata, field.description, field.json_schema_extra


def parameter_problems(models: Models, values: Mapping[str, Any]) -> Iterator[InputError]:
    """Yield every problem that the steps would find in a pipeline's parameters, before any step runs.

    Args:
        models: models of the steps' options.
        values: values of all parameters, by name.
    """
    found: dict[str, InputError] = {}
    for model in models:
        check = partial(model, **model.select(values))
        found |= {str(problem): problem for problem in problems_of(check)}
    yield from found.values()


def pipeline_function(
    summary: str,
    parameters: Mapping[str, Parameter],
    wire: Callable[[Mapping[str, Any]], None],
) -> Callable[..., Any]:
    """Return a function that ``dsl.pipeline`` turns into a pipeline.

    kfp reads the parameters from a function's signature and their descriptions from its docstring. Both are
    generated, so that pipelines share parameters without repeating them.

    Args:
        summary: the docstring's first line.
        parameters: the pipeline's parameters by name.
        wire: function that creates the tasks from the parameters' values by name.
    """

    def function(*values: Any) -> None:
        wire(dict(zip(parameters, values, strict=True)))

    lines = [f"    {name}: {parameter.description}" for name, parameter in parameters.items()]
    function.__doc__ = "\n".join([summary, "", "Args:", *lines])
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name,
                kind,
                default=inspect.Parameter.empty if parameter.required else parameter.default,
                annotation=parameter.type,
            )
            for name, parameter in parameters.items()
        ]
    )
    return function
