"""Train a model on the MovieLens sample, save and load it, and look at what it recommends.

Run it with ``python examples/train_and_recommend.py``, with a folder for the model as an optional argument.
"""

import sys
from pathlib import Path

# Import trainer before NumPy, pandas and SciPy: it sets how long idle BLAS threads keep a core.
from trainer import InteractionMatrix, Model, TrainConfig, fit
from trainer.vocabulary import Vocabulary

# isort: split
import pandas as pd
from scipy import sparse

DATA = Path(__file__).parents[1] / "data" / "ml-latest-small"
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/example-model")
USER, ITEM, COUNT = 42, 1, 5

# One row for each rating: userId, movieId, rating, timestamp.
ratings = pd.read_csv(DATA / "ratings.csv")
titles = pd.read_csv(DATA / "movies.csv", index_col="movieId")["title"]

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
model = Model.load(FOLDER)

# Models take and return indices; their vocabularies translate from and to ids.
indices, scores = model.recommend(model.users.index_of([USER]), COUNT)
print(f"user {USER} has not rated:")
for item, score in zip(model.items.take(indices[0]), scores[0], strict=True):
    print(f"  {item:6}  {score:.2f}  {titles[item]}")

indices, cosines = model.similar_items(model.items.index_of([ITEM]), COUNT)
print(f"similar to {titles[ITEM]}:")
for item, cosine in zip(model.items.take(indices[0]), cosines[0], strict=True):
    print(f"  {item:6}  {cosine:.2f}  {titles[item]}")
