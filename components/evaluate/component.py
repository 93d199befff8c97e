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
    eval_k: int,
) -> None:
    """Score the model on the holdout beside a popularity baseline, with an HTML report."""
    from pathlib import Path

    from components.evaluate.step import evaluate as step
    from components.runtime import run_step

    scores = run_step(
        step,
        model=Path(model.path),
        training=Path(training.path),
        holdout=Path(holdout.path),
        report=Path(report.path),
        eval_k=eval_k,
    )
    for name, value in scores.items():
        metrics.log_metric(name, value)
