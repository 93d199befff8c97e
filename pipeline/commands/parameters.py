"""Options of the command line that are the parameters of a pipeline."""

from collections.abc import Callable
from typing import Any

import rich_click as click
from click.shell_completion import CompletionItem

from pipeline.commands.base import Command, RareOption
from pipeline.definition.parameters import Parameter
from pipeline.definition.pipeline import Pipeline
from trainer.errors import CombinedInputError
from trainer.options import AUTO, NumberOrAuto

_TYPES: dict[type, click.ParamType[Any]] = {
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
}


class _Choice(click.ParamType[Any]):
    """One of a few values, which help and completion show and the options model checks."""

    def __init__(self, parameter: Parameter) -> None:
        self.name = "choice"
        self._parameter = parameter

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return f"[{'|'.join(map(str, self._parameter.choices))}]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [
            CompletionItem(str(choice))
            for choice in self._parameter.choices
            if str(choice).startswith(incomplete)
        ]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return _TYPES[self._parameter.type].convert(value, param, ctx)


def parameter_options(pipeline: Pipeline) -> Callable[[Command], Command]:
    """Return a decorator that gives a command an option for each parameter of a pipeline.

    Types, choices, ranges, defaults, groups and help texts come from the steps' options models, so that the
    command line says what the consoles say.
    """

    def decorate(command: Command) -> Command:
        for parameter in reversed(list(pipeline.parameters.values())):
            command = _option(parameter)(command)
        return command

    return decorate


def checked(pipeline: Pipeline, values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of :func:`parameter_options` if the steps accept them.

    Raises:
        CombinedInputError: naming every value that cannot be used.
    """
    problems = pipeline.problems(values)
    if problems:
        raise CombinedInputError.of(problems)
    return values


def _option(parameter: Parameter) -> Callable[[Command], Command]:
    name = parameter.name.replace("_", "-")
    default = {"required": True} if parameter.required else {"default": parameter.default}
    option: Callable[[Command], Command] = click.option(
        f"--{name}/--no-{name}" if parameter.type is bool else f"--{name}",
        parameter.name,
        cls=click.RichOption if parameter.common else RareOption,
        type=_Choice(parameter) if parameter.choices else _TYPES[parameter.type],
        show_default=not parameter.required and parameter.default != "",
        metavar=_metavar(parameter),
        help=parameter.description,
        panel=parameter.group,
        **default,
    )
    return option


def _metavar(parameter: Parameter) -> str | None:
    """Return a number's type and range, as click itself shows them; None for what click shows anyway."""
    interval = parameter.bounds.interval
    automatic = NumberOrAuto.in_field(parameter.field)
    kind = _TYPES[automatic.kind if automatic else parameter.type].name.upper()
    return f"{f'{AUTO}|' if automatic else ''}{kind} [{interval}]" if interval else None
