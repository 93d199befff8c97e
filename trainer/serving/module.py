"""The TensorFlow graph that serves a model by its original ids."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from trainer.errors import InputError
from trainer.extras import tensorflow
from trainer.model import Model
from trainer.vocabulary import Vocabulary
from trainer.weighting import entry_weights, scaled_regularization, value_weight

tf: Any = tensorflow()

_UNKNOWN = -1


class ServingModule:
    """The signatures of a model's SavedModel.

    Ids are strings in every signature; integer ids are passed as decimal text, so that no client loses
    digits. Lists with fewer than k items, and those of unknown users or items, are padded with the empty id
    "" and the score 0. `k` is one number, or one for each row, as requests with "instances" send it; the
    largest applies.

    - ``recommend(user_ids (n,), k)``, also ``serving_default``: the k items with the largest inner products
      with each user's factor, without the user's training items.
    - ``recommend_for_items(item_ids (n, m), k)``: the same for users who were not in training, from the
      items of each; rows are padded with "". Repeated and unknown items are ignored. Each user's factor is
      the exact solution with the weights and regularisation of training, where every item has the value 1.
      With explicit feedback, any other common value would only scale the scores.
    - ``similar_items(item_ids (n,), k)``: the k items nearest by cosine similarity of factors, without the
      item itself.

    All return ``item_ids`` (n, k) string and ``scores`` (n, k) float32, best first, and among equals in the
    order of the model's items. A request needs memory for n times all items, 4 bytes each, and
    ``recommend_for_items`` for another n d (d + m) numbers: split large ones.
    """

    def __init__(self, model: Model, assets: Path) -> None:
        """Copy a model into TensorFlow.

        Args:
            model: model whose arrays become TensorFlow variables.
            assets: folder for files of the ids, which `save` copies.

        Raises:
            InputError: an id contains a line break, which the asset files cannot hold.
        """
        config = model.config
        lengths = np.linalg.norm(model.item_factors, axis=1)
        self._module = tf.Module()
        self._users = self._index("users", model.users, assets / "users.txt")
        self._items = self._index("items", model.items, assets / "items.txt")
        self._item_ids = self._variable("item_ids", _texts(model.items).to_numpy(zero_copy_only=False))
        self._user_factors = self._variable("user_factors", model.user_factors)
        self._item_factors = self._variable("item_factors", model.item_factors)
        self._inverse_lengths = self._variable(
            "inverse_lengths", np.float32(1) / np.maximum(lengths, np.finfo(np.float32).tiny)
        )
        self._seen_indptr = self._variable("seen_indptr", model.seen.indptr)
        self._seen_indices = self._variable("seen_indices", model.seen.indices)
        self._excess = self._variable("excess", _excess_of_value_one(model))
        self._unobs_weight = np.float32(config.unobs_weight)
        # The lambda of a user with 1, 2, ... items.
        self._regularization = self._variable(
            "regularization",
            scaled_regularization(config, np.arange(1, len(model.items) + 1), len(model.items)),
        )

    def save(self, folder: Path) -> None:
        """Write the SavedModel."""
        k = tf.TensorSpec(None, tf.int32, "k")
        users = tf.TensorSpec([None], tf.string, "user_ids")
        items = tf.TensorSpec([None], tf.string, "item_ids")
        histories = tf.TensorSpec([None, None], tf.string, "item_ids")
        signatures = {
            "recommend": tf.function(self._recommend, input_signature=[users, k]),
            "recommend_for_items": tf.function(self._recommend_for_items, input_signature=[histories, k]),
            "similar_items": tf.function(self._similar_items, input_signature=[items, k]),
        }
        signatures["serving_default"] = signatures["recommend"]
        tf.saved_model.save(self._module, str(folder), signatures)

    def _recommend(self, user_ids: Any, k: Any) -> Any:
        users = self._users.lookup(user_ids)
        known = users != _UNKNOWN
        rows = tf.maximum(users, 0)
        seen = tf.ragged.range(tf.gather(self._seen_indptr, rows), tf.gather(self._seen_indptr, rows + 1))
        seen_items = tf.cast(tf.gather(self._seen_indices, seen.flat_values), tf.int64)
        scores = self._scores(tf.gather(self._user_factors, rows))
        scores = _without(scores, seen.value_rowids(), seen_items)
        return self._best(scores, known, k)

    def _recommend_for_items(self, item_ids: Any, k: Any) -> Any:
        items = tf.sort(self._items.lookup(item_ids), axis=1)
        first = tf.concat([tf.ones_like(items[:, :1], tf.bool), items[:, 1:] != items[:, :-1]], axis=1)
        counted = first & (items != _UNKNOWN)
        places = tf.where(counted)
        scores = self._scores(self._fold_in(tf.maximum(items, 0), counted))
        scores = _without(scores, places[:, 0], tf.gather_nd(items, places))
        return self._best(scores, tf.reduce_any(counted, axis=1), k)

    def _similar_items(self, item_ids: Any, k: Any) -> Any:
        items = self._items.lookup(item_ids)
        rows = tf.maximum(items, 0)
        directions = tf.gather(self._item_factors, rows) * tf.gather(self._inverse_lengths, rows)[:, None]
        cosines = self._scores(directions) * self._inverse_lengths
        cosines = _without(cosines, tf.range(tf.size(rows, tf.int64)), rows)
        return self._best(cosines, items != _UNKNOWN, k)

    def _fold_in(self, items: Any, counted: Any) -> Any:
        """Solve (w0 V'V + sum_j e_j v_j v_j' + l I) u = sum_j (w0 + e_j) v_j for each row's counted items."""
        excess = tf.where(counted, tf.gather(self._excess, items), 0.0)
        weights = tf.where(counted, self._unobs_weight + excess, 0.0)
        factors = tf.gather(self._item_factors, items)
        counts = tf.math.count_nonzero(counted, axis=1)
        regularization = tf.gather(self._regularization, tf.maximum(counts - 1, 0))
        shared = self._unobs_weight * tf.matmul(self._item_factors, self._item_factors, transpose_a=True)
        systems = shared + tf.matmul(factors, excess[:, :, None] * factors, transpose_a=True)
        systems += regularization[:, None, None] * tf.eye(tf.shape(shared)[0])
        rights = tf.matmul(factors, weights[:, :, None], transpose_a=True)
        return tf.linalg.cholesky_solve(tf.linalg.cholesky(systems), rights)[:, :, 0]

    def _scores(self, queries: Any) -> Any:
        return tf.matmul(queries, self._item_factors, transpose_b=True)

    def _best(self, scores: Any, known: Any, k: Any) -> Any:
        """Return the ids and scores of the k best items of each row, none for unknown rows."""
        largest_k = tf.reduce_max(k)
        tf.debugging.assert_positive(largest_k, "k must be at least 1")
        best, items = tf.math.top_k(scores, tf.minimum(largest_k, tf.shape(scores)[1]))
        listed = known[:, None] & (best > float("-inf"))
        ids = tf.where(listed, tf.gather(self._item_ids, items), "")
        missing = [[0, 0], [0, largest_k - tf.shape(items)[1]]]
        return {
            "item_ids": tf.pad(ids, missing, constant_values=""),
            "scores": tf.pad(tf.where(listed, best, 0.0), missing),
        }

    def _variable(self, name: str, value: Any) -> Any:
        # An attribute of the module, so that it is saved.
        variable = tf.Variable(value, trainable=False, name=name)
        setattr(self._module, name, variable)
        return variable

    def _index(self, name: str, ids: Vocabulary, path: Path) -> Any:
        """Write a file with one id per line and return the table from ids to indices that reads it."""
        texts = _texts(ids)
        broken = pc.match_substring_regex(texts, "[\r\n]")
        if pc.any(broken).as_py():
            raise InputError(
                name,
                texts[pc.index(broken, True).as_py()].as_py(),
                "has a line break, which a SavedModel cannot store",
                "rename the id",
            )
        path.write_text("".join(f"{text}\n" for text in texts.to_pylist()), "utf-8", newline="\n")
        initializer = tf.lookup.TextFileInitializer(
            str(path),
            tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        )  # fmt: skip
        table = tf.lookup.StaticHashTable(initializer, _UNKNOWN)
        setattr(self._module, name, table)
        return table


def _texts(ids: Vocabulary) -> "pa.Array[Any]":
    return ids.ids.cast(pa.string())


def _excess_of_value_one(model: Model) -> NDArray[np.float32]:
    """Return e_j, the weight beyond w0 of an entry of value 1 in each item, for a user of weight 1."""
    _, item_weight = entry_weights(model.config, 1, model.item_counts)
    return item_weight + np.float32(value_weight(model.config))


def _without(scores: Any, rows: Any, items: Any) -> Any:
    places = tf.stack([rows, items], axis=1)
    return tf.tensor_scatter_nd_update(scores, places, tf.fill([tf.shape(places)[0]], float("-inf")))
