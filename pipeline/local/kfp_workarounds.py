"""Workarounds for defects of ``kfp.local`` in kfp 2.17.0.

Each workaround names the version that it was last needed with. When kfp is upgraded, remove a workaround and
run its tests (``make test``, ``make test-docker``); if they pass, it can go.
"""

import builtins
import codecs
import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp.local import SubprocessRunner


@contextlib.contextmanager
def process_state_restored() -> Iterator[None]:
    """Restore ``print`` and the root logger at the end of the block. Needed with kfp 2.17.0.

    Every task replaces both and then restores what it found, which with parallel tasks may be what another
    task had put there.
    """
    original, root = builtins.print, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        builtins.print = original
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def subprocess_runner() -> Iterator[SubprocessRunner]:
    """Yield the runner that runs each step in its own process, with this interpreter. Needed with kfp 2.17.0.

    kfp.local replaces the text ``python3`` with ``sys.executable`` in the whole command line, and so also in
    the paths of a user's data. Replacing it with itself leaves them as they are.
    """
    executable, path = sys.executable, os.environ.get("PATH", "")
    sys.executable = "python3"
    os.environ["PATH"] = f"{Path(executable).parent}{os.pathsep}{path}"
    try:
        yield SubprocessRunner(use_venv=False)
    finally:
        sys.executable = executable
        os.environ["PATH"] = path


def run_docker_container(
    client: Any, image: str, command: Sequence[str], volumes: Mapping[str, Any], **arguments: Any
) -> int:
    """Run a container to its end, print its log and return its exit code. Needed with kfp 2.17.0.

    Replaces kfp's function of this name, which starts containers with ``auto_remove`` and reads "no such
    container" as exit code 0: a step that fails counts as a success if its container is gone before kfp asks
    for its exit code. Here a container stays until its exit code is known. As on Kubernetes and Vertex AI,
    the component's command replaces the image's entry point.
    """
    container = client.containers.create(
        image, entrypoint=command[:1], command=command[1:], volumes=volumes, **arguments
    )
    try:
        container.start()
        # A chunk of the log may end in the middle of a character.
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in container.logs(stream=True, follow=True):
            print(decoder.decode(chunk), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)
