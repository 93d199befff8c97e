"""Where the data of a run come from, as facts for people to read."""

from collections.abc import Sequence

from components.artifacts.profile import Profile

_FILES = 5


def source_facts(profile: Profile) -> dict[str, str]:
    """Return what is known of the source of interactions, by name; without what was not given."""
    source = profile.source
    if source is None:
        return {}
    facts = {
        "source": source.uri,
        "data type": source.data_type,
        "files": _files(source.files),
        "snapshot of the table": source.snapshot,
        "query": source.query,
        "row filter": source.row_filter,
        "window": _window(source.window_start, source.window_end),
        "checksum of the interactions": profile.checksum,
    }
    return {name: text for name, text in facts.items() if text}


def _files(names: Sequence[str]) -> str:
    more = len(names) - _FILES
    return ", ".join(names[:_FILES]) + (f" and {more:,} more" if more > 0 else "")


def _window(start: str, end: str) -> str:
    return " ".join(f"{word} {time}" for word, time in (("from", start), ("until", end)) if time)
