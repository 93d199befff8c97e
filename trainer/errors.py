"""The two kinds of errors that users see: input that must be changed, and failures of the environment."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class WalsError(Exception):
    """A failure with one clear line for the user. Its text never spans lines.

    Attributes:
        exit_code: exit code of a command that stops with this error: 1 for a failure of the environment
            (network, disk, permissions of a service), unless a subclass overrides it.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


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
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field} {shown}: {problem}; {remedy}")
        self.field, self.problem, self.remedy = field, problem, remedy


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
