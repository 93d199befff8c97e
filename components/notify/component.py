"""The KFP wrapper of the notification."""

from kfp import dsl

from components.images import image


@dsl.component(base_image=image("publish"), packages_to_install=[], install_kfp_package=False)
def notify(
    status: dsl.PipelineTaskFinalStatus,
    pipeline: str,
    notification: dsl.Output[dsl.Artifact],
    notify_on: str = "always",
    webhook_secret: str = "",
) -> None:
    """Report to a webhook how the run ended."""
    arguments = dict(locals())
    from components.notify.options import NotifyOptions
    from components.notify.step import notify as step
    from components.runtime import run_step

    notification.metadata.update(run_step(step, NotifyOptions, arguments))
