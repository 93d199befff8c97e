"""``wals upload``: put a compiled pipeline where runs can be made from it."""

import tempfile
from pathlib import Path
from typing import Any

import click

from pipeline.backends import connect
from pipeline.commands.options import (
    CONTEXT,
    compiled_spec,
    environment_of,
    json_option,
    platform_options,
    print_json,
    spec_options,
)


@click.command(context_settings=CONTEXT)
@platform_options
@spec_options
@click.option(
    "--template-tag", "template_tags", multiple=True, help="Tag for the template. May be given again."
)
@json_option
def command(config: Path | None, template_tags: tuple[str, ...], as_json: bool, **flags: Any) -> None:
    """Upload a compiled pipeline; the same bytes make no new version.

    It goes to the template repository of Artifact Registry if the environment has one, to Cloud Storage
    under the pipeline root if not, or to the Kubeflow server as a version of the pipeline.
    """
    environment = environment_of(config, flags)
    backend = connect(environment.platform)
    backend.reach()
    with tempfile.TemporaryDirectory() as folder:
        spec = compiled_spec(environment, flags["pipeline"], flags, Path(folder))
        uploaded = backend.upload(spec, flags["pipeline"], template_tags)
    if as_json:
        print_json(uploaded)
    else:
        click.echo(f"{'Uploaded' if uploaded.created else 'Already there'}: {uploaded.version}")
        click.echo(uploaded.location)
