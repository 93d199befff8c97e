"""The two kinds of errors that users see: input that must be changed, and failures of the environment."""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

# Up to the last @ of an address: passwords contain @, and keys of stores contain /. A port is no password.
_CREDENTIALS = re.compile(
    r"(?P<scheme>https?://)(?:[^\s/?#@:'\"]*:(?!\d+(?:[/?#\s'\"]|$))\S*|[^\s/?#@'\"]*)@"
    r"|(?P<other>(?<!\w)(?!https?:)\w[\w+.-]*://)(?:[^\s/?#@:'\"]*:\S*|[^\s/?#@'\"]*)@",
    re.IGNORECASE,
)


def has_credentials(text: str) -> bool:
    """Return whether a text contains an address with a user name or a password, as in ``s3://KEY:SECRET@…``."""
    return bool(_CREDENTIALS.search(text))


def without_credentials(text: str) -> str:
    """Return a text with ``***`` in place of the user names and passwords in its addresses."""
    return _CREDENTIALS.sub(lambda found: f"{found['scheme'] or found['other']}***@", text)


def counted(number: int, thing: str) -> str:
    """Return a number with what it counts, such as ``1 row`` or ``2,000 rows``.

    Args:
        number: the number.
        thing: the word for one; several have an s.
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


class WalsError(Exception):
    """A failure with one clear line for the user. Its text never spans lines or shows passwords in addresses.

    Attributes:
        exit_code: exit code of a command that stops with this error: 1 for a failure of the environment
            (network, disk, permissions of a service), unless a subclass overrides it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(without_credentials(" ".join(message.split())))


class InputError(WalsError):
    """Input that cannot be used; the line names the field, the value and the remedy."""

    exit_code = 2

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        """Build the line ``field value: problem; remedy``.

        Args:
            field: the parameter, option, column or file part at fault, by the name the user knows.
            value: shown with ``repr`` and shortened beyond 120 characters.
            problem: what is wrong with the value, without a capital or a full stop.
            remedy: what to do instead, as an imperative.
        """
        # Before it is cut, which could leave half of a password.
        shown = without_credentials(_shown(value))
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field} {shown}: {problem}; {remedy}")
        self.field, self.value, self.problem, self.remedy = field, value, problem, remedy


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:
        # Python writes no integer of thousands of digits.
        return "a number of thousands of digits"


_DISTRIBUTION = "wals-pipeline"


class MissingExtraError(InputError):
    """A package that only an extra of this distribution brings is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        """Build the line.

        Args:
            package: the missing package, by its distribution's name.
            extra: name of the extra.
        """
        install = f"pip install '{_DISTRIBUTION}[{extra}]'"
        WalsError.__init__(self, f"{package} is not installed: this requires the extra {extra}: {install}")


class CombinedInputError(InputError):
    """Several problems with the input, reported in one line.

    Attributes:
        problems: one error for each problem.
    """

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = tuple(problems)
        WalsError.__init__(self, " | ".join(map(str, self.problems)))

    @classmethod
    def of(cls, problems: Sequence[InputError]) -> InputError:
        """Return one error for one problem or several."""
        return problems[0] if len(problems) == 1 else cls(problems)


@contextlib.contextmanager
def collected(problems: list[InputError]) -> Iterator[None]:
    """Add the problems of the `InputError` that ends the block to a list, instead of raising it."""
    try:
        yield
    except CombinedInputError as error:
        problems += error.problems
    except InputError as error:
        problems.append(error)


def problems_of(check: Callable[[], object]) -> list[InputError]:
    """Return the problems that a check raises; none if it passes."""
    problems: list[InputError] = []
    with collected(problems):
        check()
    return problems


_OF_THE_MACHINE = {
    errno.ENOSPC: "free some, or use a larger disk",
    errno.EDQUOT: "free some, or ask for a larger quota",
    errno.EFBIG: "raise the limit of the size of files",
    errno.EROFS: "use a folder that can be written",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit of open files",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "give a folder",
    errno.ELOOP: "fix the link",
}


def failure_of_machine(error: BaseException) -> WalsError | None:
    """Return the error for what this machine lacks or refuses; None for another failure, a bug.

    It may lack space on a working disk, memory, or a package that an extra of this distribution brings; a
    path may be one that cannot be.
    """
    if isinstance(error, ImportError):
        return missing_extra(error)
    if isinstance(error, MemoryError):
        detail = f" ({error})" if str(error) else ""
        return WalsError(f"out of memory{detail}; use a machine with more, or lower latent_factors")
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
        place = f"{error.filename}: " if error.filename else ""
        return WalsError(f"{place}{os.strerror(error.errno)}; {_OF_THE_MACHINE[error.errno]}")
    return None


# Distributions that are not named after their module.
_DISTRIBUTIONS = {
    "google-protobuf": "protobuf",
    "grpc": "grpcio",
    "hypertune": "cloudml-hypertune",
}
_NOT_IN_NAMESPACE = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<package>[\w.]+)' \(unknown ")
_IN_EXTRA = re.compile(r"(?P<package>[\w.-]+)[^;]*;.*\bextra == [\"'](?P<extra>[\w-]+)[\"']")


def missing_extra(error: ImportError) -> MissingExtraError | None:
    """Return the error for a failed import of a package that an extra brings; None if no extra brings it.

    The extra is the first in the distribution's metadata that has the package.
    """
    if found := _NOT_IN_NAMESPACE.match(str(error)):
        module = f"{found['package']}.{found['name']}"
    elif isinstance(error, ModuleNotFoundError):
        module = error.name or ""
    else:
        return None
    name = re.sub("[._]", "-", module).lower()
    for beginning, distribution in _DISTRIBUTIONS.items():
        if f"{name}-".startswith(f"{beginning}-"):
            name = distribution
    extras = _packages_of_extras()
    # Of google.cloud.bigquery_storage_v1 only the beginning is a distribution's name, and the missing
    # module may be a namespace such as google, the beginning of several.
    within = [package for package in extras if f"{name}-".startswith(f"{package}-")]
    around = [package for package in extras if package.startswith(f"{name}-")]
    package = max(within, key=len, default="") or next(iter(around), "")
    return MissingExtraError(package, extras[package]) if package else None


def _packages_of_extras() -> dict[str, str]:
    """Return the extra that brings a package, by the package's name; none if the code runs from a folder."""
    from importlib import metadata  # slow to import

    try:
        requirements = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    extras: dict[str, str] = {}
    for requirement in requirements:
        found = _IN_EXTRA.match(requirement)
        if found and found["package"] != _DISTRIBUTION:
            extras.setdefault(found["package"].lower(), found["extra"])
    return extras


Rule = tuple[type[Exception] | tuple[type[Exception], ...], Callable[[Any], WalsError]]
"""Exceptions of a library, and the function that turns one into an error for the user."""


@contextlib.contextmanager
def translated(*rules: Rule) -> Iterator[None]:
    """Replace a library's exception with the error that the first matching rule returns.

    A `WalsError` passes unchanged, and so does an exception that no rule matches, which is a bug.

    Args:
        rules: rules in order of precedence.

    Raises:
        WalsError: returned by a rule.
    """
    try:
        yield
    except WalsError:
        raise
    except Exception as error:
        for kinds, make in rules:
            if isinstance(error, kinds):
                raise make(error) from error
        raise
