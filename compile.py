"""Compile the pipelines: ``python compile.py`` writes a spec for each platform into ``build/``."""

import sys


def main() -> int:
    """Run ``wals compile`` under the name of this file."""
    try:
        from pipeline.cli import run_command
        from pipeline.commands.compile import command
    except ModuleNotFoundError as error:
        print(
            f"compile.py: error: this Python has no {error.name!r}; "
            "run `make setup`, then `.venv/bin/python compile.py`",
            file=sys.stderr,
        )
        return 2
    return run_command(command, sys.argv[1:], "compile.py")


if __name__ == "__main__":
    sys.exit(main())
