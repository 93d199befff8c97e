from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from trainer.errors import InputError
from trainer.vocabulary import Vocabulary, load_vocabularies, save_vocabularies


def test_ids_are_unique_and_sorted_with_their_type() -> None:
    assert Vocabulary.of(np.array([30, -1, 30, 7], np.int16)).ids.to_pylist() == [-1, 7, 30]
    # By UTF-8 bytes, not by any language's alphabet.
    assert Vocabulary.of(["b", "ä", "B", "b"]).ids.to_pylist() == ["B", "b", "ä"]


def test_index_of_and_take_are_inverse() -> None:
    for ids, unknown in ((["u1", "u10", "u2"], "u3"), ([5, 17, 4_000_000_000_000], 6)):
        vocabulary = Vocabulary.of(ids)
        indices = vocabulary.index_of([*reversed(ids), unknown])
        assert indices.tolist() == [2, 1, 0, -1]
        assert vocabulary.take(indices[:-1]) == ids[::-1]


def test_parse_gives_the_type_of_the_ids() -> None:
    assert Vocabulary.of([1]).parse("12") == 12
    assert Vocabulary.of(["1"]).parse("12") == "12"
    with pytest.raises(InputError, match="id 'x': is not an integer"):
        Vocabulary.of([1]).parse("x")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (pa.array([1, 3, 2]), "ids 2: is not above"),
        (pa.array(["a", "a"]), "ids 'a': is not above"),
        (pa.array([1, None]), "is not an id"),
        (pa.array([1.5]), "neither int64 nor string"),
    ],
)
def test_unusable_ids_are_refused(ids: pa.Array, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Vocabulary(ids)


def test_ids_of_another_type_are_refused() -> None:
    with pytest.raises(InputError, match="are not of type int64"):
        Vocabulary.of([1]).index_of(["a"])


def test_ids_given_as_text_are_found_in_their_usual_form() -> None:
    texts = pa.array(["-7", "7", "07", "7.0", "x", "99999999999999999999", "-7"])
    assert Vocabulary.of([7, -7]).index_of_texts(texts).tolist() == [0, 1, -1, -1, -1, -1, 0]
    assert Vocabulary.of(["7", "07"]).index_of_texts(texts).tolist() == [-1, 1, 0, -1, -1, -1, -1]
    assert Vocabulary.of([7]).index_of_texts(texts[:0]).tolist() == []


def test_artifact_round_trip(tmp_path: Path) -> None:
    save_vocabularies(tmp_path, Vocabulary.of(["a", "b"]), Vocabulary.of([3, 1]))
    users, items = load_vocabularies(tmp_path)
    assert (users.ids.to_pylist(), items.ids.to_pylist()) == (["a", "b"], [1, 3])
    (tmp_path / "items.parquet").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"items\.parquet"):
        load_vocabularies(tmp_path)
