import re
import subprocess
import sys
from pathlib import Path

import pandas as pd

from trainer import Model

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "train_and_recommend.py"
DATA = ROOT / "data" / "ml-latest-small"


def listed(lines: list[str]) -> pd.DataFrame:
    """Return the items of a printed list: id, score and title."""
    rows = [re.fullmatch(r" +(\d+)  (\d\.\d\d)  (.+)", line) for line in lines]
    assert all(rows), lines
    return pd.DataFrame(
        [(int(row[1]), float(row[2]), row[3]) for row in rows if row], columns=["item", "score", "title"]
    )


def test_the_example_trains_saves_and_recommends(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    result = subprocess.run(
        [sys.executable, EXAMPLE, folder], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    objective, for_user, *lines = result.stdout.splitlines()
    first, last = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", objective))
    assert last < first
    assert (for_user, lines[5]) == ("user 42 has not rated:", "similar to Toy Story (1995):")
    recommended, similar = listed(lines[:5]), listed(lines[6:])

    ratings = pd.read_csv(DATA / "ratings.csv")
    titles = pd.read_csv(DATA / "movies.csv", index_col="movieId")["title"]
    for items in (recommended, similar):
        assert len(set(items["item"])) == 5
        assert items["score"].is_monotonic_decreasing
        assert titles[items["item"]].tolist() == items["title"].tolist()
    assert not set(recommended["item"]) & set(ratings.movieId[ratings.userId == 42])
    assert 1 not in set(similar["item"])

    # What was saved recommends the same.
    model = Model.load(folder)
    indices, _ = model.recommend(model.users.index_of([42]), 5)
    assert model.items.take(indices[0]) == recommended["item"].tolist()
