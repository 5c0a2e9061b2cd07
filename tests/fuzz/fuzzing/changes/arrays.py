"""Changes of arrays by name: other shapes, types and values, and names that are not there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fuzzing.changes import odd

Array = NDArray[Any]
Arrays = dict[str, Array]

DTYPES = (
    "f2", "f4", "f8", "g", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?", ">f4", ">i8",
    "c8", "S3", "U3", "M8[s]",
)  # fmt: skip
SHAPES: tuple[tuple[int, ...], ...] = (
    (), (0,), (1,), (3,), (1, 1), (0, 3), (3, 0), (2, 3), (1, 2, 3), (1, 0, 2), (1,) * 9,
)  # fmt: skip
VALUES = (0, 1, -1, 127, 2**31, 1e-320, 65504, 1e30, 1e308, np.nan, np.inf, -np.inf)


def changed(arrays: Arrays, random: Random) -> Arrays:
    """The arrays with one or two changes."""
    arrays = dict(arrays)
    with warnings.catch_warnings():
        # What is lost when faults are made is meant to be; readers must not lose it.
        warnings.simplefilter("ignore")
        for _ in range(random.choice([1, 1, 2])):
            name = random.choice(sorted(arrays)) if arrays else "x"
            random.choice(CHANGES)(arrays, name, random)
    return arrays


def _drop(arrays: Arrays, name: str, random: Random) -> None:
    arrays.pop(name, None)


def _rename(arrays: Arrays, name: str, random: Random) -> None:
    # A zip file takes no names with zeros, and a name may end where it should not.
    new = random.choice([name + "s", name[:-1], odd.text(random)]).replace("\0", "_")
    if name in arrays:
        arrays[new.encode("utf-8", "replace").decode()[:100] or "x"] = arrays.pop(name)


def _retype(arrays: Arrays, name: str, random: Random) -> None:
    with np.errstate(all="ignore"):
        held = np.asarray(arrays.get(name, np.ones(3)))
        try:
            arrays[name] = held.astype(random.choice(DTYPES))
        except (TypeError, ValueError, RuntimeError):  # dates are no floats, and no short texts
            arrays[name] = held.astype("S40")


def _reshape(arrays: Arrays, name: str, random: Random) -> None:
    held = np.asarray(arrays.get(name, np.ones(3)))
    shapes = [held.T, held[None], held[..., None], held.reshape(-1)]
    if held.ndim:
        shapes += [held[:0], held[::-1], held[:-1], np.concatenate([held, held])]
    arrays[name] = random.choice([*shapes, np.zeros(random.choice(SHAPES), held.dtype)])


def _values(arrays: Arrays, name: str, random: Random) -> None:
    held = np.array(arrays.get(name, np.ones(3)))
    new = random.choice(VALUES)
    with np.errstate(all="ignore"):
        if held.dtype.kind in "iu?":
            new = int(np.clip(np.nan_to_num(new), -(2**62), 2**62))
            held = held.astype(np.int64)
        elif held.dtype.kind not in "fc":
            return
        if random.random() < 0.5 and held.size:
            held.reshape(-1)[random.randrange(held.size)] = new
        else:
            held = held * 0 + np.asarray(new, held.dtype)
    arrays[name] = held


def _scale(arrays: Arrays, name: str, random: Random) -> None:
    with np.errstate(all="ignore"):
        held = np.asarray(arrays.get(name, np.ones(3)))
        if held.dtype.kind in "iuf":
            factor = np.asarray(random.choice(odd.FACTORS), np.float64)  # -1 is no uint8
            arrays[name] = (held * factor).astype(held.dtype)


def _more(arrays: Arrays, name: str, random: Random) -> None:
    new = random.choice(["pairs", "layers", "rank", "lengths", "counts", "x", "tokens", "ids"])
    arrays[new] = np.zeros(random.choice(SHAPES)) + random.choice(VALUES)


CHANGES: tuple[Callable[[Arrays, str, Random], None], ...] = (
    _drop, _rename, _retype, _retype, _reshape, _reshape, _values, _values, _scale, _more,
)  # fmt: skip
