"""What ``wals run`` and ``wals tune`` share: a compiled pipeline on this machine, and its results."""

import functools
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from rich.console import Console

from components.extract.names import ITEM_SOURCES
from components.train.options import CHAMPION
from pipeline.commands.base import Command, json_option
from pipeline.commands.parameters import checked, parameter_options
from pipeline.commands.ranking import open_model
from pipeline.definition.pipeline import Pipeline
from pipeline.definition.targets import KUBEFLOW
from pipeline.display.output import print_json, print_line
from pipeline.local.outputs import PAGES
from trainer.errors import CombinedInputError, InputError, collected

if TYPE_CHECKING:
    from pipeline.local.outputs import StepOutputs

Outputs = Mapping[str, "StepOutputs"]
"""Outputs of the steps that ran, by step."""

# Of each user; more would push the metrics off the screen.
_SHOWN = 10
# Parameters that name files and folders.
_READ = ("source", *ITEM_SOURCES, "warm_start")
_WRITTEN = ("previous_profile", "registry", "checkpoint_dir")
# Artifacts of a run, by the step that wrote them; a later one replaces an earlier one of the same name.
_RESULTS = (
    ("train", "model"),
    ("refit", "model"),
    *(("publish", name) for name in ("recommendations", "similar_items", "embeddings")),
    ("refit", "saved_model"),
    ("deliver", "delivery"),
    ("evaluate", "evaluation"),
    ("prepare", "profile"),
    ("extract", "catalogue"),
)
_THIS_RUN = "This run"

output_dir_option = click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for all output of the run.  [default: runs/DATE-TIME]",
    panel=_THIS_RUN,
)
runner_option = click.option(
    "--runner",
    type=click.Choice(["subprocess", "docker"]),
    default="subprocess",
    show_default=True,
    help="Run each step as a process, or in a container (after `make images`).",
    panel=_THIS_RUN,
)


resume_option = click.option(
    "--resume",
    is_flag=True,
    help="Finish an interrupted run with the same parameters: that of --output-dir, or the newest. The steps "
    "that it has finished are not run again.",
    panel=_THIS_RUN,
)
force_option = click.option(
    "--force",
    is_flag=True,
    help="Replace the run in --output-dir, which is kept until the new one has succeeded.",
    panel=_THIS_RUN,
)


@dataclass(frozen=True)
class LocalRun:
    """Options of a run on this machine, besides the pipeline's parameters.

    Attributes:
        output_dir: folder for everything the run writes; ``runs/DATE-TIME`` if None.
        runner: ``subprocess`` or ``docker``.
        resume: whether to finish the run that is in the folder.
        force: whether to replace the run that is in the folder.
        as_json: whether to print the results as JSON, and the progress on standard error.
    """

    output_dir: Path | None
    runner: str
    resume: bool
    force: bool
    as_json: bool


def local_run_options(pipeline: Pipeline) -> Callable[[Callable[..., object]], Command]:
    """Return a decorator that gives a command the pipeline's parameters and the options of a local run.

    The command receives them as ``parameters`` and ``local_run``. Apply it last, directly to the function.
    """
    options = (
        parameter_options(pipeline),
        output_dir_option,
        resume_option,
        force_option,
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
    best: Callable[[Outputs], Mapping[str, Any]] | None = None,
) -> None:
    """Compile a pipeline, run the spec on this machine, and show the results.

    Args:
        pipeline: the pipeline to run.
        parameters: values of all its parameters.
        local_run: how to run it.
        best: function that takes the outputs and returns the best parameters of a study, and their metric.

    Raises:
        InputError: a parameter or an option cannot be used.
        WalsError: a step failed.
    """
    parameters = checked(pipeline, parameters)
    columns = _columns_of_files(parameters)
    # Slow to import, which should not delay the error of a bad parameter.
    from components.artifacts.evaluation import SCHEMA, Evaluation
    from pipeline.display.results import decision_lines, metrics_table, recommendations_table
    from pipeline.local.runs import LocalRuns, link_latest
    from trainer.files import read_manifest
    from trainer.matrix import InteractionMatrix

    folder = run_folder(pipeline, local_run.output_dir, resume=local_run.resume)
    # Bound to the current streams, since kfp.local's output is captured from them.
    console = Console(file=sys.stderr if local_run.as_json else sys.stdout)
    if columns:
        print_line(console, f"Reading {parameters['source']}: {columns}")
    outputs = run_steps_here(
        pipeline,
        parameters,
        folder,
        local_run.runner,
        console,
        resume=local_run.resume,
        force=local_run.force,
    )
    results = _collect(folder, outputs)
    link_latest(folder)
    evaluation = read_manifest(outputs["evaluate"].path("evaluation"), SCHEMA, Evaluation)
    metrics = outputs["evaluate"].metadata["metrics"]
    found = best(outputs) if best else {}
    if local_run.as_json:
        paths = {name: str(path) for name, path in results.items()}
        decision = evaluation.decision.model_dump(include={"outcome", "reason"})
        print_json(
            "results",
            {"folder": str(folder), "decision": decision, "metrics": metrics, **found, "results": paths},
        )
        return
    if found:
        _print_best(console, found)
    earlier = LocalRuns().earlier(LocalRuns().get(str(folder.absolute())))
    console.print(metrics_table(metrics, earlier.metrics if earlier else None))
    training = InteractionMatrix.open(outputs["prepare"].path("training"))
    rules = {name: parameters[name] for name in ("max_per_category", "min_score")}
    known = open_model(results["model"], results["catalogue"], **rules)
    console.print(recommendations_table(known, training, parameters["top_k"], _SHOWN))
    console.print(decision_lines(evaluation), soft_wrap=True)
    for name, path in results.items():
        print_line(console, f"{name:<16} {path}")


