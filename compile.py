"""Compile the pipelines: ``python compile.py`` writes a spec for each platform into ``build/``.

``python compile.py --upload`` uploads a spec, to create runs from it.
"""

import sys

_UPLOAD = "--upload"


def main() -> int:
    """Run ``wals compile``, or ``wals upload`` with ``--upload``, under the name of this file."""
    try:
        from pipeline.cli import run_command
        from pipeline.commands.compile import command as compile_command
        from pipeline.commands.upload import command as upload_command
    except ModuleNotFoundError as error:
        print(
            f"compile.py: error: this Python has no {error.name!r}; "
            "run `make setup`, then `.venv/bin/python compile.py`",
            file=sys.stderr,
        )
        return 2
    arguments = sys.argv[1:]
    if _UPLOAD in arguments:
        arguments.remove(_UPLOAD)
        return run_command(upload_command, arguments, f"compile.py {_UPLOAD}")
    return run_command(compile_command, arguments, "compile.py")


if __name__ == "__main__":
    sys.exit(main())
