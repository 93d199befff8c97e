"""Environments: the platform, images, settings and parameters of runs, from files and flags."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field
from pydantic.fields import FieldInfo

from components.extract.names import ITEM_SOURCES
from components.train.options import CHAMPION
from pipeline.definition.mappings import read_mapping
from pipeline.definition.pipeline import Pipeline
from pipeline.definition.settings import (
    EncryptionKey,
    LabelKey,
    LabelValue,
    Network,
    NetworkAttachment,
    ServiceAccount,
    Tensorboard,
)
from trainer.errors import CombinedInputError, InputError, collected
from trainer.options import AUTO, input_errors, invalid, no_credentials, unknown_field

_GoogleAddress = Annotated[str, no_credentials("omit them; the application default credentials are used")]
_StoreAddress = Annotated[str, no_credentials("omit them; the server has its own")]


Use = Literal["submit", "upload", "schedule"]
"""What some commands do on a platform, and others do not; all of them look at runs."""


def used_to(*uses: Use) -> dict[str, Any]:
    """Return the ``json_schema_extra`` of a setting that only matters to commands that do one of these."""
    return {"uses": list(uses)}


def matters_to(setting: FieldInfo, uses: Collection[Use]) -> bool:
    """Return whether a setting of a platform matters to a command.

    Args:
        setting: the field that declares it.
        uses: what the command does, besides looking at runs.
    """
    extra = setting.json_schema_extra
    return not isinstance(extra, dict) or not {*uses}.isdisjoint(extra["uses"])  # type: ignore[arg-type]


class _Section(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Vertex(_Section):
    """Vertex AI Pipelines of one project and region."""

    target: Literal["vertex"] = "vertex"
    project: str = Field(
        pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$",
        description="Google Cloud project ID, such as my-project.",
    )
    region: str = Field(
        pattern=r"^[a-z]+-[a-z]+\d+$", description="Region of Vertex AI, such as europe-west1."
    )
    pipeline_root: str = Field(
        pattern=r"^gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?$",
        description="Cloud Storage folder (gs://BUCKET/PATH) that runs write their artifacts under.",
    )
    service_account: ServiceAccount = Field(
        default="",
        description="Service account that steps run as; the project's default if omitted.",
        json_schema_extra=used_to("submit"),
    )
    template_repository: _GoogleAddress = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="KFP repository of Artifact Registry, https://REGION-kfp.pkg.dev/PROJECT/REPOSITORY.",
        json_schema_extra=used_to("upload"),
    )
    network: Network = Field(
        default="",
        description="Network to peer runs with, projects/NUMBER/global/networks/NAME.",
        json_schema_extra=used_to("submit"),
    )
    network_attachment: NetworkAttachment = Field(
        default="",
        description="Network attachment of runs' Private Service Connect interface, instead of a network.",
        json_schema_extra=used_to("submit", "upload"),
    )
    encryption_key: EncryptionKey = Field(
        default="",
        description="Customer-managed encryption key of runs; Google's if omitted.",
        json_schema_extra=used_to("submit"),
    )
    tensorboard: Tensorboard = Field(
        default="",
        description="TensorBoard instance that shows the progress of custom jobs.",
        json_schema_extra=used_to("submit", "upload"),
    )
    experiment: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9-]{0,127})?$",
        description="Experiment to add submitted runs to; scheduled runs are not added.",
        json_schema_extra=used_to("submit"),
    )
    failure_policy: Literal["slow", "fast"] = Field(
        default="slow",
        description="Whether a run starts further steps after one has failed.",
        json_schema_extra=used_to("submit"),
    )
    preflight_validations: bool = Field(
        default=False,
        description="Have Vertex AI validate the steps before the run starts.",
        json_schema_extra=used_to("submit"),
    )
    # Vertex AI takes 64 labels, and a schedule's runs have one of ours.
    labels: dict[LabelKey, LabelValue] = Field(
        default={},
        max_length=63,
        description="Label of runs; repeatable.",
        json_schema_extra=used_to("submit"),
    )
    endpoint: _GoogleAddress = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Another address of the Vertex AI API; http:// addresses get no credentials.",
    )

    @pydantic.field_validator("network_attachment")
    @classmethod
    def _instead_of_a_network(cls, attachment: str, given: pydantic.ValidationInfo) -> str:
        if attachment and given.data.get("network"):
            raise invalid("cannot be combined with a network", "omit one of them")
        return attachment


class Kubeflow(_Section):
    """An open-source Kubeflow Pipelines server."""

    target: Literal["kubeflow"] = "kubeflow"
    host: Annotated[str, no_credentials("put a token into KUBEFLOW_TOKEN")] = Field(
        pattern=r"^https?://\S+$",
        description="Address of the UI of Kubeflow Pipelines, such as http://localhost:8080.",
    )
    namespace: str = Field(default="", description="Profile namespace on a multi-user server.")
    experiment: str = Field(default="wals", min_length=1, description="Experiment to put runs in.")
    pipeline_root: _StoreAddress = Field(
        default="",
        description="Folder that runs write their artifacts under; the server's default if omitted.",
        json_schema_extra=used_to("submit"),
    )
    service_account: str = Field(
        default="",
        description="Service account that steps run as; the server's default if omitted.",
        json_schema_extra=used_to("submit"),
    )
    time_zone: str = Field(
        default="UTC",
        description="Time zone of the server's schedules: CRON_SCHEDULE_TIMEZONE of "
        "ml-pipeline-scheduledworkflow.",
        json_schema_extra=used_to("schedule"),
    )


Platform = Vertex | Kubeflow
PLATFORMS: Mapping[str, type[Platform]] = {"vertex": Vertex, "kubeflow": Kubeflow}


class Images(_Section):
    """The step images, by prefix and tag, or by digest from the file that ``make push`` wrote."""

    prefix: str = ""
    tag: str = ""
    pinned: str = ""


class Environment(_Section):
    """A platform, and the images, settings and parameters of its runs.

    Attributes:
        platform: platform that runs the pipelines.
        images: images of the steps.
        settings: file of settings by step, as ``wals compile --settings`` takes it; defaults if empty.
        parameters: values of the pipeline's parameters.
    """

    platform: Annotated[Platform, Field(discriminator="target")]
    images: Images = Images()
    settings: str = ""
    parameters: dict[str, Any] = {}


Model = TypeVar("Model", bound=pydantic.BaseModel)


def read_environment(path: Path | None, platform_flags: Mapping[str, Any]) -> Environment:
    """Return the environment of a file; flags take precedence over the file.

    Args:
        path: a YAML or TOML file; None if there are only flags.
        platform_flags: values of the platform's settings by name; labels are added to the file's.

    Raises:
        CombinedInputError: every value that cannot be used.
        InputError: the file cannot be read.
    """
    content = read_mapping("config", path) if path else {}
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
    problems = [
        InputError(name, value, f"is not an option of {target}", "omit it")
        for name, value in platform_flags.items()
        if name not in known
    ]
    platform_flags = {name: value for name, value in platform_flags.items() if name in known}
    kept = {
        name: value for name, value in platform.items() if target == platform.get("target") or name in known
    }
    merged = {**kept, **platform_flags}
    if isinstance(kept.get("labels"), dict) and "labels" in platform_flags:
        merged["labels"] = {**kept["labels"], **platform_flags["labels"]}
    found = _validated(PLATFORMS[target], merged, "platform.", problems)
    rest = {**content, "platform": found or PLATFORMS[target].model_construct()}
    environment = _validated(Environment, rest, "", problems)
    if problems or environment is None:
        raise CombinedInputError(problems)
    return environment


def _validated(
    model: type[Model], values: Mapping[str, Any], prefix: str, problems: list[InputError]
) -> Model | None:
    """Return the values as a model, or None after adding what is wrong with them to ``problems``."""
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        missing = "give it in the --config file, or by --{option}"
        problems += input_errors(error, model, prefix=prefix, missing=missing)
        return None


def read_parameters(
    pipeline: Pipeline, from_file: Mapping[str, Any], from_flags: Mapping[str, str]
) -> tuple[dict[str, Any], list[InputError]]:
    """Validate the values given to a pipeline's parameters.

    Args:
        pipeline: pipeline that has the parameters.
        from_file: values of the parameters' own types; those that only other pipelines use are left out.
        from_flags: values as text, which take precedence over the file's.

    Returns:
        The given values that can be used, typed, and a problem for every parameter that is unknown, of the
        wrong type, missing, out of bounds, or in conflict with others.
    """
    known = pipeline.parameters
    values: dict[str, Any] = {}
    problems: list[InputError] = []
    for given, text in ((from_file, False), (from_flags, True)):
        for name, value in given.items():
            if name in pipeline.unused_parameters and not text:
                continue
            if name not in known:
                problems.append(unknown_field(name, value, known))
                continue
            with collected(problems):
                values[name] = known[name].parse(value, text=text)
    problems += [
        InputError(name, "", "is missing", f"give it under parameters, or by -p {name}=VALUE")
        for name, parameter in known.items()
        if parameter.required and name not in {*from_file, *from_flags}
    ]
    bad = {problem.field for problem in problems}
    defaults = {name: "" if parameter.required else parameter.default for name, parameter in known.items()}
    complete = {**defaults, **{name: value for name, value in values.items() if name not in bad}}
    problems += [problem for problem in pipeline.problems(complete) if problem.field not in bad]
    bad = {problem.field for problem in problems}
    return {name: value for name, value in values.items() if name not in bad}, problems


def registry_problems(parameters: Mapping[str, Any], platform: Platform) -> list[InputError]:
    """Return what is wrong with a registry in a folder, which a step's container would lose at its end."""
    registry = str(parameters.get("registry", ""))
    # Vertex AI mounts buckets under /gcs.
    lasts = "://" in registry or (isinstance(platform, Vertex) and registry.startswith("/gcs/"))
    if not registry or lasts:
        return []
    remedy = "give gs://BUCKET/PATH" if isinstance(platform, Vertex) else "give s3:// or gs://BUCKET/PATH"
    return [InputError("registry", registry, f"is lost with its step on {platform.target}", remedy)]


