"""`wals tune`: the compiled tuning pipeline on this machine."""

import builtins
import re
from pathlib import Path

import pytest

from pipeline.cli import run_command
from pipeline.cli import wals as cli


def test_it_tries_chooses_and_trains_with_the_best(
    ratings_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    original = print
    options = "--width 2 --num-iters 4 --max-latent-factors 16 --latent-factors 8 --eval-k 5 --output-dir out"
    exit_code = run_command(cli, ["tune", "--source", str(ratings_csv), *options.split()], "wals")
    assert builtins.print is original, "parallel steps left kfp.local's own in its place"
    output = capsys.readouterr()
    assert exit_code == 0, output.out + output.err
    trials = {
        int(number) for number in re.findall(r"trial (\d+): NDCG@5 [\d.]+ after 2 iterations", output.out)
    }
    assert trials == set(range(6))
    assert re.search(r"best of 6 trials: number \d", output.out)
    best_values = re.findall(
        r"round (\d): NDCG@5 ([\d.]+) best so far \(latent_factors \d+, regularization [\d.]+, .*\)",
        output.out,
    )
    assert [number for number, _ in best_values] == ["1", "2", "3"]
    assert best_values == sorted(best_values, key=lambda best: best[1])
    assert re.search(rf"best of 6 trials: .* NDCG@5 {best_values[-1][1]}\n", output.out)
    assert re.search(r"--latent-factors \d+ --regularization", output.out)
    assert "<svg" in (tmp_path / "out" / "study.html").read_text("utf-8")
    assert (tmp_path / "out" / "recommendations" / "_manifest.json").exists()


def test_what_no_trial_could_use_is_refused_before_anything_runs(
    ratings_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = "--width 0 --max-latent-factors 4 --duplicates some --output-dir out"
    assert run_command(cli, ["tune", "--source", str(ratings_csv), *options.split()], "wals") == 2
    reported = capsys.readouterr().err
    assert reported.count("\n") == 1
    assert all(name in reported for name in ("width 0", "max_latent_factors 4", "duplicates 'some'"))
    assert not (tmp_path / "out").exists()
