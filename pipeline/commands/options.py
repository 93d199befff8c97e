"""Options that several commands have, and the typed object that their values arrive in."""

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import rich_click as click

from pipeline.commands.base import Command, RareOption
from pipeline.definition.pipelines import PIPELINES, TRAINING
from pipeline.platforms.environments import PLATFORMS, Platform, Use, matters_to
from trainer.options import choices_of


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

    def platform_arguments(self, *uses: Use) -> list[str]:
        """Return the given options of :func:`platform_options` that another command has.

        Args:
            uses: what the other command does, as for :func:`platform_options`.
        """
        known = _settings(uses, PLATFORMS)
        given: list[tuple[str, ...]] = [("--config", str(self.config))] if self.config else []
        given += [
            (_flag(name),) if name in _SWITCHES else (_flag(name), value)
            for name, value in self.platform.items()
            if name in known
        ]
        given += [("--label", label) for label in self.labels if "labels" in known]
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
_TITLES = {"vertex": "Vertex AI", "kubeflow": "Kubeflow"}
LOCAL = "local"
"""The target of runs on this machine."""

_PIPELINE = "Pipeline"


def platform_options(
    *uses: Use, targets: Collection[str] = tuple(PLATFORMS), local: bool = False
) -> Callable[[Command], Command]:
    """Return a decorator that gives a command ``--config`` and options for settings of the platforms.

    Args:
        uses: what the command does on the platform, which decides the settings that matter.
        targets: platforms that the command supports.
        local: whether the command is about runs on this machine unless a platform is given.
    """
    supported = {name: PLATFORMS[name] for name in targets}
    places = (*([LOCAL] if local else []), *supported)
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help="YAML or TOML file of an environment, such as config/dev.yaml; other options override it.",
            panel=_PLATFORM,
        ),
        click.option("--target", type=click.Choice(places), help="Platform.", panel=_PLATFORM),
        *(_platform_option(name, uses, supported) for name in _settings(uses, supported)),
    ]

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _settings(uses: Collection[Use], platforms: Mapping[str, type[Platform]]) -> list[str]:
    """Return the names of the platforms' settings that matter to a command, in order, without the target."""
    return [
        name
        for name in _PLATFORM_SETTINGS
        if name != "target"
        and any(
            name in model.model_fields and matters_to(model.model_fields[name], uses)
            for model in platforms.values()
        )
    ]


def _platform_option(
    name: str, uses: Collection[Use], platforms: Mapping[str, type[Platform]]
) -> Callable[[Any], Any]:
    having = {
        target: model.model_fields[name]
        for target, model in platforms.items()
        if name in model.model_fields and matters_to(model.model_fields[name], uses)
    }
    shared = len(having) > 1
    texts = (
        f"{field.description} [{target}]" if shared else field.description for target, field in having.items()
    )
    attributes: dict[str, Any] = {
        "help": " ".join(map(str, texts)),
        "panel": _PLATFORM if shared else _TITLES[next(iter(having))],
        "cls": RareOption,
    }
    if name == "labels":
        return click.option("--label", name, multiple=True, metavar="KEY=VALUE", **attributes)
    choices = [choice for field in having.values() for choice in choices_of(field.annotation)]
    if name in _SWITCHES:
        attributes |= {"is_flag": True, "default": None}
    elif choices:
        attributes["type"] = click.Choice(choices)
    return click.option(_flag(name), _option(name), **attributes)


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
            cls=RareOption,
        ),
        click.option(
            "--images",
            help="File written by `make push`, to name the images by digest.",
            panel=_PIPELINE,
            cls=RareOption,
        ),
        click.option("--tag", help="Tag of the step images.", panel=_PIPELINE, cls=RareOption),
        click.option(
            "--image-prefix",
            help="Registry and repository of the step images.",
            panel=_PIPELINE,
            cls=RareOption,
        ),
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
