"""``wals models``: the versions of a registry, and which of them serves."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from rich.console import Console

from components.deliver.options import DeliverOptions
from components.deliver.serving import Served
from components.deliver.serving import promote as promote_version
from components.deliver.serving import rollback as roll_back
from components.registry import Champion, Registry, Version, open_registry
from pipeline.commands.base import CONTEXT, WalsGroup, json_option
from pipeline.commands.compare import comparison, have_same_parameters
from pipeline.definition.mappings import read_mapping
from pipeline.display.output import PlainTable, echo, print_json
from trainer.errors import InputError

Command = TypeVar("Command", bound=Callable[..., object])


def _registry_options(command: Command) -> Command:
    """Give a command the options that say where the registry is."""
    command = click.option("--registry", help="Registry: a folder, gs://BUCKET/PATH or s3://BUCKET/PATH.")(
        command
    )
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="YAML or TOML file of an environment, whose parameters name the registry.",
    )(command)


def _place_options(command: Command) -> Command:
    """Give a command the options that say where else the champion serves."""
    command = click.option(
        "--vertex-model", help="Model in Vertex AI whose alias champion moves too; the config's if omitted."
    )(command)
    command = click.option(
        "--vertex-endpoint",
        help="Endpoint of Vertex AI where the version gets all traffic; the config's if omitted.",
    )(command)
    return click.option(
        "--destination", help="BigQuery dataset whose tables are replaced too; the config's if omitted."
    )(command)


def _force_option(command: Command) -> Command:
    """Give a command ``--force``."""
    return click.option(
        "--force",
        is_flag=True,
        help="Ignore the claim of a delivery that was killed.",
    )(command)


@click.group(cls=WalsGroup, context_settings=CONTEXT)
def command() -> None:
    """Show the delivered models, and choose which one serves.

    \b
    wals models show --config config/prod.yaml       which model serves, since when, how good
    wals models rollback --config config/prod.yaml   back to the one before
    """


@command.command("list", context_settings=CONTEXT)
@_registry_options
@json_option
def list_command(config: Path | None, registry: str | None, as_json: bool) -> None:
    """List the versions, newest first."""
    opened = open_registry(_options(config, registry=registry).registry)
    champion = opened.champion()
    versions = opened.versions()
    if as_json:
        print_json("versions", {"versions": [_summary(version, champion) for version in versions]})
        return
    if champion and champion.version not in {version.name for version in versions}:
        echo(f"The champion, {champion.version}, is missing or damaged", err=True)
    if not versions:
        echo(f"There are no versions in {opened.address}")
        return
    Console().print(_list_table(versions, champion))


@command.command("show", context_settings=CONTEXT)
@click.argument("version", required=False)
@_registry_options
@json_option
def show_command(version: str | None, config: Path | None, registry: str | None, as_json: bool) -> None:
    """Show a version, or the champion: since when it serves, and how good it is."""
    opened = open_registry(_options(config, registry=registry).registry)
    champion = opened.champion()
    shown = opened.version(version or opened.serving().version)
    if as_json:
        more = {"parameters": shown.parameters, "metrics": shown.metrics, "parts": _part_sizes(shown)}
        print_json("version", {**_summary(shown, champion), **more})
        return
    console = Console()
    console.print(_facts_table(shown, champion))
    console.print(_figures_table("Holdout metrics", {k: f"{v:.4f}" for k, v in shown.metrics.items()}))
    console.print(_figures_table("Parameters", {k: str(v) for k, v in shown.parameters.items()}))


@command.command("compare", context_settings=CONTEXT)
@click.argument("versions", nargs=-1)
@click.option(
    "--all", "show_all", is_flag=True, help="Also show the parameters that are the same in every version."
)
@_registry_options
@json_option
def compare_command(
    versions: tuple[str, ...], config: Path | None, registry: str | None, show_all: bool, as_json: bool
) -> None:
    """Show versions side by side: by default the champion and the one before it."""
    opened = open_registry(_options(config, registry=registry).registry)
    found = [opened.version(name) for name in versions or _served(opened)]
    if as_json:
        compared = [
            {"version": version.name, "parameters": version.parameters, "metrics": version.metrics}
            for version in found
        ]
        print_json("version-comparison", {"versions": compared})
        return
    columns = [_Column(version.name, version.parameters, version.metrics) for version in found]
    Console().print(comparison(columns, show_all))
    if have_same_parameters(columns):
        echo("The versions have the same parameters")
    if len({version.holdout_checksum for version in found}) > 1:
        echo("They were judged on different holdouts: their metrics are not comparable")


@command.command("promote", context_settings=CONTEXT)
@click.argument("version")
@_registry_options
@_place_options
@_force_option
@json_option
def promote_command(
    version: str,
    config: Path | None,
    registry: str | None,
    destination: str | None,
    vertex_model: str | None,
    vertex_endpoint: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a version the champion."""
    options = _options(
        config,
        registry=registry,
        destination=destination,
        vertex_model=vertex_model,
        vertex_endpoint=vertex_endpoint,
    )
    _show_served(options, promote_version(options, version, force=force), as_json)


