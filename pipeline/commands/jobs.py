"""The environment, the spec and the job that the options of a command describe."""

import math
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from components.images import DEFAULT_TAG
from pipeline.commands.options import LOCAL, Flags
from pipeline.definition.compiling import compile_pipeline, read_spec
from pipeline.definition.images import step_images
from pipeline.definition.pipeline import ImageOf, Pipeline
from pipeline.definition.pipelines import PIPELINES
from pipeline.definition.settings import LIKE
from pipeline.definition.targets import TARGETS, Target
from pipeline.definition.vertex_machines import region_problems
from pipeline.local.runs import LocalRuns
from pipeline.platforms.backend import Backend, Gpus, Job, Runs, pipeline_of
from pipeline.platforms.connect import connect
from pipeline.platforms.environments import (
    Environment,
    Vertex,
    read_environment,
    read_parameters,
    registry_problems,
    start_problems,
    with_payer,
)
from trainer.errors import CombinedInputError, InputError, collected, has_credentials, problems_of


def environment_of(flags: Flags) -> Environment:
    """Return the environment that the options describe."""
    labels = _pairs("label", flags.labels)
    return read_environment(flags.config, {**flags.platform, **({"labels": labels} if labels else {})})


def reached_backend(flags: Flags) -> Backend:
    """Return the backend that the options describe, once it answers."""
    backend = connect(environment_of(flags).platform)
    backend.reach()
    return backend


def runs_of(flags: Flags) -> Runs:
    """Return where the runs are that the options describe: on this machine, unless they name a platform."""
    if flags.platform.get("target") == LOCAL or not (flags.config or flags.platform):
        return LocalRuns()
    return reached_backend(flags)


def given_parameters(
    from_file: Mapping[str, Any], pipeline: Pipeline, given: Sequence[str]
) -> tuple[dict[str, Any], list[InputError]]:
    """Return the parameters that the config and ``--parameter`` give, and what is wrong with them."""
    malformed = problems_of(partial(_pairs, "parameter", given))
    from_flags = _pairs("parameter", [text for text in given if "=" in text])
    values, problems = read_parameters(pipeline, from_file, from_flags)
    return values, [*malformed, *problems]


def job_name(pipeline: str, name: str | None) -> str:
    """Return the name given for a run, or one derived from the pipeline and the time.

    Raises:
        InputError: the name is not valid on every platform.
    """
    chosen = name or f"{pipeline}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if not re.fullmatch(r"[a-z][-a-z0-9]{0,126}", chosen):
        raise InputError(
            "name",
            chosen,
            "is not a valid name of a run",
            "use at most 127 of a-z, 0-9 and -, starting with a letter",
        )
    return chosen


def compiled_spec(environment: Environment, flags: Flags, folder: Path) -> Path:
    """Compile the pipeline for an environment's platform and return the file.

    Raises:
        CombinedInputError: everything that is wrong with the settings, the region and the images.
    """
    pipeline = PIPELINES[flags.pipeline]
    problems: list[InputError] = []
    # Images are checked against the steps' settings, or the defaults if those are invalid.
    target = TARGETS[environment.platform.target]
    with collected(problems):
        target = target_of(environment, pipeline.steps, flags)
    with collected(problems):
        image = images_of(target, environment, flags)
    if problems:
        raise CombinedInputError(problems)
    return compile_pipeline(pipeline, target, folder, image)


def target_of(environment: Environment, steps: Collection[str], flags: Flags) -> Target:
    """Return the target of an environment's platform with its settings, which its region can serve.

    Args:
        environment: environment of the run.
        steps: steps that run on the platform.
        flags: the command's options.

    Raises:
        InputError: the settings cannot be used, or the region does not offer an accelerator.
    """
    platform = environment.platform
    target = TARGETS[platform.target]
    settings = flags.settings or environment.settings
    if settings:
        target = target.with_settings(Path(settings))
    if isinstance(platform, Vertex):
        target = target.with_job_defaults(
            {"tensorboard": platform.tensorboard, "network_attachment": platform.network_attachment}
        )
        used = {target.steps[step].accelerator for step in steps if step in target.steps}
        problems = region_problems(platform.region, used - {""})
        if problems:
            raise CombinedInputError.of(problems)
    return target


