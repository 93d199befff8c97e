"""The documents of a registry: the manifest of a version, and the pointer to the champion."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic import AfterValidator, Field

from components.artifacts.evaluation import Decision
from trainer.errors import InputError
from trainer.files import Count, Digest, Manifest, Schema

VERSION_SCHEMA = Schema("wals.version", 1)
CHAMPION_SCHEMA = Schema("wals.champion", 1)
CLAIM_SCHEMA = Schema("wals.claim", 1)

Part = Literal[
    "model",
    "saved_model",
    "recommendations",
    "similar_items",
    "embeddings",
    "evaluation",
    "profile",
    "report.html",
    "model_card.json",
    "metrics_schema.json",
]
"""What a version may consist of: folders and files."""

_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(?P<time>\d{8}T\d{6}Z)-(?P<digest>[0-9a-f]{8})", re.ASCII)
_FILE = re.compile(r"[\w.-]+(/[\w.-]+)*", re.ASCII)
_LONGEST_PATH = 1_000
_LONGEST_HISTORY = 100


def version_name(created: datetime, digest: str) -> str:
    """Return the name of a version, such as ``20261126T201500Z-1a2b3c4d``.

    Args:
        created: time with a zone.
        digest: SHA-256 of what the version consists of.
    """
    return f"{created.astimezone(UTC):{_TIME}}-{digest[:8]}"


def is_version_name(name: str) -> bool:
    """Return whether a text has the form of a version's name."""
    return bool(_NAME.fullmatch(name))


def check_version_name(name: str) -> str:
    """Return a version's name.

    Raises:
        InputError: the text cannot be one, and would be dangerous as a part of a path.
    """
    if not is_version_name(name):
        raise InputError(
            "version", name, "is not the name of a version", "list the versions with `wals models list`"
        )
    return name


def digest_of(name: str) -> str:
    """Return the digest in a version's name."""
    return check_version_name(name)[-8:]


def time_of(name: str) -> datetime:
    """Return the time in a version's name."""
    return datetime.strptime(check_version_name(name)[:-9], _TIME).replace(tzinfo=UTC)


def timestamp(time: datetime) -> str:
    """Return a time as in the documents: ISO 8601 in UTC, to the second."""
    return time.astimezone(UTC).isoformat(timespec="seconds")


def _is_name(name: str) -> str:
    if not is_version_name(name):
        raise ValueError("is not the name of a version")
    return name


def _is_time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


def _is_path(path: str) -> str:
    inside = _FILE.fullmatch(path) and not {".", ".."} & set(path.split("/"))
    if len(path) > _LONGEST_PATH or (path and not inside):
        raise ValueError("is not a path inside the version")
    return path


Name = Annotated[str, AfterValidator(_is_name)]
Time = Annotated[str, AfterValidator(_is_time)]


class File(Manifest):
    """A file of a part.

    Attributes:
        path: path in the part's folder, with ``/``; "" if the part is itself a file.
        bytes: size.
        sha256: checksum.
    """

    path: Annotated[str, AfterValidator(_is_path)]
    bytes: Count
    sha256: Digest


class Version(Manifest):
    """A model with everything that was made of it.

    Attributes:
        name: name of the version.
        created: time at which it was delivered.
        run: run that made it.
        decision: why it was delivered.
        metrics: the judged model's metrics, by name.
        parameters: parameters of the training.
        model_checksum: checksum of the model artifact.
        holdout_checksum: checksum of the holdout that it was judged on.
        code_version: version of this package.
        refit_iters: iterations on all data after the model was judged; 0 if it is the judged model itself.
        parts: files of each part; the registry fills them in.
    """

    name: Name
    created: Time
    run: str
    decision: Decision
    metrics: Mapping[str, float]
    parameters: Mapping[str, Any]
    model_checksum: Digest
    holdout_checksum: Digest
    code_version: str
    refit_iters: Count
    parts: Mapping[Part, tuple[File, ...]] = Field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for files in self.parts.values() for file in files)


class Promotion(Manifest):
    """When a version became the champion."""

    version: Name
    promoted: Time


class Champion(Manifest):
    """The version that serves.

    Attributes:
        version: its name.
        promoted: time since which it serves.
        previous: version to roll back to; None if there is none.
        history: promotions, newest first, this one included.
        token: identifies this state of the pointer; not part of the document.
    """

    version: Name
    promoted: Time
    previous: Name | None
    history: Annotated[tuple[Promotion, ...], Field(max_length=_LONGEST_HISTORY)]
    token: str = Field(default="", exclude=True)

    @pydantic.model_validator(mode="after")
    def _starts_with_itself(self) -> "Champion":
        if not self.history or self.history[0].version != self.version:
            raise ValueError("history does not begin with the champion")
        return self


class Claim(Manifest):
    """A version that is being delivered, and since when."""

    version: Name
    since: Time


def promoted(version: str, now: datetime, before: Champion | None) -> Champion:
    """Return the pointer after a promotion.

    Args:
        version: version that becomes the champion.
        now: time of the promotion.
        before: the champion before it; None if there was none.
    """
    entry = Promotion(version=version, promoted=timestamp(now))
    history = (entry, *(before.history if before else ()))[:_LONGEST_HISTORY]
    return Champion(
        version=version,
        promoted=entry.promoted,
        previous=before.version if before else None,
        history=history,
    )


def rolled_back(now: datetime, before: Champion) -> Champion:
    """Return the pointer after a return to the version before the champion.

    The version before that one is the next to return to: going back twice does not bring back the version
    that was left first.

    Args:
        now: time of the return.
        before: the champion, which has a version before it.
    """
    target = str(before.previous)
    # Newest first. What came after the version first served has been left since.
    names = [entry.version for entry in before.history]
    older = names[len(names) - names[::-1].index(target) :] if target in names else []
    previous = next((name for name in older if name not in (target, before.version)), None)
    return promoted(target, now, before).model_copy(update={"previous": previous})
