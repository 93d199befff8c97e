"""The gate for known vulnerabilities in the locked packages: ``make audit``.

pip-audit asks a service with OSV's API about each package of the locks that ship. The exit code is 1 if it
knows a vulnerability that accepted.toml does not accept, or does not answer, and 2 if that file is not valid.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

FOLDER = Path(__file__).parent
# Packages for development and for testing with Airflow are not part of what runs.
NOT_SHIPPED = re.compile(r"(airflow.*|audit|dev)\.lock\.txt")


@dataclass(frozen=True)
class Acceptance:
    """A vulnerability that is accepted until the end of a day."""

    id: str
    reason: str
    expires: date


@dataclass(frozen=True)
class Vulnerability:
    """A known vulnerability of a locked package; ``names`` are its identifiers."""

    package: str
    version: str
    names: tuple[str, ...]
    fixed: tuple[str, ...]


def main() -> int:
    """Print the findings, and return the exit code."""
    try:
        accepted = read_accepted(FOLDER / "accepted.toml")
    except ValueError as error:
        return failed(f"requirements/accepted.toml: {error}", 2)
    locks = {path: path.read_text("utf-8") for path in sorted(FOLDER.glob("*.lock.txt"))}
    pinned = {
        pin
        for path, text in locks.items()
        if not NOT_SHIPPED.fullmatch(path.name)
        for pin in re.findall(r"^[\w.-]+==[^\s;]+", text, re.MULTILINE)
    }
    try:
        found = vulnerabilities(sorted(pinned))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return failed(f"the vulnerabilities are not known: {error}; set OSV_URL to a mirror of OSV's API", 1)
    today = datetime.now(UTC).date()
    current = {acceptance.id: acceptance for acceptance in accepted if acceptance.expires >= today}
    open_ones = [one for one in found if not current.keys() & set(one.names)]
    for one in open_ones:
        fixed = f"fixed in {', '.join(one.fixed)}" if one.fixed else "no version fixes it"
        print(f"{one.package} {one.version}: {', '.join(one.names)}; {fixed}")
    known = {name for one in found for name in one.names}
    for acceptance in accepted:
        if acceptance.id not in known:
            print(f"{acceptance.id}: no locked package has it any more; remove it from accepted.toml")
        elif acceptance.expires < today:
            print(f"{acceptance.id}: was accepted until {acceptance.expires}")
    if open_ones:
        names = " ".join(sorted({one.package for one in open_ones}))
        return failed(
            f'vulnerabilities: {len(open_ones)}; run make upgrade PACKAGES="{names}", or accept them', 1
        )
    print(f"locked packages: {len(pinned)}; known vulnerabilities: {len(found)}, all accepted")
    return 0


def failed(message: str, code: int) -> int:
    """Print an error, and return its exit code."""
    print(f"audit: error: {message}", file=sys.stderr)
    return code


def read_accepted(path: Path) -> list[Acceptance]:
    """Return the accepted vulnerabilities.

    Raises:
        ValueError: the file is not TOML, or an entry lacks a part or has another.
    """
    accepted = []
    for number, entry in enumerate(tomllib.loads(path.read_text("utf-8")).get("accepted", []), 1):
        kinds = {name: type(value) for name, value in entry.items()}
        if kinds != {"id": str, "reason": str, "expires": date} or not entry["reason"].strip():
            raise ValueError(f"entry {number} requires exactly id, reason and expires, a date")
        accepted.append(Acceptance(**entry))
    return accepted


def vulnerabilities(pinned: Sequence[str]) -> list[Vulnerability]:
    """Return the known vulnerabilities of packages.

    Args:
        pinned: packages as ``name==version``; several versions of one are allowed.

    Raises:
        OSError, ValueError, KeyError, TypeError: the service cannot be asked, or its answer is not one.
    """
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service=osv", "--format=json"]
    command += ["--progress-spinner=off", "--desc=off", "--disable-pip", "--no-deps"]
    if url := os.environ.get("OSV_URL"):
        command.append(f"--osv-url={url}")
    found: list[Vulnerability] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, batch in enumerate(once_each(pinned)):
            file = Path(folder) / f"{number}.txt"
            file.write_text("\n".join(batch), "utf-8")
            result = subprocess.run(
                [*command, f"--requirement={file}"], capture_output=True, text=True, check=False
            )
            if not result.stdout.startswith("{"):
                raise OSError((result.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1])
            for package in json.loads(result.stdout)["dependencies"]:
                found += [
                    Vulnerability(
                        package["name"],
                        package["version"],
                        (one["id"], *one["aliases"]),
                        tuple(one["fix_versions"]),
                    )
                    for one in package["vulns"]
                ]
    return found


def once_each(pinned: Sequence[str]) -> list[list[str]]:
    """Return the packages in lists that have no package twice, which pip-audit refuses."""
    batches: list[dict[str, str]] = []
    for pin in pinned:
        name = pin.partition("==")[0]
        batch = next((batch for batch in batches if name not in batch), None)
        if batch is None:
            batches.append(batch := {})
        batch[name] = pin
    return [list(batch.values()) for batch in batches]


if __name__ == "__main__":
    sys.exit(main())
