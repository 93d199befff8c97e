"""Collecting the problems of a run instead of stopping at the first one."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from trainer.errors import InputError, WalsError, collected


@dataclass
class Findings:
    """Collects errors.

    Attributes:
        problems: errors in the user's input.
        unchecked: what could not be checked, and why.
        columns: the columns of the source by role, in words; "" if they are not known.
    """

    problems: list[InputError] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    columns: str = ""

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Record the error that ends the block."""
        try:
            with collected(self.problems):
                yield
        except WalsError as error:
            self.unchecked.append(str(error))
