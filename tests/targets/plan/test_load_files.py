"""Files of expert loads by example: what each form means, and which error each wrong one gets."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from plan_models import MIXED, SPARSE
from torch_bytes import write_torch

from supertile.ir.errors import UserError
from supertile.runtime import zip_file
from supertile.targets.plan import load_arrays, load_files, load_tables
from supertile.targets.plan.load_files import read_loads
from supertile.targets.plan.loads import Loads

COUNTS = [[1, 2, 3, 4], [5, 6, 7, 8]]
FULL = [[0] * 4, COUNTS[0], [0] * 4, COUNTS[1]]
"""With the rows of the dense layers of `MIXED`."""
SLOTS = [[0, 1, 2, 3, 0, -1], [3, 2, 1, 0, 3, 3]]


def loads(tmp_path: Path, value: Any, model: Any = MIXED) -> Loads:
    """What JSON means, or text if the value is one."""
    path = tmp_path / ("f.csv" if isinstance(value, str) else "f.json")
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_loads(path, model)


def error(tmp_path: Path, value: Any, model: Any = MIXED) -> UserError:
    with pytest.raises(UserError) as caught:
        loads(tmp_path, value, model)
    return caught.value


# ---- what files mean


@pytest.mark.parametrize("rows", [COUNTS, FULL])
@pytest.mark.parametrize("key", ["logical_count", "counts"])
def test_counts_of_one_window_and_of_several(tmp_path, rows, key):
    one = loads(tmp_path, {key: rows, "rank": 0})
    assert one.counts.tolist() == [COUNTS] and one.layers == (1, 3) and one.windows == 1
    assert one.pairs is None and one.notes == () and one.source.endswith("f.json")
    two = loads(tmp_path, {key: [rows, rows]})
    assert two.counts.tolist() == [COUNTS, COUNTS] and two.windows == 2
    np.testing.assert_array_equal(two.total, 2 * one.total)


def test_bare_counts(tmp_path):
    assert loads(tmp_path, COUNTS).counts.tolist() == [COUNTS]


def test_all_containers_say_the_same(tmp_path):
    counts = np.array([FULL, FULL], np.int32)
    np.savez(tmp_path / "f.npz", logical_count=counts)
    np.savez_compressed(tmp_path / "g.npz", counts=np.asfortranarray(counts.astype(float)))
    write_torch(tmp_path / "f.pt", {"rank": 0, "logical_count": counts})
    for name in ("f.npz", "g.npz", "f.pt"):
        found = read_loads(tmp_path / name, MIXED)
        assert found.counts.tolist() == [COUNTS, COUNTS] and found.counts.dtype == np.float64


def test_rows_named_by_their_layers(tmp_path):
    found = loads(tmp_path, {"counts": COUNTS[::-1], "layers": [3, 1]})
    assert found.counts.tolist() == [COUNTS]
    part = loads(tmp_path, {"counts": [COUNTS[1]], "layers": [3]})
    assert part.counts.tolist() == [[[0] * 4, COUNTS[1]]]
    assert part.notes == (f"layer 1: no counts in {tmp_path / 'f.json'}",)


def test_pairs_of_experts(tmp_path):
    pairs = np.ones((2, 4, 4))
    np.savez(tmp_path / "f.npz", counts=np.array(COUNTS), pairs=pairs)
    found = read_loads(tmp_path / "f.npz", MIXED)
    assert found.pairs is not None and found.pairs.shape == (2, 4, 4)
    assert (found.pairs == 1 - np.eye(4)).all()


def test_loads_of_slots_are_added_by_expert(tmp_path):
    slots = [[1, 2, 3, 4, 5, 0], [1, 2, 3, 4, 5, 6]]
    summed = [[1 + 5, 2, 3, 4], [4, 3, 2, 1 + 5 + 6]]
    for key in ("expert_load_pass", "physical_count"):
        found = loads(tmp_path, {key: slots, "physical_to_logical_map": SLOTS})
        assert found.counts.tolist() == [summed]
    window = {"expert_load_window": [slots, slots], "physical_to_logical_map": SLOTS}
    assert loads(tmp_path, window).counts.tolist() == [summed, summed]


def test_records_of_single_passes(tmp_path):
    full = np.array([[0] * 6, [1, 2, 3, 4, 5, 0], [0] * 6, [1, 2, 3, 4, 5, 6]], np.int32)
    maps = np.array([SLOTS[1], SLOTS[0], SLOTS[1], SLOTS[1]])
    record = {"forward_pass_id": 1, "rank": 2, "global_physical_count": full}
    dump = {"records": [record, dict(record)], "last_physical_to_logical_map": maps}
    found = read_loads(write_torch(tmp_path / "f.pt", dump), MIXED)
    assert found.counts.tolist() == [[[6, 2, 3, 4], [4, 3, 2, 12]]] * 2
    assert found.notes == (f"{tmp_path / 'f.pt'} has the counts of rank 2 alone",)


def test_choices_of_tokens_give_pairs_of_experts(tmp_path):
    slots = np.array([[0, 1, 2, 3, 0, -1]] * 2)
    first = np.array([[[0, 1, -1], [4, 2, 3]], [[5, 1, 0], [-1, -1, -1]]], np.int32)
    record = {"rank": 0, "global_physical_count": np.ones((2, 6), np.int32) * (slots >= 0)}
    records = [{**record, "topk_ids_of_layer": first}, record]
    records.append({**record, "topk_ids_of_layer": first[:, :1]})
    dump = {"records": records, "last_physical_to_logical_map": slots}
    pairs = read_loads(write_torch(tmp_path / "f.pt", dump), MIXED).pairs
    one = [[0, 2, 1, 1], [2, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0]]
    assert pairs is not None and pairs.tolist() == [
        one,
        [[0, 2, 0, 0], [2, 0, 0, 0], [0] * 4, [0] * 4],
    ]
    first[0, 0, 0] = 6
    with pytest.raises(UserError) as caught:
        read_loads(write_torch(tmp_path / "f.pt", dump), MIXED)
    assert "`records[0].topk_ids_of_layer`" in caught.value.message


def ascend(key: str = "device_expert_load") -> Any:
    devices = [{"device_id": 0, "device_expert": [0, 1, 2], key: [1, 2, 3]}]
    devices.append({"device_id": 1, "device_expert": [3, 0], key: [4, 5]})
    layers = [{"layer_id": i, "device_count": 2, "device_list": devices} for i in range(2)]
    return {"moe_layer_count": 2, "layer_list": layers}


@pytest.mark.parametrize("key", load_tables.DEVICE_LOADS)
def test_loads_of_devices(tmp_path, key):
    assert loads(tmp_path, ascend(key)).counts.tolist() == [[[6, 2, 3, 4]] * 2]


def test_tables_of_policies(tmp_path):
    held = {"workload_table": [[[1, 2], [3, 4], [5, -1]]] * 2}
    held["placement_table"] = [[[0, 1], [2, 3], [0, -1]]] * 2
    assert loads(tmp_path, held).counts.tolist() == [[[6, 2, 3, 4]] * 2]


def test_comma_separated_text(tmp_path):
    text = "layer,expert,count\n1,0,5\n1,3,2.5\n\n3,1,1e2\n"
    assert loads(tmp_path, text).counts.tolist() == [[[5, 0, 0, 2.5], [0, 100, 0, 0]]]
    text = " Count , step,Expert,LAYER\r\n5,20,0,1\r\n6,10,0,1\r\n"
    assert loads(tmp_path, text).counts[:, 0, 0].tolist() == [6, 5]


# ---- which error wrong files get

WRONG: dict[str, tuple[Any, str, str]] = {
    "another key": ({"logical_counts": COUNTS}, "loads.keys", "did you mean logical_count?"),
    "no keys": ({}, "loads.keys", "found: no keys"),
    "a word": ({"counts": [[1, 2, "3", 4], COUNTS[1]]}, "loads.numbers", "`counts[0][2]`"),
    "a flag": ({"counts": [COUNTS[0], [1, 2, 3, True]]}, "loads.numbers", "`counts[1][3]`"),
    "nothing": ({"counts": None}, "loads.numbers", "found: null"),
    "ragged": ({"counts": [COUNTS[0], [1, 2, 3]]}, "loads.ragged", "`counts[1]`"),
    "half a list": ({"counts": [COUNTS[0], 3]}, "loads.ragged", "found: a number"),
    "one axis": ({"counts": COUNTS[0]}, "loads.rank", "[layers][experts]"),
    "empty": ({"counts": []}, "loads.rank", "found: [0]"),
    "nested": ({"counts": [[[[[1]]]]]}, "loads.elements", "nested too deeply"),
    "rows": ({"counts": COUNTS * 3}, "loads.rows", "found: 6 rows"),
    "experts": ({"counts": [[1, 2]] * 2}, "loads.experts", "expected: 4 experts"),
    "negative": ({"counts": [COUNTS[0], [1, -2, 3, 4]]}, "loads.value", "`counts[1][1]`"),
    "huge": ({"counts": [COUNTS[0], [1, 1e30, 3, 4]]}, "loads.value", "found: 1e+30"),
    "dense": ({"counts": COUNTS * 2}, "loads.dense_rows", "found: counts in layer 0"),
    "zeros": ({"counts": [[0] * 4] * 2}, "loads.no_counts", "counts no token"),
    "layers": ({"counts": COUNTS, "layers": [1, 4]}, "loads.layers", "found: layer 4"),
    "dense layer": ({"counts": COUNTS, "layers": [1, 2]}, "loads.dense_rows", "in layer 2"),
    "layer twice": ({"counts": COUNTS, "layers": [1, 1]}, "loads.layers", "layer 1 again"),
    "layer half": ({"counts": COUNTS, "layers": [1, 2.5]}, "loads.layers", "layer 2.5"),
    "few layers": ({"counts": COUNTS, "layers": [1]}, "loads.layers", "found: 1 numbers"),
    "pairs": ({"counts": COUNTS, "pairs": [[1]]}, "loads.pairs", "numbers [2, 4, 4]"),
    "no map": ({"expert_load_pass": COUNTS}, "loads.no_map", "physical_to_logical_map"),
    "map": (
        {"expert_load_pass": COUNTS, "physical_to_logical_map": [[0, 1, 2, 9]] * 2},
        "loads.map",
        "`physical_to_logical_map[0][3]`",
    ),
    "short map": (
        {"expert_load_pass": COUNTS, "physical_to_logical_map": [[0, 1, 2, 3]]},
        "loads.map",
        "found: [1, 4]",
    ),
    "idle load": (
        {"expert_load_pass": COUNTS, "physical_to_logical_map": [[0, 1, 2, -1]] * 2},
        "loads.idle_load",
        "no expert has tokens",
    ),
    "no records": ({"records": []}, "loads.records", "`records`"),
    "records": (
        {"records": [{"rank": 0}], "last_physical_to_logical_map": SLOTS},
        "loads.records",
        "`records[0]`",
    ),
    "devices": ({"layer_list": [{"layer_id": 0}]}, "loads.devices", "`layer_list[0]`"),
    "layer order": ({"layer_list": [{"layer_id": 4}]}, "loads.devices", "`layer_list[0]`"),
    "no device loads": (ascend("hot"), "loads.devices", "device_id, device_expert, hot"),
    "device load": (
        {"layer_list": [{"device_list": [{"device_expert": [0], "device_expert_load": [-1]}]}]},
        "loads.value",
        "`layer_list[0].device_list[0].device_expert_load[0]`",
    ),
    "device expert": (
        {"layer_list": [{"device_list": [{"device_expert": [4], "device_expert_load": [1]}]}]},
        "loads.map",
        "`layer_list[0].device_list[0].device_expert[0]`",
    ),
    "policy": ({"workload_table": COUNTS}, "loads.no_map", "placement_table"),
    "header": ("a,b\n1,2\n", "loads.header", "layer, expert, count"),
    "near header": ("layers,expert,count\n1,2,3", "loads.header", "did you mean layer?"),
    "column twice": ("layer,layer\n1,2", "loads.header", "name a column once"),
    "column lacking": ("layer,expert\n1,2", "loads.header", "add a column count"),
    "no lines": ("layer,expert,count\n", "loads.lines", "nothing stands below"),
    "width": ("layer,expert,count\n1,2\n", "loads.width", "found: 2"),
    "cell": ("layer,expert,count\n1,x,3\n", "loads.cell", ":2:3: error: this is no expert"),
    "long cell": (f"layer,expert,count\n1,{'0' * 11}{'9' * 30},3\n", "loads.cell", "whole number"),
    "far layer": ("layer,expert,count\n2,0,3\n", "loads.cell", "found: 2"),
    "far expert": ("layer,expert,count\n1,4,3\n", "loads.cell", "0 to 3"),
    "count": ("layer,expert,count\n1,0, nan\n", "loads.cell", ":2:6: error: this is no count"),
    "minus": ("layer,expert,count\n1,0,-1\n", "loads.cell", "found: -1"),
    "infinite": ("layer,expert,count\n1,0,inf\n", "loads.cell", "found: inf"),
    "line twice": ("layer,expert,count\n1,0,1\n1,1,1\n1,0,1\n", "loads.twice", ":4:1:"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_tables_by_example(tmp_path, case):
    value, code, told = WRONG[case]
    found = error(tmp_path, value)
    assert found.code == code and told in found.render()


def test_places_in_json(tmp_path):
    path = tmp_path / "f.json"
    path.write_text('{\n "counts": [[1, 2, 3, 4],\n  [5, -6, 7, 8]]}')
    with pytest.raises(UserError) as caught:
        read_loads(path, MIXED)
    assert f"{path}:3:7: error: `counts[1][1]` in" in caught.value.render()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_numbers_that_count_nothing(tmp_path, value):
    counts = np.array(COUNTS, float)
    counts[1, 2] = value
    np.savez(tmp_path / "f.npz", counts=counts)
    write_torch(tmp_path / "f.pt", {"logical_count": counts})
    for name in ("f.npz", "f.pt"):
        with pytest.raises(UserError) as caught:
            read_loads(tmp_path / name, MIXED)
        assert caught.value.code == "loads.value" and "[1][2]" in caught.value.message


def test_pairs_must_be_symmetric(tmp_path):
    pairs = np.zeros((2, 4, 4))
    pairs[1, 0, 2] = 3
    np.savez(tmp_path / "f.npz", counts=np.array(COUNTS), pairs=pairs)
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert caught.value.code == "loads.pairs" and "pairs[1][0][2]" in caught.value.message


FILES: dict[str, tuple[str, bytes, str]] = {
    "suffix": ("f.jsn", b"[]", "loads.suffix"),
    "empty json": ("f.json", b"", "loads.empty"),
    "empty archive": ("f.npz", b"", "loads.empty"),
    "no text": ("f.csv", b"\xff\xfe", "loads.encoding"),
    "cut json": ("f.json", b'{"counts": [[1, 2', "loads.syntax"),
    "not a number": ("f.json", b'{"counts": [[NaN]]}', "loads.constant"),
    "endless number": ("f.json", b'{"counts": [[1e999]]}', "loads.constant"),
    "long number": ("f.json", b"[" + b"9" * 5000 + b"]", "loads.constant"),
    "twice": ("f.json", b'{"counts": 1, "counts": 2}', "loads.duplicate"),
    "deep": ("f.json", b"[" * 100_000, "loads.nested"),
    "no archive": ("f.npz", b"PK, but no more", "loads.broken"),
    "cut archive": ("f.pt", b"PK\x03\x04" + bytes(50), "loads.broken"),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_by_example(tmp_path, case):
    name, raw, code = FILES[case]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / name, MIXED)
    assert caught.value.code == code


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.npz").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    codes = {"absent.pt": "absent", "absent.csv": "absent", "folder.npz": "folder"}
    for name, code in {**codes, "pipe.json": "special_file", "\0.npz": "unreadable"}.items():
        with pytest.raises(UserError) as caught:
            read_loads(tmp_path / name, MIXED)
        assert caught.value.code == f"loads.{code}"


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


ARRAYS = {
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
    "huge": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2**40,), }"),
    "bomb": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1099511627776,), }"),
    "negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }", bytes(8)),
    "fields": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
    "call": npy("{'descr': exit(), 'fortran_order': False, 'shape': (1,), }", bytes(8)),
    "deep": npy("(" * 5000),
    "short": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }", bytes(8)),
    "no header": b"\x93NUM",
    "version": b"\x93NUMPY\x09\x00" + bytes(100),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_wrong_arrays_by_example(tmp_path, case):
    with zipfile.ZipFile(tmp_path / "f.npz", "w") as archive:
        archive.writestr("counts.npy", ARRAYS[case])
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert caught.value.code == "loads.broken"


def test_archives_are_unpacked_within_limits(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "f.npz", counts=np.zeros((1000, 2, 4)))
    assert (tmp_path / "f.npz").stat().st_size < 2000
    monkeypatch.setattr(load_files, "ARCHIVE_LIMIT", 10_000)
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert "too large" in caught.value.message
    monkeypatch.setattr(load_files, "ARCHIVE_LIMIT", 100)
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert caught.value.code == "loads.huge"
    monkeypatch.setattr(zip_file, "ENTRY_LIMIT", 0)
    monkeypatch.setattr(load_files, "ARCHIVE_LIMIT", 10_000)
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert "too many entries" in caught.value.message


def test_tables_within_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(load_tables, "ELEMENT_LIMIT", 7)
    monkeypatch.setattr(load_arrays, "ELEMENT_LIMIT", 7)
    monkeypatch.setattr(load_arrays, "LIST_LIMIT", 7)
    for value in ({"counts": COUNTS}, ascend()):
        assert error(tmp_path, value).code == "loads.elements"
    np.savez(tmp_path / "f.npz", counts=np.array(COUNTS))
    with pytest.raises(UserError) as caught:
        read_loads(tmp_path / "f.npz", MIXED)
    assert caught.value.code == "loads.elements"


def archive_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, counts=np.array(COUNTS), layers=np.array([1, 3]))
    return stream.getvalue()


GOOD = {
    "f.json": json.dumps({"counts": COUNTS, "layers": [1, 3]}).encode(),
    "g.json": json.dumps(ascend()).encode(),
    "f.csv": b"layer,expert,count,step\n1,0,5,1\n3,2,7.5,2\n",
    "f.npz": archive_bytes(),
}


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_changed_and_cut_files_are_read_or_refused(folder, name, data):
    raw = bytearray(GOOD[name])
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = folder / name
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        found = read_loads(path, MIXED)
    except UserError as error:
        assert error.code.startswith("loads.") and str(path) in error.render()
    else:
        assert found.counts.shape[1:] == (2, 4) and (found.counts >= 0).all()


def test_a_model_of_experts_alone_needs_no_other_rows(tmp_path):
    found = loads(tmp_path, {"logical_count": [COUNTS[0]] * 3}, SPARSE)
    assert found.layers == (0, 1, 2)
    assert "or 4 with rows" not in error(tmp_path, {"counts": COUNTS * 3}, SPARSE).expected
