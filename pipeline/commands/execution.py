"""What ``wals run`` and ``wals tune`` share: a compiled pipeline on this machine, and its results."""

import functools
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import rich_click as click
from rich.console import Console

from pipeline.commands.options import Command, json_option
from pipeline.commands.parameters import checked, parameter_options
from pipeline.definition.pipeline import Pipeline
from pipeline.definition.targets import KUBEFLOW
from pipeline.display.output import print_json, print_line

_SHOWN = 8
_THIS_RUN = "This run"

output_dir_option = click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for everything the run writes.  [default: runs/DATE-TIME]",
    panel=_THIS_RUN,
)
runner_option = click.option(
    "--runner",
    type=click.Choice(["subprocess", "docker"]),
    default="subprocess",
    show_default=True,
    help="Run each step as a process of this machine, or in a container (after `make images`).",
    panel=_THIS_RUN,
)


@dataclass(frozen=True)
class LocalRun:
    """Options of a run on this machine, besides the pipeline's parameters.

    Attributes:
        titles: CSV file of titles, or None.
        output_dir: folder for everything the run writes; ``runs/DATE-TIME`` if None.
        runner: ``subprocess`` or ``docker``.
        as_json: whether to print the results as JSON, and the progress on standard error.
    """

    titles: Path | None
    output_dir: Path | None
    runner: str
    as_json: bool


def local_run_options(pipeline: Pipeline) -> Callable[[Callable[..., object]], Command]:
    """Return a decorator that gives a command the pipeline's parameters and the options of a local run.

    The command receives them as ``parameters`` and ``local_run``. Apply it last, directly to the function.
    """
    options = (
        parameter_options(pipeline),
        click.option(
            "--titles",
            type=click.Path(path_type=Path, dir_okay=False),
            help="CSV file with ids in its first column and a column title, to show titles instead of ids.",
            panel=_THIS_RUN,
        ),
        output_dir_option,
        runner_option,
        json_option,
    )

    def decorate(command: Callable[..., object]) -> Any:
        @functools.wraps(command)
        def call(**values: Any) -> object:
            local_run = LocalRun(**{f.name: values.pop(f.name) for f in fields(LocalRun)})
            return command(local_run=local_run, parameters=values)

        for option in reversed(options):
            call = option(call)
        return call

    return decorate


def run_here(
    pipeline: Pipeline,
    parameters: dict[str, Any],
    local_run: LocalRun,
    *,
    html: Mapping[str, str] = MappingProxyType({}),
    best: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> None:
    """Compile a pipeline, run the spec on this machine, and show the results.

    Args:
        pipeline: the pipeline to run.
        parameters: values of all its parameters.
        local_run: how to run it.
        html: file name by HTML output, in addition to those that every run has.
        best: function that takes the outputs and returns the best parameters of a study, and their metric.

    Raises:
        InputError: a parameter or an option cannot be used.
        WalsError: a step failed.
    """
    parameters = checked(pipeline, parameters)
    # Slow to import, which should not delay the error of a bad parameter.
    from pipeline.display.results import metrics_table, read_titles, recommendations_table
    from trainer.matrix import InteractionMatrix
    from trainer.model import Model

    titles = read_titles(local_run.titles) if local_run.titles else {}
    folder = run_folder(local_run.output_dir)
    # Bound to the current streams, since kfp.local's output is captured from them.
    console = Console(file=sys.stderr if local_run.as_json else sys.stdout)
    outputs = run_steps_here(pipeline, parameters, folder, local_run.runner, console)
    results = _collect(folder, outputs, html)
    metrics = outputs["metrics"].metadata
    found = best(outputs) if best else {}
    if local_run.as_json:
        paths = {name: str(path) for name, path in results.items()}
        print_json({"folder": str(folder), "metrics": metrics, **found, "results": paths})
        return
    if found:
        _print_best(console, found)
    console.print(metrics_table(metrics))
    training = InteractionMatrix.open(Path(outputs["training"].path))
    console.print(recommendations_table(Model.load(results["model"]), training, titles, _SHOWN))
    for name, path in results.items():
        print_line(console, f"{name:<16} {path}")


def run_folder(output_dir: Path | None) -> Path:
    """Return the folder of a run: the given one, or one named after the time."""
    return output_dir or Path("runs") / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")


def run_steps_here(
    pipeline: Pipeline, parameters: Mapping[str, Any], folder: Path, runner: str, console: Console
) -> dict[str, Any]:
    """Compile a pipeline, run the spec on this machine, and return the pipeline's outputs by name.

    Args:
        pipeline: the pipeline to run.
        parameters: values of its parameters; the others keep their defaults.
        folder: folder for the spec and everything that the steps write.
        runner: ``subprocess`` or ``docker``.
        console: console to show the progress on.

    Raises:
        InputError: the folder cannot be written, or no container engine or image is there.
        WalsError: a step failed.
    """
    from pipeline.definition.compiling import compile_pipeline
    from pipeline.display.local_run import RunDisplay
    from pipeline.local.runner import run_compiled

    spec = compile_pipeline(pipeline, KUBEFLOW, folder)
    print_line(console, f"Running {spec} on {parameters['source']}")
    run_steps = run_compiled
    if runner == "docker":
        from pipeline.local.docker import absolute, docker_runner

        names = ("source", "previous_profile")
        places = {name: absolute(parameters[name]) for name in names if name in parameters}
        parameters = {**parameters, **places}
        run_steps = partial(run_compiled, runner=partial(docker_runner, spec, *places.values()))
    with RunDisplay(console, pipeline.steps) as display:
        return run_steps(spec, parameters, folder, display.show)


def _print_best(console: Console, found: Mapping[str, Any]) -> None:
    options = " ".join(f"--{name.replace('_', '-')} {value:.6g}" for name, value in found["best"].items())
    print_line(console, f"Best on validation, NDCG {found['validation_ndcg']:.4f}:\n  {options}")


def _collect(folder: Path, outputs: Mapping[str, Any], html: Mapping[str, str]) -> dict[str, Path]:
    """Give the results of a finished run short names in its folder, and return those paths."""
    results = {name: folder / name for name in ("model", "recommendations", "profile")}
    for name, link in results.items():
        link.unlink(missing_ok=True)
        link.symlink_to(Path(outputs[name].path).relative_to(folder.absolute()))
    for name, file in {"profile_report": "profile.html", **html, "report": "report.html"}.items():
        # A copy, because browsers recognise HTML by a suffix, which the artifact does not have.
        results[name] = folder / file
        shutil.copyfile(outputs[name].path, results[name])
    return results
