"""The profile that a run is compared with: a fixed one, or the latest in a folder that keeps it."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.artifacts.profile import SCHEMA, Profile
from trainer.errors import InputError
from trainer.files import MANIFEST
from trainer.storage import deliver, exists, joined, local_copy

logger = logging.getLogger(__name__)

_FIELD = "previous_profile"
_LATEST = "latest"


@dataclass(frozen=True)
class Previous:
    """The profile of the previous run, if any.

    Attributes:
        profile: profile to compare with; None if there is none.
        kept_in: folder, local or on Cloud Storage, for the profile that the next run is compared with; "" to
            keep none.
    """

    profile: Profile | None
    kept_in: str

    @classmethod
    def find(cls, folder: str) -> Self:
        """Find the previous profile.

        Args:
            folder: folder, local or on Cloud Storage; "" for no comparison. A profile artifact is used and
                left unchanged. Any other folder keeps the profile of the latest run, and may have none yet.

        Raises:
            InputError: the folder's profile cannot be used.
            WalsError: Cloud Storage cannot be read.
        """
        if not folder:
            return cls(None, "")
        if exists(_FIELD, joined(folder, MANIFEST)):
            return cls(load_profile(folder), "")
        latest = joined(folder, _LATEST)
        if exists(_FIELD, joined(latest, MANIFEST)):
            return cls(load_profile(latest), latest)
        logger.warning("no profile in %s yet, so there is nothing to compare with", folder)
        return cls(None, latest)

    def keep(self, profile: Path) -> None:
        """Keep the profile artifact in a local folder for the next run, if profiles are to be kept.

        Raises:
            WalsError: it cannot be written.
        """
        if self.kept_in:
            deliver(profile, _FIELD, self.kept_in, MANIFEST)
            logger.info("profile kept in %s for the next run", self.kept_in)


def load_profile(folder: str) -> Profile:
    """Return the profile artifact in a folder, local or on Cloud Storage.

    Raises:
        InputError: the folder has no usable profile.
        WalsError: Cloud Storage cannot be read.
    """
    try:
        with local_copy(_FIELD, folder) as local:
            return Profile.read(local)
    except InputError as error:
        problem = f"is not a complete profile of version {SCHEMA.version}"
        remedy = "give the folder of an earlier run's profile, or omit it"
        raise InputError(_FIELD, folder, problem, remedy) from error
