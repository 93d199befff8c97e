"""Options that several commands have, and the typed object that their values arrive in."""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click

from pipeline.definition.pipelines import PIPELINES, TRAINING
from pipeline.platforms.environments import PLATFORMS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

Command = TypeVar("Command", bound=Callable[..., object])


@dataclass(frozen=True)
class Flags:
    """Values of the options below; those that a command does not have keep their defaults.

    Attributes:
        config: file of an environment.
        platform: the given settings of the platform, by name.
        labels: labels as KEY=VALUE.
        pipeline: name of a pipeline.
        image_prefix: registry and repository of the step images.
        tag: tag of the step images.
        images: file that names the images by digest.
        settings: file of settings by step.
        template: location of an uploaded pipeline.
        parameters: parameters as NAME=VALUE.
        name: name of the run.
    """

    config: Path | None = None
    platform: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    pipeline: str = TRAINING.name
    image_prefix: str | None = None
    tag: str | None = None
    images: str | None = None
    settings: str | None = None
    template: str | None = None
    parameters: tuple[str, ...] = ()
    name: str | None = None

    def platform_arguments(self) -> list[str]:
        """Return the given options of :func:`platform_options`, to be passed to another command."""
        given: list[tuple[str, ...]] = [("--config", str(self.config))] if self.config else []
        given += [
            (_flag(name),) if name in _SWITCHES else (_flag(name), value)
            for name, value in self.platform.items()
        ]
        given += [("--label", label) for label in self.labels]
        return [part for option in given for part in option]


def with_flags(command: Command) -> Command:
    """Pass the values of the options below to a command as one ``flags`` argument.

    Apply it last, directly to the function.
    """
    names = [f.name for f in fields(Flags) if f.name != "platform"]

    @functools.wraps(command)
    def call(*arguments: Any, **values: Any) -> object:
        platform = {name: values.pop(_option(name), None) for name in _PLATFORM_SETTINGS if name != "labels"}
        flags = Flags(
            platform={name: value for name, value in platform.items() if value is not None},
            **{name: values.pop(name) for name in names if name in values},
        )
        return command(*arguments, flags=flags, **values)

    return call  # type: ignore[return-value]


def _option(setting: str) -> str:
    """Return the option for a setting of a platform; ``time_zone`` is the option of a schedule's own cron."""
    return "server_time_zone" if setting == "time_zone" else setting


def _flag(setting: str) -> str:
    return f"--{_option(setting).replace('_', '-')}"


_PLATFORM_SETTINGS = tuple(dict.fromkeys(name for model in PLATFORMS.values() for name in model.model_fields))
_SWITCHES = {
    name
    for model in PLATFORMS.values()
    for name, setting in model.model_fields.items()
    if setting.annotation is bool
}
_PLATFORM = "Platform"
LOCAL = "local"
"""The target of runs on this machine."""

_PIPELINE = "Pipeline"


def platform_options(command: Command, *, places: Collection[str] = tuple(PLATFORMS)) -> Command:
    """Give a command ``--config`` and an option for each setting of the platforms.

    Args:
        command: the command.
        places: what ``--target`` may name.
    """
    for name in reversed([name for name in _PLATFORM_SETTINGS if name != "target"]):
        help_text = " ".join(
            f"{model.model_fields[name].description} [{platform}]"
            for platform, model in PLATFORMS.items()
            if name in model.model_fields
        )
        if name == "labels":
            option = click.option(
                "--label", name, multiple=True, metavar="KEY=VALUE", help=help_text, panel=_PLATFORM
            )
        else:
            switch: dict[str, Any] = {"is_flag": True, "default": None} if name in _SWITCHES else {}
            option = click.option(_flag(name), _option(name), help=help_text, panel=_PLATFORM, **switch)
        command = option(command)
    command = click.option("--target", type=click.Choice(list(places)), help="Platform.", panel=_PLATFORM)(
        command
    )
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or TOML file of an environment, such as config/dev.yaml; other options override it.",
        panel=_PLATFORM,
    )(command)


def place_options(command: Command) -> Command:
    """Give a command the options of a platform, without which it is about the runs on this machine."""
    return platform_options(command, places=(LOCAL, *PLATFORMS))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
parameter_option = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the pipeline; overrides the config's. Repeatable.",
    panel=_PIPELINE,
)
template_option = click.option(
    "--template",
    help="Location of an uploaded pipeline to run instead of compiling one (see `wals upload`).",
    panel=_PIPELINE,
)
name_option = click.option(
    "--name",
    help="Name of the run, and its id on Vertex AI; derived from the time if omitted.",
    panel=_PIPELINE,
)


def image_options(command: Command) -> Command:
    """Give a command the options that select the steps' images and settings."""
    for option in (
        click.option(
            "--settings",
            help="YAML file of settings by step (see `wals compile --settings`).",
            panel=_PIPELINE,
        ),
        click.option(
            "--images", help="File written by `make push`, to name the images by digest.", panel=_PIPELINE
        ),
        click.option("--tag", help="Tag of the step images.", panel=_PIPELINE),
        click.option("--image-prefix", help="Registry and repository of the step images.", panel=_PIPELINE),
    ):
        command = option(command)
    return command


def spec_options(command: Command) -> Command:
    """Give a command the options that select the pipeline and its images."""
    return click.option(
        "--pipeline",
        type=click.Choice(list(PIPELINES)),
        default=TRAINING.name,
        show_default=True,
        help="Pipeline to compile.",
        panel=_PIPELINE,
    )(image_options(command))