def _columns_of_files(parameters: Mapping[str, Any]) -> str:
    """Return the columns of a source on this machine in words; "" for others, which only the step reads.

    The sources of items on this machine are checked too.

    Raises:
        InputError: sources or their columns cannot be used.
    """
    here = [name for name in _READ if parameters[name] and "://" not in parameters[name]]
    if not here:
        return ""
    # Slow to import, which should not delay the error of a bad parameter.
    from components.extract import catalogue, files
    from components.extract.options import ExtractOptions

    options = ExtractOptions(**ExtractOptions.select(parameters)).with_window()
    columns = ""
    problems: list[InputError] = []
    for name in here:
        with collected(problems):
            if name == "source":
                columns = files.look_at(options)
            else:
                catalogue.look_at(name, options)
    if problems:
        raise CombinedInputError.of(problems)
    return columns


def run_folder(pipeline: Pipeline, output_dir: Path | None, *, resume: bool = False) -> Path:
    """Return the folder of a run: the given one, that of the newest run to resume, or one named by the time.

    Raises:
        InputError: there is no run to resume.
    """
    from pipeline.local.runs import RUNS, LocalRuns

    if output_dir or not resume:
        return output_dir or RUNS / datetime.now().strftime("%Y-%m-%dT%H-%M-%S")
    for run in LocalRuns().runs(1):
        if run.name == pipeline.name:
            return Path(run.link)
    raise InputError(
        "resume", True, f"finds no run: the newest in {RUNS} is not of {pipeline.name}", "give --output-dir"
    )


def run_steps_here(
    pipeline: Pipeline,
    parameters: Mapping[str, Any],
    folder: Path,
    runner: str,
    console: Console,
    *,
    resume: bool = False,
    force: bool = False,
) -> Outputs:
    """Compile a pipeline, run the spec on this machine, and return the steps' outputs by step.

    Args:
        pipeline: the pipeline to run.
        parameters: values of its parameters; the others keep their defaults.
        folder: folder for the spec and everything that the steps write.
        runner: ``subprocess`` or ``docker``.
        console: console to show the progress on.
        resume: whether to finish the run that is in the folder.
        force: whether to replace the run that is in the folder.

    Raises:
        InputError: the folder cannot be written, has an earlier run that is not dealt with, or no
            container engine or image is there.
        WalsError: a step failed.
    """
    from pipeline.definition.compiling import compile_pipeline, import_kfp

    import_kfp()
    from pipeline.display.local_run import RunDisplay
    from pipeline.local.runner import StepEvent, run_compiled
    from pipeline.local.runs import recorded

    with recorded(folder, pipeline.name, parameters, resume=resume, replace=force) as record:
        # Nothing else gives a run on this machine the name that `wals runs` shows.
        spec = compile_pipeline(pipeline, KUBEFLOW.on_this_machine(folder.name), folder)
        print_line(console, f"Running {spec} on {parameters['source']}")
        run_steps = run_compiled
        if runner == "docker":
            from pipeline.local.docker import absolute, docker_runner, image_ids

            given = {name: parameters.get(name, "") for name in (*_READ, *_WRITTEN)}
            # Not a place, but the registry's model.
            places = {name: place if place == CHAMPION else absolute(place) for name, place in given.items()}
            known = {name: place for name, place in places.items() if name in parameters}
            parameters = {**parameters, **known}
            read, written = ([places[name] for name in names] for names in (_READ, _WRITTEN))
            run_steps = partial(
                run_compiled,
                runner=partial(docker_runner, spec, read, written),
                code=partial(image_ids, spec),
            )
        with RunDisplay(console, pipeline.steps) as display:

            def show(event: StepEvent) -> None:
                record(event)
                display.show(event)

            return run_steps(spec, parameters, folder, show)


def _print_best(console: Console, found: Mapping[str, Any]) -> None:
    options = " ".join(f"--{name.replace('_', '-')} {value:.6g}" for name, value in found["best"].items())
    print_line(console, f"Best on validation, NDCG {found['validation_ndcg']:.4f}:\n  {options}")


def _collect(folder: Path, outputs: Outputs) -> dict[str, Path]:
    """Give the results of a finished run short names in its folder, and return those paths.

    The model is the one that was delivered, or else the one that was judged.
    """
    paths = {name: outputs[step].path(name) for step, name in _RESULTS if step in outputs}
    artifacts = {name: path for name, path in paths.items() if path.exists()}
    for _, name in _RESULTS:
        (folder / name).unlink(missing_ok=True)
    results = {name: folder / name for name in artifacts}
    for name, link in results.items():
        link.symlink_to(artifacts[name].absolute().relative_to(folder.absolute()))
    for (step, name), file in PAGES.items():
        if step not in outputs:
            continue
        # A copy, because browsers recognise HTML by a suffix, which the artifact does not have.
        results[name] = folder / file
        shutil.copyfile(outputs[step].path(name), results[name])
    return results
