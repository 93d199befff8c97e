"""``wals compile``, and ``python compile.py``."""

from pathlib import Path

import rich_click as click

from components.images import DEFAULT_PREFIX, DEFAULT_TAG
from pipeline.commands.base import json_option, wals_command
from pipeline.definition.compiling import compile_pipeline
from pipeline.definition.images import step_images
from pipeline.definition.pipelines import PIPELINES
from pipeline.definition.targets import TARGETS
from pipeline.display.output import echo, print_json
from trainer.errors import InputError


@wals_command(
    epilog="`python compile.py --upload` is the same as `wals upload`, with the same options.",
)
@click.option(
    "--target",
    "targets",
    type=click.Choice(list(TARGETS)),
    multiple=True,
    help="Platform; all of them if omitted.",
)
@click.option(
    "--pipeline",
    "pipelines",
    type=click.Choice(list(PIPELINES)),
    multiple=True,
    help="Pipeline; all of them if omitted.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("build"),
    show_default=True,
    help="Folder for the specs.",
)
@click.option(
    "--image-prefix",
    show_default=DEFAULT_PREFIX,
    help="Registry and repository of the step images, such as REGION-docker.pkg.dev/PROJECT/wals.",
)
@click.option("--tag", show_default=DEFAULT_TAG, help="Tag of the step images.")
@click.option(
    "--images",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File written by `make push`, to name the images by digest instead of by prefix and tag.",
)
@click.option(
    "--settings",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file with limits, GPUs, retries, caching and custom jobs by step; requires one --target.",
)
@json_option
def command(
    targets: tuple[str, ...],
    pipelines: tuple[str, ...],
    output_dir: Path,
    image_prefix: str | None,
    tag: str | None,
    images: Path | None,
    settings: Path | None,
    as_json: bool,
) -> None:
    """Write the pipeline specs to upload to Vertex AI or Kubeflow."""
    chosen = [TARGETS[name] for name in dict.fromkeys(targets) or TARGETS]
    if settings:
        if len(chosen) != 1:
            raise InputError("settings", str(settings), "requires a single platform", "name it with --target")
        chosen = [chosen[0].with_settings(settings)]
    specs = []
    for name in dict.fromkeys(pipelines) or PIPELINES:
        for target in chosen:
            of_step = step_images(target, images, image_prefix, tag)
            path = compile_pipeline(PIPELINES[name], target, output_dir, of_step)
            specs.append({"pipeline": name, "target": target.name, "spec": str(path)})
            if not as_json:
                echo(f"{path}\n  upload to {target.upload_hint}")
    if as_json:
        print_json("specs", {"specs": specs})
