"""Token files: what is read from the good ones. Bad ones: `tests/cli/test_bad_input.py`."""

import numpy as np
import pytest

from supertile.ir.errors import UserError
from supertile.runtime.tokens import check_vocabulary, read_tokens

# text -> rows
TEXTS = {
    "1 2 3": [[1, 2, 3]],
    "1 2 3\n4\n": [[1, 2, 3], [4]],
    "1, 2,3\n\n  4\t5 \r\n": [[1, 2, 3], [4, 5]],
    "\ufeff7 8": [[7, 8]],
    "007": [[7]],
}


@pytest.mark.parametrize("text, rows", TEXTS.items(), ids=map(repr, TEXTS))
def test_text(text, rows, tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text(text, encoding="utf-8")
    assert [row.tolist() for row in read_tokens(path)] == rows


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "uint64"])
def test_arrays(kind, tmp_path):
    ids = np.array([[1, 2, 3], [4, 5, 0]], kind)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "row.npy", ids[0])
    np.savez(tmp_path / "ids.npz", input_ids=ids, other=np.zeros(3))
    np.savez(tmp_path / "ragged.npz", input_ids=ids, lengths=np.array([3, 2], kind))
    for name, rows in {
        "ids.npy": [[1, 2, 3], [4, 5, 0]],
        "row.npy": [[1, 2, 3]],
        "ids.npz": [[1, 2, 3], [4, 5, 0]],
        "ragged.npz": [[1, 2, 3], [4, 5]],
    }.items():
        read = read_tokens(tmp_path / name)
        assert [row.tolist() for row in read] == rows
        assert all(row.dtype == np.int64 for row in read)


def test_a_word_is_pointed_at(tmp_path):
    path = tmp_path / "tokens.txt"
    path.write_text("1 12 1x2\n")
    with pytest.raises(UserError) as caught:
        read_tokens(path)
    spot = caught.value.spot
    assert (spot.line, spot.column, spot.text) == (1, 6, "1 12 1x2")


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("supertile.runtime.tokens.SIZE_LIMIT", 10)
    path = tmp_path / "tokens.txt"
    path.write_text("1 2 3 4 5 6 7 8")
    with pytest.raises(UserError, match="too large"):
        read_tokens(path)


def test_the_vocabulary():
    rows = [np.array([0, 1]), np.array([2, 9])]
    check_vocabulary(rows, 10)
    with pytest.raises(UserError, match="token 1 of sequence 1 is not in the vocabulary"):
        check_vocabulary(rows, 9)
    with pytest.raises(UserError, match="found: -1"):
        check_vocabulary([np.array([-1])], 9)


@pytest.mark.parametrize("name", ["tokens.npy", "tokens.npz"])
def test_no_advice_to_unpickle(name, tmp_path):
    """NumPy takes any bytes that it does not know for a pickle, and says how to load that."""
    path = tmp_path / name
    path.write_bytes(b"no array")
    with pytest.raises(UserError) as caught:
        read_tokens(path)
    assert "allow_pickle" not in str(caught.value)
    assert "neither the format .npy nor .npz" in str(caught.value)
