"""The message: what it says, and that texts of a run stay texts, within Slack's limits."""

import json
from typing import Any

import pytest

from components.artifacts.evaluation import Drift, Estimate
from components.notify.facts import Facts, Failure
from components.notify.message import is_problem, message, title
from tests.components.notify.examples import REASON, evaluation

RUN = "wals-train-20261126"
BLESSED = Facts(RUN, "succeeded", evaluation=evaluation("blessed"))


def texts(content: dict[str, Any]) -> list[str]:
    """Return the texts of a message's blocks."""
    parts = [block.get("elements", [block.get("text")]) for block in content["blocks"]]
    return [element["text"] for part in parts for element in part]


def test_a_rejected_model_has_the_decision_and_the_metrics_beside_the_champions() -> None:
    facts = Facts(
        RUN, "succeeded", evaluation=evaluation(), link="https://console/x?a=1&b=2", report="/r/report"
    )
    content = message("wals-train", facts)
    assert texts(content) == [
        "wals-train succeeded: the new model is rejected",
        REASON,
        "```"
        "                       model                      champion                   popularity\n"
        "NDCG@20                0.1550 (0.1450 to 0.1650)  0.1600 (0.1500 to 0.1700)  "
        "0.0600 (0.0500 to 0.0700)\n"
        "Recall@20              0.3100 (0.3000 to 0.3200)  0.3200 (0.3100 to 0.3300)  "
        "0.1200 (0.1100 to 0.1300)\n"
        "Catalogue coverage@20  0.25                       0.25                       0.25```",
        f"Run: {RUN}",
        "<https://console/x?a=1&amp;b=2|Page>",
        "Report: /r/report",
    ]
    assert all(part.strip("`") in content["text"] for part in texts(content)[:4])
    assert content["text"].endswith("\nPage: https://console/x?a=1&amp;b=2\nReport: /r/report")


def test_drift_of_the_data_is_one_line_and_a_problem_also_of_a_blessed_model() -> None:
    differences = {"the items fell by 50.0%": -0.5, "the users rose by 31.0%": 0.31, "few are new": 0.1}
    drift = tuple(Drift(name="n", value=value, limit=0.3, detail=text) for text, value in differences.items())
    facts = Facts(RUN, "succeeded", evaluation=evaluation("blessed", drift=drift))
    line = "The data have drifted since the champion: the items fell by 50.0%; the users rose by 31.0%."
    assert texts(message("p", facts))[1:3] == [REASON, line]
    assert is_problem(facts)
    assert not is_problem(Facts(RUN, "succeeded", evaluation=evaluation("blessed", drift=drift[2:])))


def test_a_failed_run_has_the_lines_of_its_steps_and_the_platforms_reason() -> None:
    failures = tuple(Failure(f"trial-{n}", f"wals-error[2] alpha {n}: is too large") for n in range(5))
    facts = Facts(RUN, "failed", "The failed tasks are: [trial].", failures)
    assert texts(message("wals-tune", facts)) == [
        "wals-tune failed",
        *(f"trial-{n}: wals-error[2] alpha {n}: is too large" for n in range(3)),
        "2 more steps failed.",
        "The failed tasks are: [trial].",
        f"Run: {RUN}",
    ]


@pytest.mark.parametrize(
    ("facts", "line", "problem"),
    [
        (Facts(RUN, "succeeded"), "p succeeded", False),
        (
            Facts(RUN, "succeeded", evaluation=evaluation("blessed")),
            "p succeeded: the new model is blessed",
            False,
        ),
        (Facts(RUN, "succeeded", evaluation=evaluation()), "p succeeded: the new model is rejected", True),
        (Facts(RUN, "failed", evaluation=evaluation("blessed")), "p failed", True),
        (Facts(RUN, "cancelled"), "p was cancelled", True),
        (Facts(RUN, "unknown"), "p ended, in a state that is not known", True),
    ],
)
def test_the_first_line_says_how_the_run_ended(facts: Facts, line: str, problem: bool) -> None:
    assert title("p", facts) == line
    assert is_problem(facts) is problem


def test_a_failure_about_which_nothing_is_known_points_to_the_run() -> None:
    assert "Which step failed is not known here; see the run." in texts(message("p", Facts(RUN, "failed")))


HOSTILE = {
    "mentions": "@channel @here <!here> <!channel> <@U012> <!subteam^S1>",
    "links": "<https://evil.example|Approve> [x](https://evil.example)",
    "markup": "*bold* ```fence``` _x_ ~y~ `z` > quote",
    "HTML": "<script>alert(1)</script>&amp;&lt;",
    "lines": "first\nwals succeeded\r\nthird\u2028fourth\x0bfifth",
    "terminal": "\x1b[2J\x1b]0;x\x07 \x00 \x9b31m",
    "direction": "\u202egnp.exe\u2066\u200b\ufeff",
    "surrogate": "\ud800 \udfff",
    "emoji": ":boom: 💥",
    "long": "&<>@" * 25_000,
    "wide": "💥" * 100_000,
    "spaces": " " * 100_000 + "end",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_a_run_says_stays_text_within_slacks_limits(text: str) -> None:
    judged = evaluation(
        reason=text,
        metrics={"model": {text: Estimate(value=0.5), "ndcg_at_20": Estimate(value=1e300)}},
    )
    facts = Facts(text, "failed", text, (Failure(text, text),) * 5, judged, text, text)
    content = message(text, facts)
    blocks = content["blocks"]
    # Beyond which Slack cuts the text.
    assert len(content["text"]) <= 40_000
    assert json.loads(json.dumps(content)) == content
    assert len(blocks) <= 50
    assert len(blocks[0]["text"]["text"]) <= 150
    assert all(0 < len(part) <= 3000 for part in texts(content))
    for kind, part in typed(blocks):
        # Plain text is shown as it is; in other text, only what is escaped is.
        assert kind == "plain_text" or not set(part) & set("<>")
        assert part.replace("\n", "").isprintable() or "\u200b" in part
        assert "@channel" not in part
    assert not set(content["text"]) & set("<>")
    assert "@channel" not in content["text"]
    table = next(part for kind, part in typed(blocks) if part.startswith("```"))
    assert table.count("```") == 2


def typed(blocks: list[Any]) -> list[tuple[str, str]]:
    """Return the kind of each text in blocks, and the text."""
    parts = [block.get("elements", [block.get("text")]) for block in blocks]
    return [(element["type"], element["text"]) for part in parts for element in part]
