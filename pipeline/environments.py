"""Environments: where pipelines are sent and with what, from files under ``config/`` and from flags."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from pipeline.compiling import pipeline_inputs
from pipeline.settings import LabelKey, LabelValue
from pipeline.training import check_parameters
from trainer.errors import CombinedInputError, InputError

_TYPES = {"String": str, "Integer": int, "Float": float, "Boolean": bool}


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)


class Vertex(_Section):
    """Vertex AI Pipelines of one project and region."""

    target: Literal["vertex"] = "vertex"
    project: Annotated[
        str,
        pydantic.Field(
            pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", description="Google Cloud project."
        ),
    ]
    region: Annotated[
        str,
        pydantic.Field(
            pattern=r"^[a-z]+-[a-z]+\d+$", description="Region of Vertex AI, such as europe-west1."
        ),
    ]
    pipeline_root: Annotated[
        str,
        pydantic.Field(
            pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$",
            description="Cloud Storage folder that runs write their artifacts under.",
        ),
    ]
    service_account: Annotated[
        str,
        pydantic.Field(
            pattern=r"^([^@\s]+@[^@\s]+)?$", description="That steps run as; the project's default if empty."
        ),
    ] = ""
    template_repository: Annotated[
        str,
        pydantic.Field(
            pattern=r"^(https?://\S+)?$",
            description="KFP repository of Artifact Registry, https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY.",
        ),
    ] = ""
    network: Annotated[
        str,
        pydantic.Field(
            pattern=r"^(projects/\d+/global/networks/[a-z0-9-]+)?$",
            description="Network to peer runs with, projects/NUMBER/global/networks/NAME.",
        ),
    ] = ""
    encryption_key: Annotated[
        str,
        pydantic.Field(
            pattern=r"^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$",
            description="Customer-managed key of runs; Google's if empty.",
        ),
    ] = ""
    # Vertex AI takes 64, of which a schedule's runs have one of ours.
    labels: Annotated[
        dict[LabelKey, LabelValue],
        pydantic.Field(max_length=63, description="Label of runs; may be given again."),
    ] = {}
    endpoint: Annotated[
        str,
        pydantic.Field(
            pattern=r"^(https?://\S+)?$",
            description="Other address of the Vertex AI API; one of http:// gets no credentials.",
        ),
    ] = ""


class Kubeflow(_Section):
    """An open-source Kubeflow Pipelines server."""

    target: Literal["kubeflow"] = "kubeflow"
    host: Annotated[
        str,
        pydantic.Field(
            pattern=r"^https?://\S+$",
            description="Address of the Kubeflow Pipelines server, such as http://localhost:8080.",
        ),
    ]
    namespace: Annotated[str, pydantic.Field(description="Profile of a server of many users.")] = ""
    experiment: Annotated[str, pydantic.Field(min_length=1, description="Experiment to put runs in.")] = (
        "wals"
    )
    pipeline_root: Annotated[
        str,
        pydantic.Field(description="Folder that runs write their artifacts under; the server's if empty."),
    ] = ""
    service_account: Annotated[
        str, pydantic.Field(description="That steps run as; the server's default if empty.")
    ] = ""
    time_zone: Annotated[
        str,
        pydantic.Field(
            description="Of the server's schedules: CRON_SCHEDULE_TIMEZONE of ml-pipeline-scheduledworkflow."
        ),
    ] = "UTC"


Platform = Vertex | Kubeflow
PLATFORMS: Mapping[str, type[Platform]] = {"vertex": Vertex, "kubeflow": Kubeflow}


class Images(_Section):
    """The step images, by prefix and tag, or by digest from the file that ``make push`` wrote."""

    prefix: str = ""
    tag: str = ""
    pinned: str = ""


class Environment(_Section):
    """Where a pipeline is sent, and with what.

    Attributes:
        platform: that runs it.
        images: of the steps.
        settings: file of settings by step, as ``wals compile --settings`` takes it; none if empty.
        parameters: values of the pipeline's parameters.
    """

    platform: Annotated[Platform, pydantic.Field(discriminator="target")]
    images: Images = Images()
    settings: str = ""
    parameters: dict[str, Any] = {}


def read_environment(path: Path | None, platform_flags: Mapping[str, Any]) -> Environment:
    """Return the environment of a file, with values given by flags in place of the file's.

    Args:
        path: a YAML or TOML file; None when everything is given by flags.
        platform_flags: values of the platform's settings by name; labels are added to the file's.

    Raises:
        CombinedInputError: every value that cannot be used.
        InputError: the file cannot be read.
    """
    content = _read(path) if path else {}
    platform = content.get("platform") or {}
    if not isinstance(platform, dict):
        raise InputError("platform", platform, "is not a mapping", "give it as `name: value` lines")
    target = platform_flags.get("target", platform.get("target"))
    if not isinstance(target, str) or target not in PLATFORMS:
        raise InputError(
            "target",
            target,
            "is not a platform",
            f"give --target {' or '.join(PLATFORMS)}, or a --config that names it",
        )
    known = PLATFORMS[target].model_fields
    kept = {
        name: value for name, value in platform.items() if target == platform.get("target") or name in known
    }
    merged = {**kept, **platform_flags}
    if isinstance(kept.get("labels"), dict) and "labels" in platform_flags:
        merged["labels"] = {**kept["labels"], **platform_flags["labels"]}
    content = {**content, "platform": merged}
    try:
        return Environment.model_validate(content)
    except pydantic.ValidationError as error:
        names = [*known, *Environment.model_fields, *Images.model_fields]
        raise CombinedInputError(_problem(detail, names) for detail in error.errors()) from error


def read_parameters(
    pipeline: str, from_file: Mapping[str, Any], from_flags: Mapping[str, str]
) -> tuple[dict[str, Any], list[InputError]]:
    """Hold the values given to a pipeline's parameters against its signature and the bounds of its steps.

    Args:
        pipeline: a pipeline's name.
        from_file: values of the parameters' own types.
        from_flags: values as text, which take the place of the file's.

    Returns:
        The given values that can be used, typed, and the problem of every parameter that is unknown, of the
        wrong type, missing, or out of its bounds.
    """
    inputs = _inputs(pipeline)
    model = _model(pipeline)
    values: dict[str, Any] = {}
    problems: list[InputError] = []
    for validate, given in ((model.model_validate, from_file), (model.model_validate_strings, from_flags)):
        # One by one, so that a bad value does not keep the others from being looked at.
        for name, value in given.items():
            try:
                values |= validate({name: value}).model_dump(exclude_unset=True)
            except pydantic.ValidationError as error:
                problems += [_problem(detail, inputs) for detail in error.errors()]
    missing = [
        name for name, spec in inputs.items() if not spec.optional and name not in {*from_file, *from_flags}
    ]
    problems += [
        InputError(name, "", "is missing", f"give it under parameters, or by -p {name}=VALUE")
        for name in missing
    ]
    told = {problem.field for problem in problems}
    defaults = {name: "" if spec.default is None else spec.default for name, spec in inputs.items()}
    complete = {**defaults, **values}
    problems += [problem for problem in check_parameters(complete) if problem.field not in told]
    bad = {problem.field for problem in problems}
    return {name: value for name, value in values.items() if name not in bad}, problems


def file_parameters(path: Path | None) -> dict[str, Any] | None:
    """Return the parameters of an environment's file, whatever its other sections are.

    None if the file has none that can be read, of which :func:`read_environment` tells.
    """
    try:
        content = _read(path) if path else {}
    except InputError:
        return None
    parameters = content.get("parameters", {})
    return parameters if isinstance(parameters, dict) else None


_inputs = cache(pipeline_inputs)


@cache
def _model(pipeline: str) -> type[pydantic.BaseModel]:
    """Return a model of a pipeline's parameters, all of which may be left out."""
    fields: dict[str, Any] = {name: (_TYPES[spec.type], None) for name, spec in _inputs(pipeline).items()}
    return pydantic.create_model(
        "Parameters",
        __config__=pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False),
        **fields,
    )


