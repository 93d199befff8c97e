"""The two kinds of error a user meets: input that must be changed, and a world that did not cooperate."""

from collections.abc import Callable, Iterable


class WalsError(Exception):
    """A failure with one clear line for the user. Its text never spans lines.

    Attributes:
        exit_code: what a command that stops with this error returns; 1, a failure of the world
            (network, disk, permissions of a service), unless a subclass says otherwise.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class InputError(WalsError):
    """What the user gave cannot be used; the line names the field, the value and the remedy."""

    exit_code = 2

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        """Build the line ``field value: problem; remedy``.

        Args:
            field: the parameter, option, column or file part at fault, by the name the user knows.
            value: what was given; shown with ``repr`` and shortened past 120 characters.
            problem: what is wrong with it, without a capital or a full stop.
            remedy: what to do instead, as an imperative.
        """
        shown = repr(value)
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(f"{field} {shown}: {problem}; {remedy}")
        self.field = field


class CombinedInputError(InputError):
    """Several problems with what the user gave, told in one line.

    Attributes:
        problems: each with a line of its own.
    """

    def __init__(self, problems: Iterable[InputError]) -> None:
        self.problems = tuple(problems)
        WalsError.__init__(self, " | ".join(map(str, self.problems)))


def problems_of(check: Callable[[], object]) -> tuple[InputError, ...]:
    """Return the problems that a check raises, of which there are none where it passes."""
    try:
        check()
    except CombinedInputError as error:
        return error.problems
    except InputError as error:
        return (error,)
    return ()
