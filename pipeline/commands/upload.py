"""``wals upload``: put a compiled pipeline where runs can be created from it."""

import tempfile
from pathlib import Path

import rich_click as click

from pipeline.commands.base import json_option, wals_command
from pipeline.commands.jobs import compiled_spec, environment_of
from pipeline.commands.options import Flags, platform_options, spec_options, with_flags
from pipeline.display.output import echo, print_json
from pipeline.platforms.connect import connect


@wals_command()
@platform_options("upload")
@spec_options
@click.option("--template-tag", "template_tags", multiple=True, help="Tag for the template. Repeatable.")
@json_option
@with_flags
def command(flags: Flags, template_tags: tuple[str, ...], as_json: bool) -> None:
    """Upload a compiled pipeline; identical bytes do not create a new version.

    Uploads to the environment's template repository in Artifact Registry; without one, to Cloud Storage under
    the pipeline root; on Kubeflow, to the server as a version of the pipeline.
    """
    environment = environment_of(flags)
    backend = connect(environment.platform)
    backend.reach()
    with tempfile.TemporaryDirectory() as folder:
        spec = compiled_spec(environment, flags, Path(folder))
        uploaded = backend.upload(spec, flags.pipeline, template_tags)
    if as_json:
        print_json("upload", uploaded)
    else:
        echo(f"{'Uploaded' if uploaded.created else 'Already there'}: {uploaded.version}")
        echo(uploaded.location)