def gpus_of(pipeline: Pipeline, target: Target, parameters: Mapping[str, Any]) -> list[Gpus]:
    """Return the GPUs that each step of a pipeline uses.

    Args:
        pipeline: the pipeline.
        target: target with the settings of its steps.
        parameters: values of the pipeline's parameters; the others have their defaults.
    """
    found = []
    for step, settings in target.steps.items():
        # A step with the settings of another one runs after it, and needs no more.
        is_another = settings == target.steps.get(LIKE.get(step, ""))
        if step not in pipeline.steps or not settings.accelerators or is_another:
            continue
        job, factors = settings.custom_job, {f"{step}.accelerators": settings.accelerators}
        if job:
            factors[f"{step}.custom_job.replicas"] = job.replicas
        if step in pipeline.side_by_side:
            name = pipeline.side_by_side[step]
            factors[name] = parameters.get(name, pipeline.parameters[name].default)
        found.append(
            Gpus(
                step,
                settings.accelerator,
                math.prod(factors.values()),
                preemptible=bool(job and job.strategy != "STANDARD"),
                set_by=[name for name, factor in factors.items() if factor > 1],
            )
        )
    return found


def images_of(target: Target, environment: Environment, flags: Flags) -> ImageOf:
    """Return a function that returns a step's image, as the options or the environment name it.

    Args:
        target: target with the settings of the steps that run in the images.
        environment: environment of the run.
        flags: the command's options, which override the environment.

    Raises:
        InputError: no images are named, or the file of digests cannot be used.
    """
    pinned = flags.images or environment.images.pinned
    if pinned:
        return step_images(target, Path(pinned), flags.image_prefix, flags.tag)
    prefix = flags.image_prefix or environment.images.prefix
    if not prefix:
        raise InputError(
            "images",
            "",
            "are missing",
            "give --image-prefix, or --images with the file written by `make push`",
        )
    return step_images(target, prefix=prefix, tag=flags.tag or environment.images.tag or DEFAULT_TAG)


def job_of(backend: Backend, environment: Environment, flags: Flags) -> Job:
    """Return the job that the options describe: of an uploaded template, or of a pipeline compiled now.

    Raises:
        InputError: a parameter cannot be used, or the template does not exist or does not take one.
        WalsError: the platform cannot be reached, or denies access to the template.
    """
    if flags.template:
        return _template_job(backend, environment, flags, flags.template)
    pipeline = PIPELINES[flags.pipeline]
    parameters = _checked_parameters(environment, pipeline, flags)
    name = job_name(pipeline.name, flags.name)
    with tempfile.TemporaryDirectory() as folder:
        spec, *rest = read_spec(compiled_spec(environment, flags, Path(folder)))
    if rest:
        # Kubeflow Pipelines expects this form of a spec with a second document, which configures Kubernetes.
        spec = {"pipeline_spec": spec, "platform_spec": rest[0]}
    return Job(name, spec, parameters)


_COMPILING = ("images", "image_prefix", "tag", "settings")


def _template_job(backend: Backend, environment: Environment, flags: Flags, location: str) -> Job:
    for name in _COMPILING:
        if getattr(flags, name):
            raise InputError(
                name.replace("_", "-"),
                getattr(flags, name),
                "cannot be combined with --template, which already names its images",
                "omit one of them",
            )
    if has_credentials(location):
        raise InputError(
            "template", location, "contains credentials", "give the location that `wals upload` printed"
        )
    spec = backend.template(location)
    pipeline = _template_pipeline(spec, location)
    parameters = _checked_parameters(environment, pipeline, flags)
    known = pipeline_of(spec)["root"].get("inputDefinitions", {}).get("parameters", {})
    for name in parameters:
        if name not in known:
            raise InputError(
                name,
                parameters[name],
                f"is not a parameter of {location}",
                "upload the pipeline again, or omit it",
            )
    return Job(job_name(pipeline.name, flags.name), spec, parameters, location)


def _template_pipeline(spec: Mapping[str, Any], location: str) -> Pipeline:
    """Return the pipeline that a spec was compiled from."""
    name = str((pipeline_of(spec).get("pipelineInfo") or {}).get("name", ""))
    if name not in PIPELINES:
        raise InputError(
            "template",
            location,
            f"contains {name or 'nothing'}, not {' or '.join(PIPELINES)}",
            "give a location printed by `wals upload`",
        )
    return PIPELINES[name]


def _checked_parameters(environment: Environment, pipeline: Pipeline, flags: Flags) -> dict[str, Any]:
    parameters, problems = given_parameters(environment.parameters, pipeline, flags.parameters)
    problems += registry_problems(parameters, environment.platform)
    problems += start_problems(parameters, environment.platform)
    if problems:
        raise CombinedInputError(problems)
    return with_payer(parameters, environment.platform)


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return the values of a repeatable option that takes NAME=VALUE."""
    malformed = [text for text in given if "=" not in text]
    if malformed:
        raise CombinedInputError(
            InputError(option, text, "has no =", "give it as NAME=VALUE") for text in malformed
        )
    return dict(text.split("=", 1) for text in given)
