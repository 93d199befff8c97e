"""The registry: its versions, its champion, and who may replace it."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from components.limits import unhurried
from components.options import check_registry
from components.registry.manifests import (
    CHAMPION_SCHEMA,
    CLAIM_SCHEMA,
    VERSION_SCHEMA,
    Champion,
    Claim,
    File,
    Part,
    Version,
    check_version_name,
    digest_of,
    is_version_name,
    promoted,
    rolled_back,
    time_of,
    timestamp,
    version_name,
)
from components.registry.places import open_store
from components.registry.stores import ChangedError, LocalStore, Store
from components.threads import ordered_map
from trainer.errors import InputError, WalsError, has_credentials
from trainer.files import MANIFEST, encode_manifest, parse_manifest, sha256
from trainer.mounts import copy, has_room, is_mounted_bucket
from trainer.scratch import scratch_folder

POINTER = "champion.json"
CLAIM = "delivering.json"

_VERSIONS = "versions"
_ABANDONED = timedelta(days=7)
_CLAIMED_AT_MOST = timedelta(hours=6)
_RESTORE = "restore it from a copy, or remove it"
_LIST = "list the versions with `wals models list`"
_CHOOSE = "choose one with `wals models promote`"
_MOUNT = "/gcs/"

logger = logging.getLogger(__name__)


def open_registry(address: str) -> "Registry":
    """Return the registry at an address, which need not exist yet.

    Args:
        address: a local folder, ``gs://BUCKET/PATH``, ``s3://BUCKET/PATH`` or ``minio://BUCKET/PATH``. A
            folder under ``/gcs``, where Vertex AI mounts buckets, is used as ``gs://``.

    Raises:
        InputError: there can be no registry.
    """
    check_registry(address)
    if has_credentials(address):
        raise InputError(
            "registry", address, "contains credentials", "omit them; those of the environment are used"
        )
    return Registry(address, _store(address))


def _store(address: str) -> Store:
    if address.startswith(_MOUNT) and is_mounted_bucket(Path(address)):
        # A mount offers neither locks that other machines see nor conditional writes.
        address = f"gs://{address.removeprefix(_MOUNT)}"
    return open_store("registry", address) if "://" in address else _local_store(address)


def _local_store(address: str) -> Store:
    if not address.strip():
        raise InputError("registry", address, "is empty", "give a folder, gs://BUCKET or s3://BUCKET")
    if is_mounted_bucket(Path(address)):
        raise InputError(
            "registry",
            address,
            "is in a mounted bucket, where another machine's change would go unseen",
            "give the bucket itself, as gs://BUCKET/PATH",
        )
    return LocalStore(Path(address))


class Registry:
    """A folder of versions and the pointer to the champion.

    Attributes:
        address: where it is.
    """

    def __init__(self, address: str, store: Store) -> None:
        """Use `open_registry` instead."""
        self.address = address
        self._store = store

    def champion(self) -> Champion | None:
        """Return the version that serves, or None.

        Raises:
            InputError: the pointer is damaged, or the place cannot be used.
            WalsError: the place failed.
        """
        stored = self._store.read(POINTER)
        if stored is None:
            return None
        champion = parse_manifest(stored.content, self._place(POINTER), CHAMPION_SCHEMA, Champion, _RESTORE)
        return champion.model_copy(update={"token": stored.token})

    def versions(self) -> list[Version]:
        """Return the complete versions, newest first.

        A version whose manifest is damaged is left out with a warning.

        Raises:
            InputError: the place cannot be used.
            WalsError: the place failed.
        """
        return [found.version for found in self._folders() if found.version]

    def version(self, name: str) -> Version:
        """Return the manifest of a version.

        Raises:
            InputError: there is no such version, it is unfinished or damaged, or the place cannot be used.
            WalsError: the place failed.
        """
        found = self._read(check_version_name(name))
        if found is None:
            raise InputError("version", name, f"is not in {self.address}", _LIST)
        return found

    @contextlib.contextmanager
    def local(self, name: str, part: Part) -> Iterator[Path]:
        """Yield a part of a version as a local file or folder, which lasts as long as the block.

        What is copied from a bucket is checked against the checksums of the manifest.

        Raises:
            InputError: the version or the part does not exist, or is damaged.
            WalsError: the place failed.
        """
        files = self.version(name).parts.get(part)
        if files is None:
            raise InputError("version", name, f"has no {part} in {self.address}", "choose another version")
        source = f"{_folder(name)}/{part}"
        if self._store.folder:
            yield self._store.folder / source
            return
        with scratch_folder() as scratch:
            target = scratch / part
            with unhurried():
                for _ in ordered_map(lambda file: self._fetch(source, file, target), files):
                    pass
            yield target

    def add(self, version: Version, parts: Mapping[Part, Path]) -> None:
        """Copy the parts of a version, and then write its manifest, which completes it.

        Adding the same version again changes nothing. An attempt that failed is continued.

        Args:
            version: its manifest; `Version.parts` is filled in.
            parts: local file or folder by part; one without files is left out.

        Raises:
            InputError: the place cannot be written, or has another version of that name.
            WalsError: the place failed.
        """
        there = self._read(version.name)
        if there is None:
            files = {part: files for part, path in parts.items() if (files := self._put(version, part, path))}
            content = encode_manifest(
                VERSION_SCHEMA, version.model_copy(update={"parts": files}).model_dump(mode="json")
            )
            try:
                self._store.write(_manifest(version.name), content, None)
            except ChangedError:
                there = self.version(version.name)
        if there and there.model_checksum != version.model_checksum:
            raise InputError("version", version.name, "exists with another model", "deliver it again")

    def promote(self, name: str, expected: Champion | None) -> Champion:
        """Make a version the champion, if the champion is still the expected one.

        Args:
            name: name of a complete version. If it is already the expected champion, nothing changes.
            expected: the champion as it was read; None if there was none.

        Returns:
            The new champion.

        Raises:
            InputError: there is no such version, or the place cannot be written.
            WalsError: another run has changed the champion meanwhile, or the place failed.
        """
        self.version(name)
        if expected and expected.version == name:
            return expected
        return self._replace(promoted(name, datetime.now(UTC), expected), expected)

    @contextlib.contextmanager
    def claimed(self, name: str, *, force: bool = False) -> Iterator[None]:
        """Keep other versions from being delivered until the end of the block.

        What a run that died has claimed, its repetition may claim again, and any run after six hours.

        Args:
            name: name of the version that is being delivered.
            force: whether to take over the claim of another version, whose run was killed.

        Raises:
            InputError: the claim is damaged, or the place cannot be written.
            WalsError: another version is being delivered, or the place failed.
        """
        there, token = self._claim()
        now = datetime.now(UTC)
        lasts = there and now - datetime.fromisoformat(there.since) < _CLAIMED_AT_MOST
        if lasts and there and there.version != name and not force:
            raise self._claimed_by(there)
        content = encode_manifest(CLAIM_SCHEMA, Claim(version=name, since=timestamp(now)).model_dump())
        mine: str | None
        try:
            mine = self._store.write(CLAIM, content, token)
        except ChangedError:
            there, mine = self._claim()
            if there is None or there.version != name:
                raise self._claimed_by(there) from None
        try:
            yield
        finally:
            if self._claim()[1] == mine:
                self._store.remove(CLAIM)

    def _claim(self) -> tuple[Claim | None, str | None]:
        """Return the claim and its token; None and None if there is none."""
        stored = self._store.read(CLAIM)
        if stored is None:
            return None, None
        return parse_manifest(stored.content, self._place(CLAIM), CLAIM_SCHEMA, Claim, _RESTORE), stored.token

    def _claimed_by(self, claim: Claim | None) -> WalsError:
        by = f"version {claim.version}, since {claim.since}" if claim else "another version"
        return WalsError(
            f"registry {self.address!r}: another run is delivering {by}; run again when it has ended, or, if "
            "it was killed, use `wals models promote` or `rollback` with --force"
        )

    def rollback(self, expected: Champion | None = None) -> Champion:
        """Make the version before the champion the champion again, and return it.

        Args:
            expected: the champion as it was read; as it is now if omitted.

        Raises:
            InputError: there is no such version, or the place cannot be written.
            WalsError: another run has changed the champion meanwhile, or the place failed.
        """
        champion = expected or self.serving()
        self.version(self.before(champion))
        return self._replace(rolled_back(datetime.now(UTC), champion), champion)

    def before(self, champion: Champion) -> str:
        """Return the version before a champion.

        Raises:
            InputError: there is none.
        """
        if champion.previous is None:
            raise InputError("registry", self.address, "has no version before the champion", _CHOOSE)
        return champion.previous

    def serving(self) -> Champion:
        """Return the version that serves.

        Raises:
            InputError: there is none, the pointer is damaged, or the place cannot be used.
            WalsError: the place failed.
        """
        champion = self.champion()
        if champion is None:
            raise InputError("registry", self.address, "has no champion", _CHOOSE)
        return champion

    def retain(self, keep: int) -> list[str]:
        """Delete the oldest versions, and those that have been unfinished for a week.

        The champion and the version before it are never deleted.

        Args:
            keep: number of complete versions to keep, at least 1.

        Returns:
            The names of the deleted versions.

        Raises:
            InputError: the place cannot be written.
            WalsError: the place failed.
        """
        folders = self._folders()
        oldest_unfinished = datetime.now(UTC) - _ABANDONED
        deleted = [found.name for found in folders if found.version][keep:]
        deleted += [
            found.name for found in folders if found.unfinished and time_of(found.name) < oldest_unfinished
        ]
        champion = self.champion()
        deleted = [
            name for name in deleted if not champion or name not in (champion.version, champion.previous)
        ]
        for name in deleted:
            # The version is incomplete before any other part of it is missing.
            self._store.remove(_manifest(name))
            self._store.remove(_folder(name))
        return deleted

    def name_for(self, digest: str) -> str:
        """Return the name of the version with a content, whether it is finished, begun or new.

        Args:
            digest: SHA-256 of what the version consists of.

        Raises:
            InputError: the place cannot be used.
            WalsError: the place failed.
        """
        new = version_name(datetime.now(UTC), digest)
        claim, _ = self._claim()
        begun = [*self._names(), *([claim.version] if claim else [])]
        same = [name for name in begun if digest_of(name) == digest_of(new)]
        return max(same, default=new)

    def folder(self, name: str) -> str:
        """Return the address of a version's folder."""
        return self._place(_folder(check_version_name(name)))

    def _names(self) -> list[str]:
        return [name for name in self._store.folders(_VERSIONS) if is_version_name(name)]

    def _folders(self) -> list["_Found"]:
        """Return what the folders of versions hold, newest first."""

        def found(name: str) -> _Found:
            try:
                version = self._read(name)
            except InputError as error:
                logger.warning("%s; the version is ignored", error)
                return _Found(name, None, unfinished=False)
            return _Found(name, version, unfinished=version is None)

        return list(ordered_map(found, sorted(self._names(), reverse=True)))

    def _read(self, name: str) -> Version | None:
        """Return the manifest of a version; None if it has none."""
        path = _manifest(name)
        stored = self._store.read(path)
        if stored is None:
            return None
        version = parse_manifest(stored.content, self._place(path), VERSION_SCHEMA, Version, _RESTORE)
        if version.name != name:
            raise InputError(VERSION_SCHEMA.name, self._place(path), f"is that of {version.name}", _RESTORE)
        return version

    def _put(self, version: Version, part: Part, path: Path) -> tuple[File, ...]:
        """Copy a part, and return its files."""
        paths = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        target = f"{_folder(version.name)}/{part}"

        def put(file: Path) -> File:
            inside = file.relative_to(path).as_posix() if file != path else ""
            with _staged(file) as (local, digest):
                self._store.put(local, f"{target}/{inside}".rstrip("/"))
                return File(path=inside, bytes=local.stat().st_size, sha256=digest)

        with unhurried():
            return tuple(ordered_map(put, paths))

    def _fetch(self, source: str, file: File, target: Path) -> None:
        local = target / file.path if file.path else target
        local.parent.mkdir(parents=True, exist_ok=True)
        path = f"{source}/{file.path}".rstrip("/")
        self._store.get(path, local)
        if sha256(local) != file.sha256:
            raise InputError(
                "file",
                self._place(path),
                "does not match the checksum in its manifest",
                "promote another version",
            )

    def _replace(self, champion: Champion, expected: Champion | None) -> Champion:
        content = encode_manifest(CHAMPION_SCHEMA, champion.model_dump(mode="json"))
        try:
            token = self._store.write(POINTER, content, expected.token if expected else None)
        except ChangedError:
            current = self.champion()
            # The client repeats a request whose answer was lost, and the second one is refused.
            if current and current.model_dump() == champion.model_dump():
                return current
            now = f"now {current.version}, since {current.promoted}" if current else "now none"
            raise WalsError(
                f"registry {self.address!r}: another run has changed the champion meanwhile ({now}); "
                f"{champion.version} was not promoted"
            ) from None
        return champion.model_copy(update={"token": token})

    def _place(self, path: str) -> str:
        return f"{self.address.rstrip('/')}/{path}"


@dataclass(frozen=True)
class _Found:
    """A folder of a version; neither complete nor unfinished if its manifest is damaged."""

    name: str
    version: Version | None
    unfinished: bool


def _folder(name: str) -> str:
    return f"{_VERSIONS}/{name}"


def _manifest(name: str) -> str:
    return f"{_folder(name)}/{MANIFEST}"


@contextlib.contextmanager
def _staged(file: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file and its SHA-256; one in a mounted bucket is read once, into a copy."""
    if not is_mounted_bucket(file.parent):
        yield file, sha256(file)
        return
    with scratch_folder() as scratch:
        if not has_room(scratch, file):
            yield file, sha256(file)
            return
        local = scratch / file.name
        yield local, copy(file, local)
