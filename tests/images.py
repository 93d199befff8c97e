"""The steps that have an image of their own."""

from pathlib import Path

_ROOT = Path(__file__).parents[1]

STEPS = sorted(
    path.stem for path in (_ROOT / "requirements").glob("*.in") if (_ROOT / "components" / path.stem).is_dir()
)
