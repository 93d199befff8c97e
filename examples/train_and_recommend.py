"""Train a model on the MovieLens sample, save and load it, and look at what it recommends.

Run it with ``python examples/train_and_recommend.py``, with a folder for the model as an optional argument.
"""

import sys
from pathlib import Path

# Import trainer before NumPy, pandas and SciPy: it sets how long idle BLAS threads keep a core.
from trainer import InteractionMatrix, Recommender, TrainConfig, fit
from trainer.catalogue import CatalogueTables
from trainer.vocabulary import Vocabulary

# isort: split
import pandas as pd
from scipy import sparse

DATA = Path(__file__).parents[1] / "data" / "ml-latest-small"
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/example-model")
USER, ITEM, COUNT = 42, 1, 5
BASKET = [260, 1196, 1210]

# One row for each rating: userId, movieId, rating, timestamp.
ratings = pd.read_csv(DATA / "ratings.csv")

# A vocabulary maps ids, integers or text, to the rows or columns of the matrix.
users, items = Vocabulary.of(ratings["userId"]), Vocabulary.of(ratings["movieId"])
rows, columns = users.index_of(ratings["userId"]), items.index_of(ratings["movieId"])
matrix = sparse.coo_array((ratings["rating"], (rows, columns)), (len(users), len(items))).tocsr()

# By default a rating is implicit feedback: the user chose this film. TrainConfig has all parameters.
config = TrainConfig(latent_factors=32, num_iters=10)
model = fit(InteractionMatrix.from_scipy(matrix), config, users=users, items=items)
print(f"objective {model.history[0].objective:,.0f} -> {model.history[-1].objective:,.0f}")

# A model is a folder of documented files. Loading checks them and maps the factors into memory.
model.save(FOLDER)

# What is known of the items is optional.
movies = pd.read_csv(DATA / "movies.csv")
genres = movies["genres"].str.partition("|")[0]
catalogue = CatalogueTables.of({"item_id": movies["movieId"], "title": movies["title"], "category": genres})
recommender = Recommender.load(FOLDER, catalogue=catalogue)

# The results are Arrow tables; .to_pandas() makes data frames of them.
print(f"user {USER} has not rated:")
for row in recommender.recommend(USER, COUNT).to_pylist():
    print(f"  {row['item_id']:6}  {row['score']:.2f}  {row['title']}")

print(f"similar to item {ITEM}:")
for row in recommender.similar(ITEM, COUNT).to_pylist():
    print(f"  {row['similar_item_id']:6}  {row['score']:.2f}  {row['title']}")

# Someone who was not in the training, with three films, and at most two recommendations of a genre.
varied = Recommender.load(FOLDER, catalogue=catalogue, max_per_category=2)
print(f"for someone who likes {', '.join(map(str, BASKET))}:")
for row in varied.for_basket(BASKET, COUNT).to_pylist():
    print(f"  {row['item_id']:6}  {row['score']:.2f}  {row['title']}")
