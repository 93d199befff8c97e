"""The KFP wrappers of the evaluation step, and of the step that fails a run whose model was rejected."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("evaluate"), packages_to_install=[], install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    training: dsl.Input[dsl.Dataset],
    holdout: dsl.Input[dsl.Dataset],
    catalogue: dsl.Input[dsl.Dataset],
    profile: dsl.Input[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    tuned: bool = False,
    eval_k: int = 20,
    registry: str = "",
    eval_users: int = 100_000,
    gate_metric: str = "ndcg",
    min_gain: float = 0.0,
    require_significance: bool = False,
    max_segment_loss: float = 0.1,
    min_over_popularity: float = 0.0,
    on_rejection: str = "keep",
) -> str:
    """Judge the model on the holdout beside the champion and baselines, and decide on it."""
    arguments = dict(locals())
    del arguments["metrics"]
    from components.evaluate.options import EvaluateOptions
    from components.evaluate.step import evaluate as step
    from components.runtime import run_step

    judgement = run_step(step, EvaluateOptions, arguments)
    evaluation.metadata.update(judgement.metadata)
    for name, value in judgement.metrics.items():
        metrics.log_metric(name, value)
    return judgement.decision


@dsl.component(base_image=image("evaluate"), packages_to_install=[], install_kfp_package=False)
def reject(evaluation: dsl.Input[dsl.Artifact]) -> None:
    """Fail with the reason why the model was rejected."""
    arguments = dict(locals())
    from components.evaluate.reject import reject as step
    from components.runtime import run_step
    from trainer.options import Options

    run_step(step, Options, arguments)
