"""The message about a run, in the JSON that Slack and compatible receivers take."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.artifacts.evaluation import Decision, Estimate, Evaluation, Recommender
from components.evaluate.labels import metric_label, metric_length
from components.notify.facts import Facts, State
from trainer.errors import counted

# Slack refuses a message with a header of more than 150 characters, a text of more than 3,000 or more than 50
# blocks (docs.slack.dev/reference/block-kit/blocks), and cuts one of more than 40,000. Escaping makes a
# character five.
_HEADER, _LINE, _LINK, _ERRORS, _ROWS = 150, 1000, 500, 3, 6
# What can be the address of a link, whose markup has < | >.
_ADDRESS = re.compile(r"https://[\w.~:/?#@!$&'()*+,;=%-]+", re.ASCII)
_SHOWN: tuple[Recommender, ...] = ("model", "champion", "popularity")
_ENDS: Mapping[State, str] = {
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "was cancelled",
    "unknown": "ended, in a state that is not known",
}
# Receivers other than Slack read @channel and the like as mentions, unless something is between.
_MENTION = re.compile(r"(?<!\w)@(?=\w)")
_APART = "@\N{ZERO WIDTH SPACE}"


def is_problem(facts: Facts) -> bool:
    """Return whether a run needs somebody to look at it.

    It did not succeed, its model is rejected, or its data have drifted.
    """
    drifted = facts.evaluation is not None and facts.evaluation.drift_warning != ""
    return facts.state != "succeeded" or _is_rejected(facts) or drifted


def title(pipeline: str, facts: Facts) -> str:
    """Return the message's first line, such as ``wals-train succeeded: the new model is rejected``."""
    outcome = ""
    if _is_rejected(facts):
        outcome = ": the new model is rejected"
    elif facts.evaluation and facts.state == "succeeded":
        outcome = ": the new model is blessed"
    return _plain(f"{pipeline} {_ENDS[facts.state]}{outcome}", _HEADER)


def _is_rejected(facts: Facts) -> bool:
    return facts.evaluation is not None and facts.evaluation.decision.outcome == "rejected"


def message(pipeline: str, facts: Facts) -> dict[str, Any]:
    """Return the message as JSON values.

    Texts from the run, such as error lines, are shown as they are: they contain no markup, no mentions, no
    characters that cannot be seen, and are cut where they are long.

    Args:
        pipeline: name of the pipeline.
        facts: the outcome of the run.
    """
    first = title(pipeline, facts)
    lines = [*_lines(facts)]
    table = "\n".join(_table(facts.evaluation)) if facts.evaluation else ""
    blocks: list[dict[str, Any]] = [{"type": "header", "text": _plain_text(first)}]
    blocks += [{"type": "section", "text": _plain_text(line)} for line in lines]
    if table:
        blocks.append({"type": "section", "text": _mrkdwn(f"```{_escaped(table)}```")})
    places = [(name, _plain(place, _LINK)) for name, place in _places(facts)]
    blocks.append({"type": "context", "elements": [_mrkdwn(_link(*place)) for place in places]})
    # Notifications on phones, and receivers without blocks, show only the text.
    paragraphs = [first, *lines, *([table] if table else []), *(f"{name}: {place}" for name, place in places)]
    text = "\n".join(map(_escaped, paragraphs))
    return {"text": text, "blocks": blocks}


def _lines(facts: Facts) -> Iterator[str]:
    """Yield the paragraphs: the decision, drift of the data, what failed, and the platform's reason."""
    if facts.evaluation:
        yield _plain(facts.evaluation.decision.reason)
        if facts.evaluation.drift_warning:
            yield _plain(facts.evaluation.drift_warning)
    for failure in facts.failures[:_ERRORS]:
        yield _plain(f"{failure.step}: {failure.line}")
    if (more := len(facts.failures) - _ERRORS) > 0:
        yield f"{counted(more, 'more step')} failed."
    if facts.state == "failed" and facts.reason:
        yield _plain(facts.reason)
    elif facts.state == "failed" and not facts.failures:
        yield "Which step failed is not known here; see the run."


def _places(facts: Facts) -> Iterator[tuple[str, str]]:
    """Yield where to find more, by name."""
    yield "Run", facts.run
    if facts.link:
        yield "Page", facts.link
    if facts.report:
        yield "Report", facts.report


def _link(name: str, place: str) -> str:
    if _ADDRESS.fullmatch(place):
        return f"<{_escaped(place)}|{name}>"
    return f"{name}: {_escaped(place)}"


def _table(evaluation: Evaluation) -> Iterator[str]:
    """Yield the lines of a table of the deciding metric, and of others at the same length of lists."""
    shown = [name for name in _SHOWN if name in evaluation.metrics]
    rows = [["", *shown]]
    for metric in _deciding(evaluation.decision, list(evaluation.metrics.get("model", ()))):
        figures = [_figure(evaluation.metrics[name].get(metric)) for name in shown]
        rows.append([_plain(metric_label(metric), 24).replace("`", "'"), *figures])
    if len(rows) == 1:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _deciding(decision: Decision, names: Sequence[str]) -> list[str]:
    lengths = ("", metric_length(decision.metric))
    others = [name for name in names if metric_length(name) in lengths and name != decision.metric]
    return [*(name for name in names if name == decision.metric), *others][:_ROWS]


def _figure(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def _plain(text: str, longest: int = _LINE) -> str:
    """Return a text in one line, without characters that cannot be seen or that call people."""
    seen = "".join(c if c.isprintable() else " " for c in text)
    # Slack refuses empty texts.
    line = _MENTION.sub(_APART, " ".join(seen.split())) or "-"
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain_text(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}


def _mrkdwn(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}
