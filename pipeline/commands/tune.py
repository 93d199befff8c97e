"""``wals tune``: the tuning pipeline on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.commands.execution import local_run_options, run_here
from pipeline.commands.options import CONTEXT
from pipeline.tuning import STEPS, TUNED

_ON_VERTEX = "--vertex-hyperparameter-job"


class _Tune(click.Command):
    """The command, or with its flag ``wals train-job tune`` in its place."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if _ON_VERTEX not in args:
            return super().make_context(info_name, args, parent, **extra)
        from pipeline.commands.train_job import tune

        others = [argument for argument in args if argument != _ON_VERTEX]
        return tune.make_context(info_name, others, parent, **extra)


@click.command(cls=_Tune, context_settings=CONTEXT)
@click.option(
    _ON_VERTEX,
    is_flag=True,
    expose_value=False,
    help="Tune `trainer.task` on Vertex AI instead, with the options of `wals train-job tune`.",
)
@local_run_options("wals-tune")
def command(
    titles: Path | None, output_dir: Path | None, runner: str, as_json: bool, **parameters: Any
) -> None:
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
        as_json=as_json,
        best=_best,
    )


def _best(outputs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "best": {name: outputs[name] for name in TUNED},
        "validation_ndcg": outputs["study"].metadata["validation_ndcg"],
    }
