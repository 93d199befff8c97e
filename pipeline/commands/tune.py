"""``wals tune``: the tuning pipeline on this machine."""

from typing import Any

import rich_click as click

from components.tune.options import TUNED
from pipeline.commands.base import CONTEXT, WalsCommand
from pipeline.commands.execution import LocalRun, Outputs, local_run_options, run_here
from pipeline.definition.pipelines import TUNING
from trainer.config import TrainOptions

_ON_VERTEX = "--vertex-hyperparameter-job"


class _Tune(WalsCommand):
    """The command, or with its flag ``wals train-job tune`` instead."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> Any:
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
@local_run_options(TUNING)
def command(local_run: LocalRun, parameters: dict[str, Any]) -> None:
    """Tune the training's parameters on this machine, and train with the best.

    Three rounds of --width trials, as many at once as this machine has cores. The first tries the given
    parameters and points that cover the search space; later rounds try what the earlier trials suggest.
    Writes an HTML report.
    """
    run_here(TUNING, parameters, local_run, best=_best)


def _best(outputs: Outputs) -> dict[str, Any]:
    chosen = outputs["choose"]
    found = TrainOptions(**{name: chosen.values[name] for name in TUNED}).given()
    return {
        "best": {name: found[name] for name in TUNED},
        "validation_ndcg": chosen.metadata["study"]["validation_ndcg"],
    }