def _problem(detail: Any, known: Iterable[str]) -> InputError:
    """Return a problem that pydantic found as a line that names the field, the value and the remedy."""
    place = [str(part) for part in detail["loc"]]
    name = ".".join(part for part in place if part not in PLATFORMS)
    if detail["type"] == "missing":
        return InputError(name, "", "is missing", f"give it in the --config file, or by --{_flag(place[-1])}")
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(place[-1], list(known), 1)
        return InputError(
            name, detail["input"], "is not known", f"did you mean {near[0]}?" if near else "leave it out"
        )
    expected = {
        "int_type": "is not a whole number",
        "int_parsing": "is not a whole number",
        "float_type": "is not a number",
        "float_parsing": "is not a number",
        "finite_number": "is not a finite number",
        "bool_type": "is neither true nor false",
        "bool_parsing": "is neither true nor false",
        "string_type": "is not text",
        "string_pattern_mismatch": "is not of the right form",
    }
    remedy = _description(place) or "give another value"
    return InputError(name, detail["input"], expected.get(detail["type"], detail["msg"]), remedy)


def _description(place: list[str]) -> str:
    if place[0] != "platform" or len(place) < 3:
        return ""
    description = PLATFORMS[place[1]].model_fields[place[2]].description or ""
    return f"wanted is: {description.rstrip('.')}"


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except OSError as error:
        raise InputError(
            "config", str(path), f"cannot be read ({error.strerror})", "give a YAML or TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError) as error:
        kind = "TOML" if path.suffix == ".toml" else "YAML"
        raise InputError("config", str(path), f"is no {kind} ({error})", "mend it") from error
    if not isinstance(content, dict):
        raise InputError("config", str(path), "is not a mapping", "give it as `name: value` lines")
    return content
