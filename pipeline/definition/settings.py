"""Settings by step, which a file gives when compiling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from components.notify.options import VERSIONS_OF_SECRETS
from pipeline.definition.mappings import read_mapping
from trainer.errors import CombinedInputError, InputError, collected
from trainer.options import input_errors, invalid

_DAY = 86_400
_LONGEST = 365 * _DAY
LIKE: Mapping[str, str] = {"refit": "train"}
"""The step whose settings another one has, unless they are given."""

TRAINING = ("train", "refit")
"""The steps that several machines divide among them."""

# YAML reads `cpu: 8` and `memory: 16000000` as numbers.
_Quantity = BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)
_SUFFIXES: Mapping[str, int] = {
    "": 1,
    "Ki": 2**10,
    **{letter: 1000**power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("MGTPE", 2)},
}
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
KUBERNETES_SECRETS = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+"
Secret = Annotated[str, StringConstraints(pattern=f"^({KUBERNETES_SECRETS}|{VERSIONS_OF_SECRETS})$")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{0,63}$")]
ServiceAccount = Annotated[str, StringConstraints(pattern=r"^([^@\s]+@[^@\s]+)?$")]
Network = Annotated[str, StringConstraints(pattern=r"^(projects/[0-9]+/global/networks/[a-z0-9-]+)?$")]
NetworkAttachment = Annotated[
    str, StringConstraints(pattern=r"^(projects/[^/]+/regions/[^/]+/networkAttachments/[a-z0-9-]+)?$")
]
Tensorboard = Annotated[
    str, StringConstraints(pattern=r"^(projects/[^/]+/locations/[^/]+/tensorboards/[0-9]+)?$")
]
Reservation = Annotated[
    str, StringConstraints(pattern=r"^(any|none|projects/[^/]+/zones/[^/]+/reservations/[^/]+)?$")
]
PersistentResource = Annotated[str, StringConstraints(pattern=r"^([a-z]([a-z0-9-]{0,126}[a-z0-9])?)?$")]
EncryptionKey = Annotated[
    str, StringConstraints(pattern=r"^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$")
]


class _Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class CustomJob(_Settings):
    """A Vertex AI custom job that runs a step, with options that a plain step does not have."""

    machine_type: str = Field(
        pattern=r"^[a-z][a-z0-9]*-[a-z0-9-]+$",
        description="Machine type, such as g2-standard-16; replaces the step's cpu and memory.",
    )
    boot_disk_type: Literal["", "pd-ssd", "pd-standard", "hyperdisk-balanced"] = Field(
        default="", description="Type of the boot disk; the one that the machine requires if omitted."
    )
    boot_disk_gb: int = Field(default=100, ge=100, le=64_000, description="Size of the boot disk in GB.")
    strategy: Literal["STANDARD", "SPOT", "FLEX_START"] = Field(
        default="STANDARD",
        description="How machines are obtained: on demand, from Spot capacity, which is cheaper and can be "
        "preempted, or from a queue.",
    )
    max_wait_seconds: int | None = Field(
        default=None,
        ge=0,
        le=_LONGEST,
        description="Longest wait in the queue of FLEX_START; 0 for no limit.",
    )
    reservation: Reservation = Field(
        default="",
        description="Reservation to take the machine from: projects/P/zones/Z/reservations/R, any or none.",
    )
    persistent_resource: PersistentResource = Field(
        default="", description="ID of a persistent resource whose machines run the job."
    )
    replicas: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="Machines of the job, which divide the training among them; for train and refit.",
    )
    timeout_seconds: int = Field(
        default=7 * _DAY, ge=1, le=_LONGEST, description="Time after which the job is stopped."
    )
    service_account: ServiceAccount = Field(
        default="", description="Service account that the step runs as; the run's if omitted."
    )
    network: Network = Field(
        default="",
        description="Network to peer with, projects/NUMBER/global/networks/NAME; the run's if omitted.",
    )
    network_attachment: NetworkAttachment = Field(
        default="",
        description="Network attachment of a Private Service Connect interface, instead of a network.",
    )
    encryption_key: EncryptionKey = Field(
        default="", description="Customer-managed encryption key; the run's if omitted."
    )
    tensorboard: Tensorboard = Field(
        default="", description="TensorBoard instance that shows the training's progress."
    )
    labels: dict[LabelKey, LabelValue] = Field(default={}, description="Labels of the job.")

    def with_defaults(self, defaults: Mapping[str, str]) -> Self:
        """Return this job with values for the settings that it leaves empty.

        Args:
            defaults: values by setting.
        """
        missing = {name: value for name, value in defaults.items() if not getattr(self, name)}
        if self.network or self.network_attachment:
            # A job has either of them, and this one has chosen.
            missing = {name: missing[name] for name in missing.keys() - {"network", "network_attachment"}}
        return self.model_copy(update=missing)


class StepSettings(_Settings):
    """Where and how a step runs."""

    cpu: Annotated[str, _Quantity] = Field(
        pattern=r"^([0-9]{1,6}(\.[0-9]{1,3})?|[1-9][0-9]{0,8}m)$",
        description="CPU limit in cores, in Kubernetes notation such as 4 or 500m.",
    )
    # kfp refuses fractions, and Kubernetes refuses K.
    memory: Annotated[str, _Quantity] = Field(
        pattern=r"^[1-9][0-9]{0,17}([EPTGM]i?|Ki)?$",
        description="Memory limit in Kubernetes notation such as 16G.",
    )
    accelerator: str = Field(default="", description="GPU, by the platform's name for it.")
    accelerators: int = Field(default=0, ge=0, le=1000, description="Number of GPUs.")
    retries: int = Field(
        default=0, ge=0, le=100, description="Number of times that a failed step is retried."
    )
    retry_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="Wait before the first retry; each wait is twice the one before.",
    )
    cache: bool = Field(
        default=True, description="Whether to reuse the results of an earlier run with the same inputs."
    )
    secrets: dict[Variable, Secret] = Field(
        default={},
        description="Environment variables from secrets, by variable: secret/key of Kubernetes, or "
        "projects/P/secrets/S/versions/V of Secret Manager.",
    )
    custom_job: CustomJob | None = Field(default=None, description="Runs the step as a Vertex AI custom job.")

    @property
    def cores(self) -> float:
        """The CPU limit in cores."""
        return float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)

    @property
    def memory_bytes(self) -> int:
        """The memory limit in bytes."""
        suffix = self.memory.lstrip("0123456789")
        return int(self.memory.removesuffix(suffix)) * _SUFFIXES[suffix]

    def with_job_defaults(self, defaults: Mapping[str, str]) -> Self:
        """Return these settings with values for their custom job, if they have one that does not set them.

        Args:
            defaults: values by setting of a custom job.
        """
        if not self.custom_job:
            return self
        return self.model_copy(update={"custom_job": self.custom_job.with_defaults(defaults)})

    @pydantic.field_validator("cpu")
    @classmethod
    def _some(cls, cpu: str) -> str:
        if not float(cpu.rstrip("m")):
            raise invalid("is zero", "give at least 1m")
        return cpu

    @model_validator(mode="after")
    def _names_what_it_counts(self) -> Self:
        if bool(self.accelerator) != (self.accelerators > 0):
            raise invalid("requires both accelerator and accelerators, or neither", "give both, or omit both")
        return self


def read_settings(path: Path, defaults: Mapping[str, StepSettings]) -> dict[str, StepSettings]:
    """Return the steps' settings: those of a YAML file over the defaults of a platform.

    The file maps steps to settings::

        train:
          accelerator: NVIDIA_L4
          accelerators: 1
          retries: 2

    A step that does the work of another one has its settings, unless the file gives it settings of its own.

    Raises:
        InputError: the file cannot be read, or has steps, settings or values that are unknown or invalid.
    """
    steps = read_mapping("settings", path)
    if not all(isinstance(given, dict) for given in steps.values()):
        raise InputError(
            "settings", str(path), "does not map steps to settings", "write it as `train: {cpu: 8}`"
        )
    problems = [
        InputError("settings", step, "is not a step", f"choose from {', '.join(defaults)}")
        for step in steps
        if step not in defaults
    ]
    settings: dict[str, StepSettings] = {}
    for step, default in defaults.items():
        with collected(problems):
            like = settings.get(LIKE.get(step, ""), default)
            settings[step] = merged(step, like, steps.get(step, {}))
    if problems:
        raise CombinedInputError.of(problems)
    return settings


def merged(step: str, default: StepSettings, given: Mapping[str, Any]) -> StepSettings:
    """Return a step's settings: those given over the defaults.

    Raises:
        InputError: naming every setting that cannot be used.
    """
    values = default.model_dump()
    if given.get("custom_job"):
        # A retry of a custom job does not start another job.
        values["retries"] = 0
    try:
        return StepSettings.model_validate({**values, **given})
    except pydantic.ValidationError as error:
        raise CombinedInputError.of(input_errors(error, StepSettings, prefix=f"{step}.")) from error
