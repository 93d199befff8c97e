"""What the commands that speak to a platform have in common: their options and how they are read."""

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from components.images import DEFAULT_TAG
from pipeline.backends import Backend, Job, connect
from pipeline.compiling import PIPELINES, compile_pipeline
from pipeline.environments import PLATFORMS, Environment, read_environment, read_parameters
from pipeline.pinned import step_images
from pipeline.targets import TARGETS
from trainer.errors import InputError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
DEFAULT_PIPELINE = "wals-train"

Command = TypeVar("Command", bound=Callable[..., object])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def platform_options(command: Command) -> Command:
    """Give a command ``--config`` and a flag for each setting of the platforms."""
    fields = {name: field for model in PLATFORMS.values() for name, field in model.model_fields.items()}
    del fields["target"]
    for name, field in reversed(fields.items()):
        owners = [platform for platform, model in PLATFORMS.items() if name in model.model_fields]
        only = f" [{owners[0]}]" if len(owners) == 1 else ""
        flag = f"--{name.replace('_', '-')}"
        # The zone of a server's schedules is a matter of its config; a schedule has a zone of its own.
        if name != "time_zone":
            command = click.option(flag, name, help=f"{field.description}{only}")(command)
    command = click.option("--target", type=click.Choice(list(PLATFORMS)), help="Platform.")(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or TOML file of an environment, such as config/dev.yaml; the flags go before it.",
    )(command)


parameter_option = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the pipeline; goes before the config's. May be given again.",
)


def spec_options(command: Command) -> Command:
    """Give a command the options that say which pipeline, with which images."""
    for option in (
        click.option("--images", help="File that `make push` wrote, to name the images by digest."),
        click.option("--tag", help="Tag of the step images."),
        click.option("--image-prefix", help="Registry and repository of the step images."),
        click.option(
            "--pipeline",
            type=click.Choice(list(PIPELINES)),
            default=DEFAULT_PIPELINE,
            show_default=True,
            help="Which one.",
        ),
    ):
        command = option(command)
    return command


def environment_of(config: Path | None, flags: dict[str, Any]) -> Environment:
    """Return the environment that the options of :func:`platform_options` give."""
    names = {"target"}.union(*(model.model_fields for model in PLATFORMS.values()))
    return read_environment(config, {name: flags[name] for name in names if flags.get(name) is not None})


def reached(config: Path | None, flags: dict[str, Any]) -> Backend:
    """Return the backend that the options of :func:`platform_options` give, once it answers."""
    backend = connect(environment_of(config, flags).platform)
    backend.reach()
    return backend


def parameters_of(environment: Environment, pipeline: str, given: Sequence[str]) -> dict[str, Any]:
    """Return the pipeline's parameters that the config and ``--parameter`` give."""
    flags = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError("parameter", text, "has no =", "give it as NAME=VALUE")
        flags[name] = value
    return read_parameters(pipeline, environment.parameters, flags)


def job_name(pipeline: str, name: str | None) -> str:
    """Return the name given for a run, or one made of the pipeline's and the time.

    Raises:
        InputError: the name is not one that every platform takes.
    """
    made = name or f"{pipeline}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if not re.fullmatch(r"[a-z][-a-z0-9]{0,127}", made):
        raise InputError(
            "name", made, "is no name of a run", "use a-z, 0-9 and -, from a letter on, 128 at most"
        )
    return made


def compiled_spec(environment: Environment, pipeline: str, flags: dict[str, Any], folder: Path) -> Path:
    """Compile a pipeline for an environment's platform and return the file.

    Raises:
        InputError: the images or the settings cannot be used.
    """
    target = TARGETS[environment.platform.target]
    if environment.settings:
        target = target.with_settings(Path(environment.settings))
    pinned = flags["images"] or environment.images.pinned
    if pinned:
        images = step_images(target, Path(pinned), flags["image_prefix"], flags["tag"])
        return compile_pipeline(pipeline, target, folder, images)
    prefix = flags["image_prefix"] or environment.images.prefix
    if not prefix:
        raise InputError(
            "images",
            "",
            "are not named",
            "give --image-prefix, or --images with the file that `make push` wrote",
        )
    tag = flags["tag"] or environment.images.tag or DEFAULT_TAG
    return compile_pipeline(pipeline, target, folder, step_images(target, prefix=prefix, tag=tag))


def job_of(environment: Environment, flags: dict[str, Any]) -> Job:
    """Return the job that the options of :func:`spec_options`, ``--parameter`` and ``--name`` give."""
    pipeline = flags["pipeline"]
    parameters = parameters_of(environment, pipeline, flags["parameters"])
    name = job_name(pipeline, flags["name"])
    with tempfile.TemporaryDirectory() as folder:
        spec, *rest = yaml.safe_load_all(
            compiled_spec(environment, pipeline, flags, Path(folder)).read_text("utf-8")
        )
    if rest:
        # As Kubeflow Pipelines takes a spec of two documents, the second of which knows Kubernetes.
        spec = {"pipeline_spec": spec, "platform_spec": rest[0]}
    return Job(name, spec, parameters)


def print_json(value: Any) -> None:
    """Print a value, of which dataclasses become objects and times ISO 8601, as JSON."""

    def plain(item: Any) -> Any:
        if is_dataclass(item) and not isinstance(item, type):
            return asdict(item)
        if isinstance(item, datetime):
            return item.isoformat()
        raise TypeError(f"{type(item).__name__} is not JSON")

    click.echo(json.dumps(value, indent=2, default=plain))
