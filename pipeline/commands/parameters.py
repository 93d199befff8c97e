"""Options of the command line that are the pipeline's own parameters, made from its signature."""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from kfp.dsl.structures import InputSpec

from pipeline.compiling import pipeline_inputs

Command = TypeVar("Command", bound=Callable[..., object])

_TYPES: dict[str, click.ParamType[Any]] = {
    "String": click.STRING,
    "Integer": click.INT,
    "Float": click.FLOAT,
    "Boolean": click.BOOL,
}


def parameter_options(pipeline: str) -> Callable[[Command], Command]:
    """Return a decorator that gives a click command an option for each parameter of a pipeline.

    Types, defaults and help texts come from the pipeline's signature and docstring, so that the command
    line says what the consoles say.
    """

    def decorate(command: Command) -> Command:
        for name, spec in reversed(list(pipeline_inputs(pipeline).items())):
            command = _option(name, spec)(command)
        return command

    return decorate


def _option(name: str, spec: InputSpec) -> Callable[[Command], Command]:
    flag = name.replace("_", "-")
    return click.option(
        f"--{flag}/--no-{flag}" if spec.type == "Boolean" else f"--{flag}",
        name,
        type=_TYPES[spec.type],
        default=spec.default,
        required=not spec.optional,
        show_default=spec.default != "",
        help=spec.description,
    )
