"""Marks and colours of the items' categories."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.evaluate.examples import Item

_COLOURS = 12
_NO_COLOUR = "hue-none"


@dataclass(frozen=True)
class Mark:
    """The mark of an item's category: its first letters on a colour."""

    letters: str
    colour: str


@dataclass(frozen=True)
class Slice:
    """A category's part of a list of items.

    Attributes:
        category: its name.
        items: number of items that have it.
        colour: its colour.
        start: where the slice starts, in percent of the width of all.
        width: its width, likewise.
    """

    category: str
    items: int
    colour: str
    start: float
    width: float


class Palette:
    """The colours of categories, as classes of the style sheet; the most frequent ones have their own."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._colours = {
            category: f"hue-{place}" for place, (category, _) in enumerate(_counted(items)[:_COLOURS])
        }

    def mark(self, item: Item) -> Mark:
        """Return the mark of an item."""
        return Mark(item.category[:2].title(), self._colours.get(item.category, _NO_COLOUR))

    def mix(self, items: Sequence[Item]) -> list[Slice]:
        """Return the categories of a list of items, the most frequent first."""
        counts = _counted(items)
        total = sum(count for _, count in counts)
        slices: list[Slice] = []
        start = 0.0
        for category, count in counts:
            width = round(100 * count / total, 2)
            slices.append(Slice(category, count, self._colours.get(category, _NO_COLOUR), start, width))
            start = round(start + width, 2)
        return slices


def _counted(items: Iterable[Item]) -> list[tuple[str, int]]:
    counts = Counter(item.category for item in items if item.category)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
