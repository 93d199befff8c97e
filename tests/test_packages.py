"""What is installed: the packages that the code imports are declared, and a wheel has all of the code."""

import ast
import importlib.metadata as metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tests.test_imports import LAYERS, MODULES
from trainer import InteractionMatrix, Recommender, TrainConfig, fit
from trainer.errors import missing_extra
from trainer.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "pipeline" / "definition" / "golden"
UV = Path(sys.executable).with_name("uv")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(distribution: str) -> Iterator[tuple[str, str]]:
    """Yield the distributions that one requires, each with the extra that does; "" if it always does."""
    for requirement in metadata.requires(distribution) or []:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == [\"']([\w-]+)", requirement)
        assert name
        yield normalised(name[0]), extra[1] if extra else ""


BASE = {name for name, extra in required("wals-pipeline") if not extra}
OWNERS = metadata.packages_distributions()


def foreign_imports() -> Iterator[str]:
    """Yield the names of the modules of other packages that the code imports, anywhere in it."""
    for file in MODULES.values():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                # The members of a namespace are packages.
                namespace = node.module in ("google", "google.cloud")
                yield from (
                    f"{node.module}.{alias.name}" if namespace else node.module for alias in node.names
                )


FOREIGN = sorted(
    {
        name
        for name in foreign_imports()
        if name.split(".")[0] not in {*sys.stdlib_module_names, *LAYERS, "__future__"}
    }
)


@pytest.mark.parametrize("module", FOREIGN)
def test_an_imported_package_is_declared(module: str) -> None:
    """In the dependencies or an extra of ours, or as a dependency of one of these."""
    owners = {normalised(owner) for owner in OWNERS[module.split(".")[0]]}
    if error := missing_extra(ModuleNotFoundError(name=module)):
        assert str(error).split()[0] in owners
    else:
        declared = {name for name, _ in required("wals-pipeline")}
        assert owners & {*declared, *(name for base in BASE | {"boto3"} for name, _ in required(base))}


@pytest.mark.parametrize(
    ("error", "package", "extra"),
    [
        (ModuleNotFoundError(name="kfp"), "kfp", "pipeline"),
        (ModuleNotFoundError(name="kfp.dsl"), "kfp", "pipeline"),
        (ModuleNotFoundError(name="kfp_server_api"), "kfp-server-api", "kubeflow"),
        (ModuleNotFoundError(name="google"), "google-auth", "pipeline"),
        (ModuleNotFoundError(name="google.protobuf.message"), "protobuf", "vertex"),
        (
            ModuleNotFoundError(name="google.cloud.bigquery_storage_v1.types"),
            "google-cloud-bigquery-storage",
            "gcp",
        ),
        (
            ImportError("cannot import name 'aiplatform_v1' from 'google.cloud' (unknown location)"),
            "google-cloud-aiplatform",
            "vertex",
        ),
        (ModuleNotFoundError(name="tensorflow"), "tensorflow", "tensorflow"),
    ],
)
def test_a_missing_package_is_one_line_with_the_extra_that_brings_it(
    error: ImportError, package: str, extra: str
) -> None:
    found = missing_extra(error)
    assert str(found) == (
        f"{package} is not installed: this requires the extra {extra}: pip install 'wals-pipeline[{extra}]'"
    )
    assert found
    assert found.exit_code == 2


def test_our_own_mistakes_remain_bugs() -> None:
    assert missing_extra(ModuleNotFoundError(name="trainer.nothing")) is None
    assert (
        missing_extra(ImportError("cannot import name 'x' from 'kfp' (/site-packages/kfp/__init__.py)"))
        is None
    )


LOCKS = sorted((ROOT / "requirements").glob("*.lock.txt"))
# What Renovate's manager pip-compile accepts of uv's options; those with a value only as --option=value.
RENOVATE = {
    *("--universal", "--generate-hashes"),
    *("--python-version=", "--extra=", "--group=", "--constraints=", "--no-emit-package=", "--output-file="),
    *("--exclude-newer=", "--exclude-newer-package="),
}


def resolutions(*arguments: str) -> list[list[str]]:
    """Return the commands that a target of the Makefile resolves the locks with."""
    printed = call("make", "--directory", ROOT, "--dry-run", *arguments).replace("\\\n", " ")
    commands = []
    for line in printed.splitlines():
        images = re.search(r"for image in ([^;]+); do (.*?) \|\|", line)
        for image in images[1].split() if images else [""]:
            command = (images[2] if images else line).replace("$image", image)
            if " pip compile " in command:
                commands.append(command.partition("/uv ")[2].split())
    return commands


def test_each_lock_begins_with_the_command_that_make_lock_resolves_it_with() -> None:
    """Renovate repeats it."""
    begun = {path.read_text("utf-8").splitlines()[1].removeprefix("#    uv ") for path in LOCKS}
    assert begun == {
        " ".join(word for word in command if word != "--quiet") for command in resolutions("lock")
    }
    options = {re.sub("=.*", "=", word) for line in begun for word in line.split() if word.startswith("-")}
    assert options == RENOVATE


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["upgrade"], ["--upgrade"]),
        (["upgrade", "PACKAGES=duckdb numba"], ["--upgrade-package=duckdb", "--upgrade-package=numba"]),
    ],
)
def test_an_upgrade_resolves_every_lock_anew(arguments: list[str], option: list[str]) -> None:
    commands = resolutions(*arguments)
    assert len(commands) == len(LOCKS)
    for command in commands:
        assert [word for word in command if word.startswith("--upgrade")] == option


