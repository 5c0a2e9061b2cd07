"""Files of loads, drawn: well-formed ones of every format are read exactly, the others are refused
by name; nothing warns."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings, strategies as st
from plan_models import MIXED, SPARSE
from safetensors.numpy import save_file
from torch_bytes import write_torch

from supertile.ir.errors import UserError
from supertile.targets.plan.load_files import SUFFIXES, read_loads
from supertile.targets.plan.loads import COUNT_LEAST, COUNT_LIMIT, Loads

TYPES = ("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "|u1", "<u4", "<u8", ">f8", ">i4", "<f16")
LEAST, MOST = float(COUNT_LEAST), float(COUNT_LIMIT)
EDGES = [0, 1, 3.5, 7, 65504.0, 6e-8, 5e-324, 1e-40, LEAST, MOST, MOST + 1, 2.0**60, 1e300]
WRONG = [-1, -0.5, math.inf, -math.inf, math.nan]
EXPERTS = 4


@st.composite
def arrays(draw: Any) -> np.ndarray:
    """Counts of the two layers of `MIXED`, of any type, some of them impossible."""
    windows = draw(st.sampled_from([(), (1,), (3,)]))
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    rows = draw(st.sampled_from([2, 2, 2, 4, 3, 0]))
    experts = draw(st.sampled_from([EXPERTS] * 5 + [3, 0]))
    values = st.sampled_from([0, 1, 5] * 4 + EDGES + WRONG) | st.integers(0, 2**64 - 1)
    size = math.prod((*windows, rows, experts))
    held = draw(st.lists(values, min_size=size, max_size=size))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dtype.kind == "f":
            return np.array(held, dtype).reshape(*windows, rows, experts)
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        whole = [max(least, min(most, int(one))) if math.isfinite(one) else 2 for one in held]
        return np.array(whole, dtype).reshape(*windows, rows, experts)


def is_good(counts: np.ndarray) -> bool:
    """By rules of its own: what the reader must take."""
    exact = counts.ravel().tolist()
    rows = counts.shape[-2]
    fits = counts.dtype.itemsize <= 8 and counts.shape[-1] == EXPERTS and rows in (2, 4)
    allowed = all(one == 0 or LEAST <= one <= 2**53 - 1 for one in exact)
    if not fits or not allowed or not any(exact):
        return False
    dense = counts[..., [0, 2], :] if rows == 4 else counts[..., :0, :]
    return not dense.any() and bool(counts[..., [1, 3] if rows == 4 else [0, 1], :].any())


def written(folder: Path, suffix: str, counts: np.ndarray) -> Path | None:
    """The counts in a file; None where no such file can hold them."""
    path = folder / f"counts{suffix}"
    if suffix == ".npz":
        np.savez(path, counts=counts)
    elif suffix == ".npy":
        np.save(path, counts)
    elif suffix == ".pt":
        if counts.dtype.str not in ("<f2", "<f4", "<f8", "<i2", "<i4", "<i8", "|u1"):
            return None
        write_torch(path, {"logical_count": counts})
    elif suffix == ".safetensors":
        if counts.dtype.str not in ("<f2", "<f4", "<i4", "<i8", "|u1"):
            return None
        save_file({"counts": np.ascontiguousarray(counts)}, path)
    elif counts.dtype.itemsize > 8:
        return None
    elif suffix == ".json":
        path.write_text(json.dumps({"counts": counts.tolist()}))
    elif counts.shape[-2] in (0, 3) or counts.shape[-1] != EXPERTS:
        return None  # a line is for one expert, whatever others there are
    else:
        lines = [
            f"{window},{layer},{expert},{count!r}"
            for window, table in enumerate(counts.reshape(-1, *counts.shape[-2:]).tolist())
            for layer, row in zip((1, 3) if len(table) == 2 else range(9), table, strict=False)
            for expert, count in enumerate(row)
        ]
        path.write_text("\n".join(["step,layer_id,expert_id,count", *lines]))
    return path


def read(path: Path, model: Any = MIXED) -> Loads | UserError:
    """The loads or the error of the file; whatever else is raised, or warned of, is a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            found = read_loads(path, model)
            assert np.isfinite(found.total).all() and found.total.any()
            return found
        except UserError as error:
            assert error.code.startswith("loads.") and str(path) in error.render()
            return error


@settings(max_examples=30)
@given(st.sampled_from(SUFFIXES), arrays())
def test_counts_are_read_exactly_or_refused(folder, suffix, counts):
    path = written(folder, suffix, counts)
    if path is None:
        return
    found = read(path)
    if isinstance(found, UserError):
        assert not is_good(counts), found.render()
        return
    assert is_good(counts)
    rows = counts[..., [1, 3], :] if counts.shape[-2] == 4 else counts
    assert found.counts.tolist() == rows.reshape(-1, 2, EXPERTS).tolist()


@settings(max_examples=30)
@given(
    st.sampled_from([".json", ".pt", ".npz", ".safetensors"]),
    st.lists(st.sampled_from(["0", "1", "2", "3", "01", "-1", "1_0", "2_1", "x"]), unique=True),
    st.integers(0, 3),
)
def test_keys_are_layers_or_iterations_and_layers_or_refused(folder, suffix, keys, drafts):
    """SPARSE has layers 0 to 2."""
    rows = {key: np.arange(EXPERTS, dtype=np.int64) + at for at, key in enumerate(keys)}
    path = folder / f"keys{suffix}"
    if suffix == ".json":
        path.write_text(json.dumps({key: row.tolist() for key, row in rows.items()}))
    elif suffix == ".pt":
        write_torch(path, rows)
    elif suffix == ".npz":
        np.savez(path, **rows)
    else:
        save_file(rows, path)
    found = read(path, SPARSE)
    layers = {"0": 0, "1": 1, "2": 2}
    steps = {"1_0": 0, "2_1": 1}
    known = next((names for names in (layers, steps) if keys and set(keys) <= set(names)), None)
    if known is None:
        assert isinstance(found, UserError)
        return
    assert isinstance(found, Loads)
    wanted = np.zeros((3, EXPERTS))
    for key in keys:
        wanted[known[key]] += rows[key]
    assert found.total.tolist() == wanted.tolist()


@settings(max_examples=30)
@given(st.sampled_from(SUFFIXES), st.data())
def test_changed_and_cut_files_are_read_or_refused(folder, suffix, data):
    counts = np.arange(8, dtype=np.int32).reshape(2, EXPERTS)
    path = written(folder, suffix, counts)
    assert path is not None
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.unlink()  # a map of the old file stays whole
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    read(path)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 9)), max_size=30),
    st.integers(1, 5),
)
def test_files_of_ranks_add_up_to_the_file_of_all(folder, lines, ranks):
    """However the tokens came to the ranks, the sum is that of all."""
    table = np.zeros((ranks, 3, EXPERTS), np.int64)
    for number, (layer, expert, count) in enumerate(lines):
        table[number % ranks, layer % 3, expert] += count
    files = []
    for rank, part in enumerate(table):
        files.append(folder / f"rank{rank}.csv")
        rows = [f"{layer},{e},{part[layer, e]}" for layer in range(3) for e in range(EXPERTS)]
        files[-1].write_text("\n".join(["layer,expert,count", *rows]))
    if not table.any():
        return
    found = read_loads(files, SPARSE)
    assert found.total.tolist() == table.sum(axis=0).tolist()
