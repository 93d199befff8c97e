"""Reading the files in which people configure: YAML, or TOML by its suffix."""

import tomllib
from pathlib import Path
from typing import Any

import yaml

from trainer.errors import InputError, translated


def read_mapping(field: str, path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML or TOML file; an empty file is an empty mapping.

    Args:
        field: option that names the file.
        path: path of the file.

    Raises:
        InputError: the file cannot be read, is not valid, or does not contain a mapping.
    """
    kind = "TOML" if path.suffix == ".toml" else "YAML"

    def unreadable(error: OSError) -> InputError:
        return InputError(field, str(path), f"cannot be read ({error.strerror})", "give a YAML or TOML file")

    def invalid(error: Exception) -> InputError:
        return InputError(field, str(path), f"is not valid {kind} ({error})", "fix the file")

    with translated(
        (OSError, unreadable),
        ((tomllib.TOMLDecodeError, yaml.YAMLError, UnicodeDecodeError), invalid),
    ):
        text = path.read_text("utf-8")
        content = tomllib.loads(text) if kind == "TOML" else yaml.safe_load(text)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(field, str(path), "is not a mapping", "write it as `name: value` lines")
    return content
