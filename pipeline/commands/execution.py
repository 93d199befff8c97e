"""What ``wals run`` and ``wals tune`` share: a compiled pipeline on this machine, with its results."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from rich.console import Console

from pipeline.commands.options import json_option, print_json
from pipeline.commands.parameters import Command, parameter_options
from pipeline.compiling import compile_pipeline
from pipeline.local import run_compiled
from pipeline.progress import RunDisplay
from pipeline.results import metrics_table, read_titles, recommendations_table
from pipeline.targets import KUBEFLOW
from pipeline.training import check_parameters
from trainer.errors import CombinedInputError
from trainer.matrix import InteractionMatrix
from trainer.model import Model

_SHOWN = 8


def local_run_options(pipeline: str) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the pipeline's parameters and the options of a local run."""
    options = (
        parameter_options(pipeline),
        click.option(
            "--titles",
            type=click.Path(path_type=Path, dir_okay=False),
            help="CSV file with ids in its first column and a column title, to show titles instead of ids.",
        ),
        click.option(
            "--output-dir",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder for everything the run writes.  [default: runs/DATE-TIME]",
        ),
        click.option(
            "--runner",
            type=click.Choice(["subprocess", "docker"]),
            default="subprocess",
            show_default=True,
            help="Run a step as a process of this machine, or in a container (after `make images`).",
        ),
        json_option,
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def run_here(
    pipeline: str,
    steps: Sequence[str],
    parameters: dict[str, Any],
    *,
    titles: Path | None,
    output_dir: Path | None,
    runner: str,
    as_json: bool,
    html: Mapping[str, str] = MappingProxyType({}),
    best: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> None:
    """Compile a pipeline, run the spec on this machine, and show the results.

    Args:
        pipeline: its name.
        steps: the steps to show, in order.
        parameters: the pipeline's.
        titles: CSV file of titles, or None.
        output_dir: for everything the run writes; ``runs/DATE-TIME`` if None.
        runner: ``subprocess`` or ``docker``.
        as_json: whether to print the results as JSON, and the progress where it does not mix with it.
        html: file name by the pipeline's HTML outputs, beside those that every run has.
        best: gives the parameters that a study found best, out of the outputs, and their metric.

    Raises:
        InputError: a parameter or an option cannot be used.
        WalsError: a step failed.
    """
    problems = check_parameters(parameters)
    if problems:
        raise CombinedInputError(problems)
    names = read_titles(titles) if titles else {}
    folder = output_dir or Path("runs") / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    # Bound to today's streams, which kfp.local's narration is redirected from.
    console = Console(file=sys.stderr if as_json else sys.stdout)
    spec = compile_pipeline(pipeline, KUBEFLOW, folder)
    console.print(f"Running {spec} on {parameters['source']}", markup=False, highlight=False, soft_wrap=True)
    run_steps = run_compiled
    if runner == "docker":
        from pipeline.docker import absolute, docker_runner

        places = {name: absolute(parameters[name]) for name in ("source", "previous_profile")}
        parameters |= places
        run_steps = partial(run_compiled, runner=partial(docker_runner, spec, *places.values()))
    with RunDisplay(console, steps) as display:
        outputs = run_steps(spec, parameters, folder, display.show)
    results = _collect(folder, outputs, html)
    metrics = outputs["metrics"].metadata
    found = best(outputs) if best else {}
    if as_json:
        paths = {name: str(path) for name, path in results.items()}
        print_json({"folder": str(folder), "metrics": metrics, **found, "results": paths})
        return
    if found:
        _tell_best(console, found)
    console.print(metrics_table(metrics))
    training = InteractionMatrix.open(Path(outputs["training"].path))
    console.print(recommendations_table(Model.load(results["model"]), training, names, _SHOWN))
    for name, path in results.items():
        console.print(f"{name:<16} {path}", markup=False, highlight=False, soft_wrap=True)


def _tell_best(console: Console, found: Mapping[str, Any]) -> None:
    options = " ".join(f"--{name.replace('_', '-')} {value:.6g}" for name, value in found["best"].items())
    console.print(
        f"Best on validation, NDCG {found['validation_ndcg']:.4f}:\n  {options}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _collect(folder: Path, outputs: Mapping[str, Any], html: Mapping[str, str]) -> dict[str, Path]:
    """Give the results of a finished run short names in its folder, and return those paths."""
    results = {name: folder / name for name in ("model", "recommendations", "profile")}
    for name, link in results.items():
        link.unlink(missing_ok=True)
        link.symlink_to(Path(outputs[name].path).relative_to(folder.absolute()))
    for name, file in {"profile_report": "profile.html", **html, "report": "report.html"}.items():
        # A copy: browsers tell HTML by the suffix of the file itself, which the artifact has not.
        results[name] = folder / file
        shutil.copyfile(outputs[name].path, results[name])
    return results
