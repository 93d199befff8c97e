"""The ``wals`` command."""

import gc
import logging
import sys
import warnings
from typing import Any

import rich_click as click

from components.limits import deadline
from pipeline.commands.base import CONTEXT, LazyGroup, without
from pipeline.display.output import PlainFormatter, echo
from trainer.errors import WalsError, failure_of_machine
from trainer.texts import check_texts

_COMMANDS = {
    "run": ("pipeline.commands.run", "Run the compiled pipeline on this machine: no cloud, no Docker."),
    "tune": ("pipeline.commands.tune", "Search for better training parameters on this machine."),
    "train-job": (
        "pipeline.commands.train_job",
        "Train on one file, here or on Vertex AI, or tune on Vertex AI.",
    ),
    "compile": ("pipeline.commands.compile", "Write the pipeline specs to upload to Vertex AI or Kubeflow."),
    "check": ("pipeline.commands.check", "Report every problem of a run before it costs anything."),
    "probe": ("pipeline.commands.probe", "Find out what the steps can do where they really run."),
    "submit": ("pipeline.commands.submit", "Run a pipeline on Vertex AI or Kubeflow."),
    "schedule": ("pipeline.commands.schedule", "Run a pipeline on a schedule on Vertex AI or Kubeflow."),
    "runs": ("pipeline.commands.runs", "List the runs, show one, or follow it to its end."),
    "logs": ("pipeline.commands.logs", "Show the output of a run's steps."),
    "compare": ("pipeline.commands.compare", "Show parameters and metrics of runs side by side."),
    "report": ("pipeline.commands.report", "Fetch the HTML report of a run's evaluation."),
    "cancel": ("pipeline.commands.cancel", "Stop a run."),
    "upload": ("pipeline.commands.upload", "Upload a compiled pipeline, to create runs from it."),
    "models": ("pipeline.commands.models", "Show the delivered models, and choose which one serves."),
    "recommend": (
        "pipeline.commands.recommend",
        "Show recommendations from a trained model, for a user or for a basket of items.",
    ),
    "similar": (
        "pipeline.commands.similar",
        "Show the items that are similar to an item, from a trained model.",
    ),
}

# Number of new objects after which Python searches for cycles among them.
_OBJECTS = 300_000


@click.group(cls=LazyGroup, lazy=_COMMANDS, context_settings=CONTEXT)
@click.version_option(package_name="wals-pipeline", prog_name="wals")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def wals(debug: bool) -> None:
    """Train recommendations with weighted alternating least squares (WALS), as a pipeline.

    \b
    Try it on the sample ratings:
    wals run --source data/ml-latest-small/ratings.csv
    """
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("%(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    if not debug:
        # Our one-line errors already say what these messages repeat.
        logging.getLogger("google.auth").setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=r"google\.auth")


def run_command(command: click.Command, arguments: list[str], name: str) -> int:
    """Run a click command and return its exit code; an error becomes one line on standard error.

    With ``--debug`` among the arguments, errors keep their traceback, including those that are bugs.
    """
    if "--debug" in arguments:
        # In any position, since people append it to a command line that has failed.
        rest = [argument for argument in arguments if argument != "--debug"]
        first = ["--debug"] if isinstance(command, click.Group) else []
        return _called(command, [*first, *rest], name)
    try:
        return _called(command, arguments, name)
    except click.ClickException as error:
        return _fail(name, error.format_message(), 2)
    except WalsError as error:
        return _fail(name, str(error), error.exit_code)
    except SystemExit as ended:
        # rich-click has printed the help of a group that was called without a command.
        return int(ended.code or 0)
    except (click.Abort, KeyboardInterrupt):
        return _fail(name, "interrupted", 130)
    except Exception as error:
        if failure := failure_of_machine(error):
            return _fail(name, str(failure), failure.exit_code)
        return _fail(
            name, f"bug: {type(error).__name__}: {error}; run the command again with --debug and report it", 1
        )


def _called(command: click.Command, arguments: list[str], name: str) -> int:
    check_texts("argument", arguments)
    with deadline():
        return int(command.main(arguments, prog_name=name, standalone_mode=False) or 0)


def _fail(name: str, message: str, exit_code: int) -> int:
    echo(f"{name}: error: {WalsError(message)}", err=True)
    return exit_code


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the ``wals`` command."""
    # Searching what imports create, which all stays, takes a tenth of the time of a short command.
    gc.set_threshold(_OBJECTS)
    # No command uses pandas, but pyarrow imports it to recognise data frames, which takes most of a second.
    with without("pandas"):
        sys.exit(run_command(wals, sys.argv[1:] if arguments is None else arguments, "wals"))
