"""``--template``: what was uploaded in the place of what is compiled now."""

from collections.abc import Mapping
from typing import Any

import click

from pipeline.backends import Backend, Job, pipeline_of
from pipeline.commands.options import checked_parameters, job_name, job_of
from pipeline.compiling import PIPELINES
from pipeline.environments import Environment
from trainer.errors import InputError

template_option = click.option(
    "--template", help="Run what `wals upload` put at this location, instead of compiling the pipeline."
)

_COMPILING = ("images", "image_prefix", "tag", "settings")


def job_from(backend: Backend, environment: Environment, flags: dict[str, Any]) -> Job:
    """Return the job of a template if ``--template`` names one, or else of the pipeline as it is now.

    Raises:
        InputError: the template is not there, or does not take the parameters.
        WalsError: the platform cannot be asked for it.
    """
    location = flags["template"]
    if not location:
        return job_of(environment, flags)
    for name in _COMPILING:
        if flags[name]:
            raise InputError(
                name.replace("_", "-"),
                flags[name],
                "is of no use with --template, whose images are named in it",
                "leave one of them out",
            )
    spec = backend.template(location)
    pipeline = _pipeline_of(spec, location)
    parameters = checked_parameters(environment, pipeline, flags)
    known = pipeline_of(spec)["root"].get("inputDefinitions", {}).get("parameters", {})
    for name in parameters:
        if name not in known:
            raise InputError(
                name, parameters[name], f"is not a parameter of {location}", "upload it anew, or leave it out"
            )
    return Job(job_name(pipeline, flags["name"]), spec, parameters, location)


def _pipeline_of(spec: Mapping[str, Any], location: str) -> str:
    """Return the name of the pipeline that a spec was compiled from."""
    name = str((pipeline_of(spec).get("pipelineInfo") or {}).get("name", ""))
    if name not in PIPELINES:
        raise InputError(
            "template",
            location,
            f"is {name or 'nothing'}, none of {', '.join(PIPELINES)}",
            "give a location that `wals upload` printed",
        )
    return name
