"""Shell completion: what bash offers after the line of docs/operations.md."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent
LINES = {
    "wals sub": {"submit"},
    "wals run --latent": {"--latent-factors"},
    "wals submit --target k": {"kubeflow"},
}
SCRIPT = """
eval "$(_WALS_COMPLETE=bash_source wals)"
for line in "$@"; do
    read -ra COMP_WORDS <<< "$line"
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _wals_completion wals
    echo "${COMPREPLY[@]}"
done
"""


def test_bash_completes_commands_options_and_choices() -> None:
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", *LINES], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    offered = [set(line.split()) for line in result.stdout.splitlines()]
    assert dict(zip(LINES, offered, strict=True)) == LINES
