"""The evaluation report: its content; tests/components/reports reads it in a browser."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from components.artifacts.evaluation import Decision, Estimate, Evaluation
from components.artifacts.model_card import INTENDED_USE, LIMITS
from components.evaluate.examples import Examples
from components.evaluate.report import write_report
from tests.components.profiles import profile
from tests.components.reports.pages import LONG, SCRIPT, estimates, evaluation, examples
from trainer.history import Iteration


class _Text(HTMLParser):
    """Collects what is read: text outside the head, and the alternatives of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._in_body = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in_body = self._in_body or tag == "body"
        self.parts += [f" {value} " for name, value in attributes if name == "aria-label"]

    def handle_data(self, data: str) -> None:
        if self._in_body:
            self.parts.append(data)


def read(path: Path) -> str:
    parser = _Text()
    parser.feed(path.read_text("utf-8"))
    return re.sub(r"\s+", " ", "".join(parser.parts))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_report(evaluation(), examples(), profile(), None, tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_decision_comes_first_with_its_reason(written: Path) -> None:
    text = read(written)
    reason = "Rejected. NDCG@20 is 0.1000, 12.0 % below the champion's 0.1136."
    assert text.index("Model evaluation") < text.index(reason) < text.index("Metrics")
    assert "gain over the champion failed" in text
    assert "gain over popularity passed" in text


@pytest.mark.parametrize(
    "shown",
    [
        # Metrics of the model and of the champion, which are half as high, with intervals.
        "NDCG@20 decides 0.1000 0.0800 to 0.1333 0.0500 0.0400 to 0.0667",
        "RMSE 0.7000",
        "Recall by length of the list. this model: 10 0.0500, 20 0.1000, 50 0.2500, 100 0.5000. champion: 10",
        "NDCG@20 by user activity. this model: cold 0.1000, middle 0.1000, heavy 0.1000.",
        "cold user activity 100 0.1000",
        "head item popularity 100 0.1000",
        "Catalogue coverage@20 share of the catalogue in the lists 0.2000",
        "Objective: 100,000 after iteration 1, 12,500 after iteration 8.",
        "Seconds per iteration: 0.25 to 0.25, 2 in total.",
        "Validation metric: 0.1 after iteration 1, 0.8 after iteration 8.",
        "User <script>alert('title')</script> 21 known interactions; 1 of 5 held-out ones found",
        "latent_factors 64 (auto)",
        "regularization 0.003 ",
        "chosen in 2.2 s on 90,170 training interactions of 657 users",
        "64 0.003 0.1 0 0.1234",
        "popularity - - - 0.1111",
        "code wals 0.1.0",
        f"checksum of the holdout {'ab' * 32}",
        "20261125T201500Z-1a2b3c4d, which has served since 2026-11-25 20:16:11 UTC",
        "The 1,410 held-out interactions that the champion was trained on are left out",
        "Intended use",
    ],
)
def test_everything_that_is_known_is_in_words_and_figures(written: Path, shown: str) -> None:
    assert shown in read(written)


def test_the_first_model_has_no_champion_and_needs_no_examples(tmp_path: Path) -> None:
    first = evaluation(
        champion=None,
        decision=Decision(outcome="blessed", reason="It is good.", metric="recall_at_20", checks=()),
        metrics={"model": {"recall_at_20": Estimate(value=0.5)}},
        segments=(),
        history=(),
    )
    write_report(first, Examples(), profile(), None, tmp_path / "report.html")
    text = read(tmp_path / "report.html")
    assert "Blessed. It is good." in text
    assert "no champion" in text
    for absent in ("champion 0", "Example users", "Similar items", "Segments", "Long tail"):
        assert absent not in text


def test_the_model_card_has_the_words_of_the_delivered_one(written: Path) -> None:
    text = read(written)
    assert [sentence for sentence in (*INTENDED_USE, *LIMITS) if sentence not in text] == []


def test_a_long_training_is_thinned_out(tmp_path: Path) -> None:
    history = tuple(Iteration(number, 1000.0 / number, 0.5) for number in range(1, 10_001))
    write_report(evaluation(history=history), examples(), profile(), None, tmp_path / "report.html")
    text = read(tmp_path / "report.html")
    assert "Objective: 1,000 after iteration 1, 0.1 after iteration 10000." in text
    assert "0.5 to 0.5, 5e+03 in total" in text
    assert "Validation" not in text
    assert (tmp_path / "report.html").stat().st_size < 300_000


def test_what_others_wrote_is_escaped_and_cut(written: Path) -> None:
    html = written.read_text("utf-8")
    assert SCRIPT not in html
    assert html.count(LONG) == 1, "a parameter is shown as it is, titles and categories are cut"


def test_the_same_evaluation_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_report(evaluation(), examples(), profile(), None, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == written.read_bytes()


def test_figures_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    broken = estimates(1.0) | {"recall_at_20": Estimate(value=float("nan"), low=float("nan"), high=0.1)}
    content: Evaluation = evaluation(metrics={"model": broken})
    write_report(content, Examples(), profile(), None, tmp_path / "report.html")
    assert "nan" not in (tmp_path / "report.html").read_text("utf-8")