def test_renovate_maintains_the_locks_and_the_base_image() -> None:
    configuration = json.loads((ROOT / "renovate.json").read_text("utf-8"))
    (pattern,) = configuration["pip-compile"]["managerFilePatterns"]
    assert sorted(ROOT.glob(pattern)) == LOCKS
    (image,) = configuration["customManagers"]
    (file,) = image["managerFilePatterns"]
    found = re.search(image["matchStrings"][0].replace("(?<", "(?P<"), (ROOT / file).read_text("utf-8"))
    assert found
    assert found["depName"] == "python"
    assert found["currentDigest"] in (ROOT / "containers" / "Dockerfile").read_text("utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from its source distribution as a release is."""
    folder = tmp_path_factory.mktemp("wheel")
    sources = folder / "sources"
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, sources / layer, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    call(
        UV,
        "build",
        "--quiet",
        "--python",
        sys.executable,
        "--no-build-isolation",
        "--out-dir",
        folder,
        sources,
    )
    (built,) = folder.glob("*.whl")
    return built


def call(*command: object, **variables: str) -> str:
    """Run a command that has to succeed, and return its standard output."""
    result = called(*command, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout


def called(*command: object, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT.anchor,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Install the wheel with a lock into an environment of its own, and return the folder of its commands."""

    def install(lock: str) -> Path:
        environment = tmp_path_factory.mktemp(lock)
        call(UV, "venv", "--quiet", "--python", sys.executable, environment)
        into = (UV, "pip", "install", "--quiet", "--python", environment / "bin" / "python")
        call(*into, "--require-hashes", "-r", ROOT / "requirements" / f"{lock}.lock.txt")
        call(*into, "--no-deps", wheel)
        return environment / "bin"

    return install


@pytest.fixture(scope="module")
def library(installed: Callable[[str], Path]) -> Path:
    """The commands of an environment that has the library without any extra."""
    return installed("library")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "model"
    values = np.random.default_rng(1).random((12, 7)) < 0.4
    matrix = InteractionMatrix.from_scipy(sparse.csr_array(values.astype(np.float32)))
    ids = Vocabulary.of(range(12)), Vocabulary.of(list("abcdefg"))
    fit(matrix, TrainConfig(latent_factors=4), users=ids[0], items=ids[1]).save(folder)
    return folder


@pytest.mark.install
def test_the_wheel_has_the_files_of_the_layers_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = call("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *LAYERS)
    assert packed == {name for name in tracked.splitlines() if (ROOT / name).exists()}


@pytest.mark.install
def test_the_library_recommends_from_a_saved_model(library: Path, model: Path) -> None:
    code = f"""
import json
from trainer.recommender import Recommender
print(json.dumps(Recommender.load({str(model)!r}).recommend(3, 4).to_pylist()))
"""
    assert (
        json.loads(call(library / "python", "-c", code))
        == Recommender.load(model).recommend(3, 4).to_pylist()
    )


@pytest.mark.install
def test_the_commands_of_a_model_need_no_extra(library: Path, model: Path) -> None:
    wals = library / "wals"
    assert metadata.version("wals-pipeline") in call(wals, "--version")
    shown = json.loads(call(wals, "recommend", "--model", model, "--user", 3, "-k", 4, "--json"))
    expected = Recommender.load(model).recommend(3, 4)["item_id"].to_pylist()
    assert [row["item"] for row in shown["items"]] == expected
    assert call(wals, "similar", "--model", model, "--item", "a", "--json")
    assert call(wals, "models", "list", "--registry", model.parent, "--json")


@pytest.mark.install
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        ("run --source ratings.csv", "pipeline"),
        ("compile", "pipeline"),
        ("tune --source ratings.csv", "pipeline"),
    ],
)
def test_other_commands_name_the_extra_that_they_require(library: Path, arguments: str, extra: str) -> None:
    result = called(library / "wals", *arguments.split())
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(
        rf"wals: error: \S+ is not installed: this requires the extra {extra}: "
        rf"pip install 'wals-pipeline\[{extra}\]'",
        line,
    )


@pytest.mark.install
def test_type_checkers_see_the_types(library: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from trainer import Recommender\nreveal_type(Recommender.load('m'))\n", "utf-8")
    mypy = (sys.executable, "-m", "mypy", "--cache-dir", tmp_path / "cache", "--python-executable")
    assert "trainer.recommender.Recommender" in call(*mypy, library / "python", script)


@pytest.mark.install
def test_all_extras_compile_the_same_specs(installed: Callable[[str], Path], tmp_path: Path) -> None:
    wals = installed("run") / "wals"
    assert metadata.version("wals-pipeline") in call(wals, "--version")
    call(wals, "compile", "--output-dir", tmp_path)
    written = {path.name: path.read_text("utf-8") for path in tmp_path.glob("*.yaml")}
    assert written == {path.name: path.read_text("utf-8") for path in GOLDEN.glob("*.yaml")}
