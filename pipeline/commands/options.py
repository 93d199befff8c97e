"""What the commands that speak to a platform have in common: their options and how they are read."""

import json
import re
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import yaml

from components.images import DEFAULT_TAG
from pipeline import training, tuning
from pipeline.backends import Backend, Job, connect
from pipeline.compiling import PIPELINES, compile_pipeline
from pipeline.environments import PLATFORMS, Environment, Vertex, read_environment, read_parameters
from pipeline.pinned import step_images
from pipeline.regions import region_problems
from pipeline.targets import TARGETS, Target
from trainer.errors import CombinedInputError, InputError, problems_of

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
DEFAULT_PIPELINE = "wals-train"
_STEPS = {"wals-train": training.STEPS, "wals-tune": tuning.STEPS}

Command = TypeVar("Command", bound=Callable[..., object])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")


def platform_options(command: Command) -> Command:
    """Give a command ``--config`` and a flag for each setting of the platforms."""
    fields = {name: field for model in PLATFORMS.values() for name, field in model.model_fields.items()}
    del fields["target"]
    for name, field in reversed(fields.items()):
        owners = [platform for platform, model in PLATFORMS.items() if name in model.model_fields]
        only = f" [{owners[0]}]" if len(owners) == 1 else ""
        described = f"{field.description}{only}"
        if name == "labels":
            option = click.option("--label", name, multiple=True, metavar="KEY=VALUE", help=described)
        else:
            option = click.option(_flag(name), _option(name), help=described)
        command = option(command)
    command = click.option("--target", type=click.Choice(list(PLATFORMS)), help="Platform.")(command)
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or TOML file of an environment, such as config/dev.yaml; the flags go before it.",
    )(command)


def _option(name: str) -> str:
    """Return the option for a setting of a platform; ``time_zone`` is that of a schedule's own cron."""
    return "server_time_zone" if name == "time_zone" else name


def _flag(name: str) -> str:
    return f"--{_option(name).replace('_', '-')}"


parameter_option = click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the pipeline; goes before the config's. May be given again.",
)


def image_options(command: Command) -> Command:
    """Give a command the options that say which images."""
    for option in (
        click.option("--settings", help="YAML file of settings by step, as of `wals compile --settings`."),
        click.option("--images", help="File that `make push` wrote, to name the images by digest."),
        click.option("--tag", help="Tag of the step images."),
        click.option("--image-prefix", help="Registry and repository of the step images."),
    ):
        command = option(command)
    return command


def spec_options(command: Command) -> Command:
    """Give a command the options that say which pipeline, with which images."""
    return click.option(
        "--pipeline",
        type=click.Choice(list(PIPELINES)),
        default=DEFAULT_PIPELINE,
        show_default=True,
        help="Which one.",
    )(image_options(command))


def given_platform(config: Path | None, flags: dict[str, Any]) -> list[str]:
    """Return the options of :func:`platform_options` that a command was given, to be given to another."""
    names = ["target", *dict.fromkeys(name for model in PLATFORMS.values() for name in model.model_fields)]
    given = [("--config", str(config))] if config else []
    for name in names:
        value = flags.get(_option(name))
        if name == "labels":
            given += [("--label", label) for label in value or ()]
        elif value is not None and ("--target", value) not in given:
            given.append((_flag(name), value))
    return [part for option in given for part in option]


def environment_of(config: Path | None, flags: dict[str, Any]) -> Environment:
    """Return the environment that the options of :func:`platform_options` give."""
    names = {"target"}.union(*(model.model_fields for model in PLATFORMS.values())) - {"labels"}
    given = {name: flags[_option(name)] for name in names if flags.get(_option(name)) is not None}
    labels = _pairs("label", flags["labels"])
    return read_environment(config, {**given, "labels": labels} if labels else given)


def reached(config: Path | None, flags: dict[str, Any]) -> Backend:
    """Return the backend that the options of :func:`platform_options` give, once it answers."""
    backend = connect(environment_of(config, flags).platform)
    backend.reach()
    return backend


def parameters_of(
    from_file: Mapping[str, Any], pipeline: str, given: Sequence[str]
) -> tuple[dict[str, Any], list[InputError]]:
    """Return the parameters that the config and ``--parameter`` give, and what is wrong with them."""
    malformed = problems_of(partial(_pairs, "parameter", given))
    flags = _pairs("parameter", [text for text in given if "=" in text])
    values, problems = read_parameters(pipeline, from_file, flags)
    return values, [*malformed, *problems]


def checked_parameters(environment: Environment, pipeline: str, flags: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a run.

    Raises:
        CombinedInputError: everything that is wrong with them.
    """
    parameters, problems = parameters_of(environment.parameters, pipeline, flags["parameters"])
    if problems:
        raise CombinedInputError(problems)
    return parameters


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return the values of an option that takes NAME=VALUE and may be given again."""
    malformed = [text for text in given if "=" not in text]
    if malformed:
        raise CombinedInputError(
            InputError(option, text, "has no =", "give it as NAME=VALUE") for text in malformed
        )
    return dict(text.split("=", 1) for text in given)


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
        CombinedInputError: everything that is wrong with the settings, the region and the images.
    """
    find_target = partial(target_of, environment, _STEPS[pipeline], flags)
    problems = problems_of(find_target)
    # Images are held to what the steps are to have, so far as that is known.
    target = TARGETS[environment.platform.target] if problems else find_target()
    find_images = partial(images_of, target, environment, flags)
    problems += problems_of(find_images)
    if problems:
        raise CombinedInputError(problems)
    return compile_pipeline(pipeline, target, folder, find_images())


def target_of(environment: Environment, steps: Collection[str], flags: dict[str, Any]) -> Target:
    """Return the target of an environment's platform with its settings, which its region can serve.

    Args:
        environment: with the platform.
        steps: that are to run there.
        flags: of :func:`image_options`.

    Raises:
        InputError: the settings cannot be used, or the region lacks an accelerator.
    """
    platform = environment.platform
    target = TARGETS[platform.target]
    settings = flags["settings"] or environment.settings
    if settings:
        target = target.with_settings(Path(settings))
    if isinstance(platform, Vertex):
        used = {target.steps[step].accelerator for step in steps if step in target.steps}
        problems = region_problems(platform.region, used - {""})
        if problems:
            raise CombinedInputError(problems)
    return target


def images_of(target: Target, environment: Environment, flags: dict[str, Any]) -> Callable[[str], str]:
    """Return what gives a step's image, as the options of :func:`image_options` or the environment name it.

    Args:
        target: with the settings of the steps that are to run in the images.
        environment: with the images of its own.
        flags: of :func:`image_options`.

    Raises:
        InputError: they name none, or the file of digests cannot be used.
    """
    pinned = flags["images"] or environment.images.pinned
    if pinned:
        return step_images(target, Path(pinned), flags["image_prefix"], flags["tag"])
    prefix = flags["image_prefix"] or environment.images.prefix
    if not prefix:
        raise InputError(
            "images",
            "",
            "are not named",
            "give --image-prefix, or --images with the file that `make push` wrote",
        )
    tag = flags["tag"] or environment.images.tag or DEFAULT_TAG
    return step_images(target, prefix=prefix, tag=tag)


def job_of(environment: Environment, flags: dict[str, Any]) -> Job:
    """Return the job that the options of :func:`spec_options`, ``--parameter`` and ``--name`` give."""
    pipeline = flags["pipeline"]
    parameters = checked_parameters(environment, pipeline, flags)
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
