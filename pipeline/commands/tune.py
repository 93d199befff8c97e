"""``wals tune``: the tuning pipeline on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from pipeline.commands.execution import local_run_options, run_here
from pipeline.tuning import STEPS, TUNED


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@local_run_options("wals-tune")
def command(titles: Path | None, output_dir: Path | None, runner: str, **parameters: Any) -> None:
    """Tune the training's parameters on this machine, and train with the best.

    Three rounds of trials, --width side by side in each: the parameters you give and points that cover the
    space first, then what the earlier trials suggest. The study is an HTML page.
    """
    run_here(
        "wals-tune",
        STEPS,
        parameters,
        titles=titles,
        output_dir=output_dir,
        runner=runner,
        html={"study": "study.html"},
        tell=_tell_best,
    )


def _tell_best(console: Console, outputs: Mapping[str, Any]) -> None:
    options = " ".join(f"--{name.replace('_', '-')} {outputs[name]:.6g}" for name in TUNED)
    console.print(
        f"Best on validation, NDCG {outputs['study'].metadata['validation_ndcg']:.4f}:\n  {options}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
