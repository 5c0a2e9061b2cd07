"""Files of torch.save: what is read from them, and what never is."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from plan_models import MIXED
from torch_bytes import TorchWriter, write_pickle, write_torch

from supertile.ir.errors import UserError
from supertile.targets.plan import torch_file
from supertile.targets.plan.load_files import read_loads
from supertile.targets.plan.torch_file import read_torch

LIMIT = 10_000_000
COUNTS = np.arange(24, dtype=np.int64).reshape(2, 3, 4)


def read(path: Path) -> Any:
    return read_torch(str(path), LIMIT)


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        read(path)
    return caught.value


def refused(tmp_path: Path, raw: bytes, data: list[bytes] | None = None) -> str:
    """What is told of a pickle that is not followed."""
    error = refusal(write_pickle(tmp_path / "f.pt", raw, data))
    assert error.code == "loads.torch_refused" and "weights_only=True" in error.suggestion
    return error.found


def broken(tmp_path: Path, raw: bytes, data: list[bytes] | None = None) -> str:
    error = refusal(write_pickle(tmp_path / "f.pt", raw, data))
    assert error.code == "loads.broken"
    return error.message


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"])
def test_a_recorders_dump_is_read_in_every_type_of_element(tmp_path, kind, order):
    dump = {
        "rank": 0,
        "logical_count": COUNTS.astype(kind),
        "average_utilization_rate_over_window": {10: 0.5, 100: None},
        "more": [True, False, (), "words", -1],
    }
    found = read(write_torch(tmp_path / "f.pt", dump, order))
    counts = found.pop("logical_count")
    np.testing.assert_array_equal(counts, dump.pop("logical_count"))
    assert counts.dtype == np.dtype(kind) and found == dump


def test_brain_floats_are_widened(tmp_path):
    writer = TorchWriter()
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    raw = writer.rebuilt("BFloat16Storage", 0, 2, 0, (2,), (1,))
    path = write_pickle(tmp_path / "f.pt", b"\x80\x02" + raw + b".", [bits.tobytes()])
    assert read(path).tolist() == [1.5, -2.0]


def test_views_of_one_storage(tmp_path):
    writer = TorchWriter()
    turned = writer.rebuilt("LongStorage", 0, 6, 0, (3, 2), (1, 3))
    part = writer.rebuilt("LongStorage", 0, 6, 4, (2,), (1,))
    raw = b"\x80\x02(" + turned + part + b"t."
    data = [np.arange(6, dtype=np.int64).tobytes()]
    first, second = read(write_pickle(tmp_path / "f.pt", raw, data))
    assert first.tolist() == [[0, 3], [1, 4], [2, 5]] and second.tolist() == [4, 5]


def test_protocol_four_is_followed_too(tmp_path):
    raw = pickle.dumps({"logical_count": [[1, 2], [3, 4]], "rank": 2**40}, protocol=4)
    found = read(write_pickle(tmp_path / "f.pt", raw))
    assert found == {"logical_count": [[1, 2], [3, 4]], "rank": 2**40}


class Harmful:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_in_a_pickle_is_ever_run(tmp_path, protocol):
    sign = tmp_path / "sign"
    raw = pickle.dumps({"logical_count": Harmful(sign)}, protocol=protocol)
    assert "io.open" in refused(tmp_path, raw) or protocol == 0
    assert not sign.exists()


def test_what_is_refused(tmp_path):
    def told(raw: bytes) -> str:
        return refused(tmp_path, b"\x80\x02" + raw)

    assert told(b"cos\nsystem\n.") == "os.system"
    assert told(b"ctorch._utils\n_rebuild_parameter\n.") == "torch._utils._rebuild_parameter"
    assert told(b"}(K\x01K\x02u}b.") == "the pickle instruction BUILD"
    assert told(b"ccollections\nOrderedDict\n(K\x01tR.") == "a call of collections.OrderedDict"
    assert told(b"ctorch\nLongStorage\n)R.") == "a call of torch.LongStorage"
    assert told(b"K\x01)R.") == "a call of something that is no import"
    assert told(b"K\x01Q.") == "a storage of another form"
    assert told(b"ctorch._utils\n_rebuild_tensor_v2\n)R.") == "a tensor of another form"
    assert told(b"K\x01(K\x02e.") == "items added to int"
    assert told(b"}(G" + b"\x00" * 8 + b"K\x02u.").startswith("a dictionary whose keys")


def test_lists_that_hold_themselves_are_read_and_are_no_tables(tmp_path):
    within = b"\x80\x02}" + b"X\x06\x00\x00\x00counts" + b"]q\x01h\x01as."
    path = write_pickle(tmp_path / "f.pt", within)
    counts = read(path)["counts"]
    assert counts[0] is counts
    with pytest.raises(UserError) as caught:
        read_loads(path, MIXED)
    assert caught.value.code == "loads.elements"


def test_what_is_damaged(tmp_path):
    def told(raw: bytes) -> str:
        return broken(tmp_path, b"\x80\x02" + raw)

    assert "data.pkl is damaged" in told(b"K\x01")
    assert "data.pkl is damaged" in told(b"h\x09.")
    assert "data.pkl is damaged" in told(b"t.")
    assert "data.pkl is damaged" in told(b"(\x85.")
    assert "data.pkl is damaged" in told(b"(q\x01.")
    assert "data.pkl is damaged" in told(b"X\xff\xff\xff\xff.")
    assert "data.pkl is damaged" in told(b"K\x01K\x02.")


def tensor(tmp_path: Path, *of: Any, size: int = 4) -> Path:
    raw = b"\x80\x02" + TorchWriter().rebuilt(*of) + b"."
    return write_pickle(tmp_path / "f.pt", raw, [bytes(8 * size)])


def test_tensors_stay_within_their_bytes(tmp_path):
    assert read(tensor(tmp_path, "LongStorage", 0, 4, 0, (2, 0), (1, 1))).shape == (2, 0)
    beyond = [(0, (5,), (1,)), (1, (4,), (1,)), (0, (2, 2), (3, 1)), (0, (2,), (2**31 - 1,))]
    for offset, shape, strides in beyond:
        error = refusal(tensor(tmp_path, "LongStorage", 0, 4, offset, shape, strides))
        assert "reaches beyond data/0" in error.message
    assert (
        "32 bytes for 5 elements"
        in refusal(tensor(tmp_path, "LongStorage", 0, 5, 0, (5,), (1,))).message
    )
    assert "no entry" in refusal(tensor(tmp_path, "LongStorage", 7, 4, 0, (4,), (1,))).message


def test_tensors_without_strides_are_no_bombs(tmp_path):
    shape = (2**20, 2**20)
    error = refusal(tensor(tmp_path, "LongStorage", 0, 4, 0, shape, (0, 0)))
    assert "too many elements" in error.found


def test_packed_entries_and_other_archives(tmp_path):
    packed = write_pickle(tmp_path / "f.pt", b"\x80\x02N.", packing=zipfile.ZIP_DEFLATED)
    assert "packed" in refusal(packed).message
    with zipfile.ZipFile(tmp_path / "g.pt", "w") as archive:
        archive.writestr("else", "nothing")
    assert "no data.pkl" in refusal(tmp_path / "g.pt").message
    assert (
        "byte order" in refusal(write_pickle(tmp_path / "h.pt", b"\x80\x02N.", order="?")).message
    )


def test_files_of_old_versions_are_refused_with_the_way_to_convert(tmp_path):
    (tmp_path / "f.pt").write_bytes(pickle.dumps({"logical_count": [[1]]}, protocol=2))
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.pt", MIXED)
    assert caught.value.code == "loads.torch_refused" and caught.value.found == "a bare pickle"


def test_long_pickles_end_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "STEP_LIMIT", 10)
    monkeypatch.setattr(torch_file, "PICKLE_LIMIT", 20)
    assert refused(tmp_path, b"\x80\x02" + b"N" * 11) == "more than 10 instructions"
    assert "data.pkl has 21 bytes" in broken(tmp_path, b"\x80\x02" + b"N" * 19)


GOOD = TorchWriter()
GOOD_PICKLE = GOOD.pickle({"rank": 0, "logical_count": COUNTS, "more": [1, 2.5, None]})


@pytest.mark.filterwarnings("ignore:invalid escape")  # of words that pickletools decodes
@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD_PICKLE) - 1), st.integers(0, 255)), min_size=1))
def test_changed_bytes_of_a_pickle_are_read_or_refused(folder, changes):
    raw = bytearray(GOOD_PICKLE)
    for position, byte in changes:
        raw[position] = byte
    path = folder / "f.pt"
    write_pickle(path, bytes(raw), GOOD.data)
    try:
        read_torch(str(path), LIMIT)
    except UserError as error:
        assert error.code in ("loads.torch_refused", "loads.broken")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_and_cut_archives_are_read_or_refused(folder, data):
    path = write_torch(folder / "f.pt", {"logical_count": COUNTS})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        read_loads(path, MIXED)
    except UserError as error:
        assert error.code.startswith("loads.")
