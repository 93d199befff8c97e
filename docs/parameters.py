"""Write docs/parameters.md from the steps' options models: ``make docs``."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.definition.parameters import Parameter
from pipeline.definition.pipelines import TRAINING, TUNING
from trainer.options import AUTO, NumberOrAuto

PAGE = Path(__file__).with_suffix(".md")

_HEAD = """# Parameters of the pipelines

Every parameter of `wals-train` and `wals-tune`, as the steps declare it. `wals-probe` has those of the source
(data, filters, BigQuery, Google Analytics) and `solver`. Give them

- as options of `wals run` and `wals tune`: `--latent-factors 128`,
- under `parameters` in an environment file, or with `-p latent_factors=128`,
- in the form that the Vertex AI console and the Kubeflow UI show, or in a client's `parameter_values`.

`""` stands for an omitted text. [data.md](data.md) and [trainer.md](trainer.md) explain the parameters.

This page is generated from the options models by `make docs`.
"""


def page() -> str:
    """Return the contents of the page."""
    groups: dict[str, list[Parameter]] = {}
    for parameter in TUNING.parameters.values():
        groups.setdefault(parameter.group, []).append(parameter)
    return "\n".join([_HEAD, *(_section(group, members) for group, members in groups.items())])


def _section(group: str, parameters: list[Parameter]) -> str:
    only = "" if any(parameter.name in TRAINING.parameters for parameter in parameters) else " (`wals-tune`)"
    rows = "\n".join(_row(parameter) for parameter in parameters)
    return f"## {group}{only}\n\n| parameter | values | default | |\n|---|---|---|---|\n{rows}\n"


def _row(parameter: Parameter) -> str:
    default = "required" if parameter.required else f"`{_literal(parameter.default)}`"
    cells = (f"`{parameter.name}`", _values(parameter), default, parameter.description)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _values(parameter: Parameter) -> str:
    if parameter.choices:
        return _listed(parameter.choices)
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    automatic = NumberOrAuto.in_field(parameter.field)
    kind = f"`{AUTO}`, {names[automatic.kind]}" if automatic else names[parameter.type]
    return f"{kind} {parameter.bounds}".rstrip()


def _listed(values: Iterable[object]) -> str:
    return ", ".join(f"`{_literal(value)}`" for value in values)


def _literal(value: object) -> str:
    if value == "":
        return '""'
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
