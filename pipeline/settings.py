"""What a person may set for each step when compiling, from a file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
import yaml
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from trainer.errors import CombinedInputError, InputError

_DAY = 86_400
# A YAML reader takes `cpu: 8` and `memory: 16000000` for numbers.
_Quantity = BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)
_SUFFIXES: Mapping[str, int] = {
    "": 1,
    "Ki": 2**10,
    **{letter: 1000**power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": 1024**power for power, letter in enumerate("MGTPE", 2)},
}
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9._-]+$")]
LabelKey = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
LabelValue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{0,63}$")]


class _Settings(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class CustomJob(_Settings):
    """A Vertex AI custom job that runs a step, for what a plain step of a pipeline cannot have there.

    Attributes:
        machine_type: such as ``g2-standard-16``; takes the place of the step's cpu and memory.
        boot_disk_type: of the boot disk.
        boot_disk_gb: size of the boot disk in GB.
        spot: whether Spot capacity will do, which is cheaper and may be taken away; give the step retries.
        replicas: machines that the job gets. Only the first works, as the trainer uses one machine.
        timeout_seconds: the job is stopped after this time.
        service_account: that the step runs as; the project's default if empty.
        network: to peer with; none if empty.
        encryption_key: customer-managed key; Google's if empty.
        labels: of the job.
    """

    machine_type: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*-[a-z0-9-]+$")]
    boot_disk_type: Literal["pd-ssd", "pd-standard"] = "pd-ssd"
    boot_disk_gb: int = Field(default=100, ge=100, le=64_000)
    spot: bool = False
    replicas: int = Field(default=1, ge=1)
    timeout_seconds: int = Field(default=7 * _DAY, ge=1)
    service_account: str = Field(default="", pattern=r"^([^@\s]+@[^@\s]+)?$")
    network: str = Field(default="", pattern=r"^(projects/\d+/global/networks/[a-z0-9-]+)?$")
    encryption_key: str = Field(
        default="", pattern=r"^(projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+)?$"
    )
    labels: dict[LabelKey, LabelValue] = {}


class StepSettings(_Settings):
    """Where and how a step runs.

    Attributes:
        cpu: limit in cores, in Kubernetes notation.
        memory: limit in Kubernetes notation, such as ``16G``.
        accelerator: the platform's name of the GPU.
        accelerators: number of GPUs.
        retries: times that a failed step is tried again.
        retry_seconds: wait before the first retry, an hour at most; each wait is twice the one before.
        cache: whether the results of an earlier run with the same inputs are taken instead of running.
        secrets: environment variables with the Kubernetes secret and key that each is from, as
            ``secret/key``.
        custom_job: runs the step as a Vertex AI custom job.
    """

    cpu: Annotated[str, _Quantity] = Field(pattern=r"^(\d+(\.\d{1,3})?|[1-9]\d*m)$")
    # No fraction, which kfp refuses, and no K, which Kubernetes does.
    memory: Annotated[str, _Quantity] = Field(pattern=r"^[1-9]\d*([EPTGM]i?|Ki)?$")
    accelerator: str = ""
    accelerators: int = Field(default=0, ge=0)
    retries: int = Field(default=0, ge=0)
    retry_seconds: int = Field(default=60, ge=0, le=3600)
    cache: bool = True
    secrets: dict[Variable, SecretKey] = {}
    custom_job: CustomJob | None = None

    @property
    def cores(self) -> float:
        """The limit of cpu as a number."""
        return float(self.cpu[:-1]) / 1000 if self.cpu.endswith("m") else float(self.cpu)

    @property
    def memory_bytes(self) -> int:
        """The limit of memory in bytes."""
        suffix = self.memory.lstrip("0123456789")
        return int(self.memory.removesuffix(suffix)) * _SUFFIXES[suffix]

    @pydantic.field_validator("cpu")
    @classmethod
    def _some(cls, cpu: str) -> str:
        if not float(cpu.rstrip("m")):
            raise ValueError("is no cores at all")
        return cpu

    @model_validator(mode="after")
    def _names_what_it_counts(self) -> Self:
        if bool(self.accelerator) != (self.accelerators > 0):
            raise ValueError("accelerator and accelerators go together: give both or neither")
        return self


def read_settings(path: Path, defaults: Mapping[str, StepSettings]) -> dict[str, StepSettings]:
    """Return the steps' settings: those of a YAML file over the defaults of a platform.

    The file maps steps to settings::

        train:
          accelerator: NVIDIA_L4
          accelerators: 1
          retries: 2

    Raises:
        InputError: the file cannot be read, or names steps, settings or values that there are not.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(
            "settings", str(path), f"cannot be read ({error.strerror})", "give a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError("settings", str(path), f"is not YAML ({error})", "mend it") from error
    steps = {} if content is None else content
    if not isinstance(steps, dict) or not all(isinstance(given, dict) for given in steps.values()):
        raise InputError(
            "settings", str(path), "does not map steps to settings", "write it as `train: {cpu: 8}`"
        )
    problems = [
        InputError("settings", step, "is not a step", f"give some of {', '.join(defaults)}")
        for step in steps
        if step not in defaults
    ]
    found = {}
    for step, default in defaults.items():
        try:
            found[step] = merged(step, default, steps.get(step, {}))
        except CombinedInputError as error:
            problems += error.problems
    if problems:
        raise CombinedInputError(problems)
    return found


def merged(step: str, default: StepSettings, given: Mapping[str, Any]) -> StepSettings:
    """Return a step's settings: those given over the defaults.

    Raises:
        CombinedInputError: naming all that cannot be used.
    """
    try:
        return StepSettings.model_validate({**default.model_dump(), **given})
    except pydantic.ValidationError as error:
        raise CombinedInputError(_problem(step, detail) for detail in error.errors()) from error


def _problem(step: str, detail: Any) -> InputError:
    """Return what pydantic found wrong with a step's settings as a line."""
    field = ".".join([step, *map(str, detail["loc"])])
    problem = detail["msg"].removeprefix("Value error, ")
    return InputError(field, detail["input"], problem, "docs/settings.md lists the settings")