def start_problems(parameters: Mapping[str, Any], platform: Platform) -> list[InputError]:
    """Return what is wrong with the model to start from and with the place of checkpoints on a platform.

    A step finds there what is in a bucket or, on Kubeflow, in a volume that its pod mounts. A retry on
    Kubeflow does not find what the attempt before it left beside the model.
    """
    problems = []
    kept, remedy = (
        ("/gcs/", "give gs://BUCKET/PATH")
        if isinstance(platform, Vertex)
        else ("/", "give s3:// or gs://BUCKET/PATH, or the path of a mounted volume")
    )
    for name in ("warm_start", "checkpoint_dir"):
        place = str(parameters.get(name, ""))
        if place and place != CHAMPION and "://" not in place and not place.startswith(kept):
            problems.append(InputError(name, place, f"cannot be reached on {platform.target}", remedy))
    every = str(parameters.get("checkpoint_every", AUTO))
    if isinstance(platform, Kubeflow) and every not in (AUTO, "0") and not parameters.get("checkpoint_dir"):
        problem = "requires checkpoint_dir on kubeflow, where a retry starts with empty folders"
        problems.append(InputError("checkpoint_every", every, problem, "give checkpoint_dir"))
    return problems


def with_payer(parameters: Mapping[str, Any], platform: Platform) -> dict[str, Any]:
    """Return parameters with the project that pays for BigQuery: the platform's, unless they name another.

    A reader of another project's tables rarely may run jobs there.
    """
    places = [str(parameters.get(name, "")) for name in ("source", *ITEM_SOURCES)]
    if isinstance(platform, Vertex) and any(place.startswith("bq://") for place in places):
        return {"project": platform.project, **parameters}
    return dict(parameters)


def file_parameters(path: Path | None) -> dict[str, Any] | None:
    """Return the parameters of an environment's file, even if its other sections are invalid.

    None if the file has none that can be read, which :func:`read_environment` reports.
    """
    try:
        content = read_mapping("config", path) if path else {}
    except InputError:
        return None
    parameters = content.get("parameters", {})
    return parameters if isinstance(parameters, dict) else None
