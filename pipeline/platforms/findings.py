"""What a look at a run before it is paid for brings to light."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from trainer.errors import CombinedInputError, InputError, WalsError


@dataclass
class Findings:
    """Takes note of what is wrong, where others would stop at it.

    Attributes:
        problems: with what the user gave.
        unchecked: what could not be looked at, and why.
    """

    problems: list[InputError] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Take note of the error that ends the block."""
        try:
            yield
        except CombinedInputError as error:
            self.problems += error.problems
        except InputError as error:
            self.problems.append(error)
        except WalsError as error:
            self.unchecked.append(str(error))