@command.command("rollback", context_settings=CONTEXT)
@_registry_options
@_place_options
@_force_option
@json_option
def rollback_command(
    config: Path | None,
    registry: str | None,
    destination: str | None,
    vertex_model: str | None,
    vertex_endpoint: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make the version before the champion the champion again."""
    options = _options(
        config,
        registry=registry,
        destination=destination,
        vertex_model=vertex_model,
        vertex_endpoint=vertex_endpoint,
    )
    _show_served(options, roll_back(options, force=force), as_json)


@dataclass(frozen=True)
class _Column:
    """A version as `pipeline.commands.compare` shows it."""

    id: str
    parameters: Any
    metrics: Any


def _options(config: Path | None, **given: str | None) -> DeliverOptions:
    """Return where models are delivered to, as the options or the environment's parameters say."""
    parameters = (read_mapping("config", config).get("parameters") or {}) if config else {}
    if not isinstance(parameters, dict):
        raise InputError("parameters", parameters, "is not a mapping", "give it as `name: value` lines")
    values = {name: value for name, value in parameters.items() if name in DeliverOptions.model_fields}
    options = DeliverOptions(**values | {name: value for name, value in given.items() if value is not None})
    if not options.registry:
        raise InputError(
            "registry", "", "is missing", "give --registry, or a --config whose parameters have it"
        )
    return options


def _served(registry: Registry) -> list[str]:
    """Return the champion and the version before it, if there is one."""
    champion = registry.serving()
    return [champion.version, *([champion.previous] if champion.previous else [])]


def _show_served(options: DeliverOptions, served: Served, as_json: bool) -> None:
    champion = served.champion
    if as_json:
        places = {
            "destination": options.destination,
            "vertex_model": served.vertex_model,
            "vertex_endpoint": options.vertex_endpoint,
        }
        print_json("champion", {**champion.model_dump(exclude={"history"}), **places})
        return
    echo(f"champion {champion.version} since {_local(champion.promoted)}")
    if champion.previous:
        echo(f"before   {champion.previous}")
    elsewhere = list(filter(None, (options.destination, served.vertex_model, options.vertex_endpoint)))
    for place in elsewhere:
        echo(f"serves   {place}")
    if not elsewhere:
        echo(
            "Only the registry has changed; to change more, give --config, --destination or --vertex-model",
            err=True,
        )


def _summary(version: Version, champion: Champion | None) -> dict[str, Any]:
    serves = champion is not None and champion.version == version.name
    return {
        "version": version.name,
        "created": version.created,
        "champion": serves,
        "promoted": champion.promoted if champion and serves else None,
        "run": version.run,
        "metric": version.decision.metric,
        "value": version.metrics.get(version.decision.metric),
        "reason": version.decision.reason,
        "refit_iters": version.refit_iters,
        "holdout": version.holdout_checksum,
        "code_version": version.code_version,
        "bytes": version.bytes,
    }


def _list_table(versions: list[Version], champion: Champion | None) -> PlainTable:
    table = PlainTable()
    table.add_column("version", no_wrap=True)
    table.add_column("serves", no_wrap=True)
    table.add_column("metric")
    table.add_column("value", justify="right")
    for version in versions:
        value = version.metrics.get(version.decision.metric)
        table.add_row(
            version.name,
            _service(version.name, champion),
            version.decision.metric,
            "-" if value is None else f"{value:.4f}",
        )
    return table


def _service(name: str, champion: Champion | None) -> str:
    if champion and champion.version == name:
        return f"since {_local(champion.promoted)}"
    return "before" if champion and champion.previous == name else ""


def _facts_table(version: Version, champion: Champion | None) -> PlainTable:
    refit = f"{version.refit_iters} iterations on all data" if version.refit_iters else "none"
    facts = {
        "version": version.name,
        "serves": _service(version.name, champion) or "no",
        "delivered": _local(version.created),
        "run": version.run,
        "decision": version.decision.reason,
        "refit": refit,
        "holdout": version.holdout_checksum[:12],
        "code version": version.code_version,
        "parts": ", ".join(f"{part} {size / 1e6:.1f} MB" for part, size in _part_sizes(version).items()),
    }
    return _figures_table("", facts)


def _figures_table(title: str, figures: dict[str, str]) -> PlainTable:
    table = PlainTable(title=title or None, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in figures.items():
        table.add_row(name, value)
    return table


def _part_sizes(version: Version) -> dict[str, int]:
    return {part: sum(file.bytes for file in files) for part, files in version.parts.items()}


def _local(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
