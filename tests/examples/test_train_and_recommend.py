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
    headings = [for_user, lines[5], lines[11]]
    assert headings == [
        "user 42 has not rated:",
        "similar to item 1:",
        "for someone who likes 260, 1196, 1210:",
    ]
    recommended, similar, varied = listed(lines[:5]), listed(lines[6:11]), listed(lines[12:])

    ratings = pd.read_csv(DATA / "ratings.csv")
    movies = pd.read_csv(DATA / "movies.csv", index_col="movieId")
    titles = movies["title"]
    for items in (recommended, similar, varied):
        assert len(set(items["item"])) == 5
        assert items["score"].is_monotonic_decreasing
        assert titles[items["item"]].tolist() == items["title"].tolist()
    assert not set(recommended["item"]) & set(ratings.movieId[ratings.userId == 42])
    assert 1 not in set(similar["item"])
    assert not {260, 1196, 1210} & set(varied["item"])
    assert movies["genres"][varied["item"]].str.partition("|")[0].value_counts().max() <= 2

    # What was saved recommends the same.
    model = Model.load(folder)
    indices, _ = model.recommend(model.users.index_of([42]), 5)
    assert model.items.take(indices[0]) == recommended["item"].tolist()
