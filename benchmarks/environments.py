"""Python environments for the measured libraries, created on first use under build/."""

import hashlib
import subprocess
import venv
from pathlib import Path

BUILD = Path(__file__).parents[1] / "build" / "benchmarks"


def python_of(name: str, lock: Path) -> Path:
    """Return the interpreter of an environment with the packages of a file of hashed requirements."""
    folder = BUILD / name
    complete = folder / "complete"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not complete.exists() or complete.read_text("utf-8") != digest:
        venv.create(folder, with_pip=True, clear=True)
        # Without dependencies, because the file lists every package.
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps"]
        subprocess.run([*pip, "--require-hashes", "-r", lock], check=True)
        complete.write_text(digest, "utf-8")
    return folder / "bin" / "python"
