"""Files that a user names, which can be anything that has a name."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from trainer.errors import InputError, translated


def open_input(field: str, path: Path, remedy: str) -> BinaryIO:
    """Open a file to read.

    Args:
        field: the option that names it.
        path: path of the file.
        remedy: what to give instead, as an imperative.

    Raises:
        InputError: it does not exist, cannot be read, or is not a file, such as a folder, or a named pipe,
            which would wait for a writer.
    """

    def unreadable(error: Exception) -> InputError:
        reason = error.strerror if isinstance(error, OSError) else error
        return InputError(field, str(path), f"cannot be read ({reason})", remedy)

    # ValueError: a name with a null character.
    with translated(((OSError, ValueError), unreadable)):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            os.close(descriptor)
            what = "is a folder" if stat.S_ISDIR(mode) else "is not a regular file"
            raise InputError(field, str(path), what, remedy)
        return os.fdopen(descriptor, "rb")
