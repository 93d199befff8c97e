"""The KFP wrapper of the evaluation step."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("evaluate"), packages_to_install=[], install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    training: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    eval_k: int = 20,
) -> None:
    """Score the model on the holdout beside a popularity baseline, with an HTML report."""
    arguments = dict(locals())
    del arguments["metrics"]
    from components.evaluate.step import evaluate as step
    from components.options import RankingOptions
    from components.runtime import run_step

    for name, value in run_step(step, RankingOptions, arguments).items():
        metrics.log_metric(name, value)
