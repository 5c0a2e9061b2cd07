"""Tables of numbers in files of loads: nested lists to arrays, and loads of slots to experts'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.ir.json_text import JsonSource, Steps, show_json
from supertile.ir.placement import IDLE
from supertile.targets.plan.loads import ELEMENT_LIMIT

Array = NDArray[Any]
RANK_LIMIT = 4
FLOAT_BYTES = 8
LIST_LIMIT = 2**25  # numbers in nested lists, which take more room than arrays
MAPS = ("physical_to_logical_map", "last_physical_to_logical_map")


class Held(NamedTuple):
    """What a file holds: its values by key, and where they stand."""

    source: JsonSource
    values: Mapping[str, object]

    def array(self, *steps: str | int) -> Array:
        """The numbers at the steps."""
        value: Any = self.values
        for step in steps:
            value = value[step]
        return array_of(self.source, steps, value)


# ---- slots to experts


def map_key(held: Held, steps: Steps) -> str:
    for name in MAPS:
        if held.values.get(name) is not None:
            return name
    raise held.source.fail("loads.no_map", steps, expected=MAPS[0])


def summed(
    source: JsonSource, loads: Array, steps: Steps, slots: Array, experts: int, flat: bool = False
) -> Array:
    """[.., rows, E]: the loads [.., rows, P] of slots, added by the expert [rows, P] in each.

    `flat`: the map stands in the file as one list, not one a row.
    """
    if slots.dtype.kind not in "iuf" or slots.shape != loads.shape[-2:]:
        raise map_error(source, steps, list(loads.shape[-2:]), list(slots.shape))
    wrong = ~((slots >= IDLE) & (slots < experts) & (slots == np.floor(slots)))
    if wrong.any():
        at = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), slots.shape))
        steps = (*steps, *(at[1:] if flat else at))
        raise map_error(source, steps, f"an expert from 0 to {experts - 1}, or -1", slots[at])
    rows = len(slots)
    if loads[..., slots == IDLE].any():
        raise source.fail("loads.idle_load", steps)
    windows = loads.reshape(-1, rows * slots.shape[1]).astype(np.float64)
    if len(windows) * rows * experts > ELEMENT_LIMIT:
        raise source.fail("loads.elements", steps, limit=ELEMENT_LIMIT)
    held = np.where(slots == IDLE, 0, slots).astype(np.int64)
    keys = (held + experts * np.arange(rows)[:, None]).ravel()
    sums = [np.bincount(keys, window, rows * experts) for window in windows]
    return np.stack(sums).reshape(*loads.shape[:-1], experts)


def map_error(source: JsonSource, steps: Steps, expected: object, found: object) -> UserError:
    return source.fail("loads.map", steps, expected=expected, found=found)


# ---- nested lists to arrays


def array_of(source: JsonSource, steps: Steps, value: object) -> Array:
    """The numbers of an array or of nested lists, of lists of equal lengths each; as an array whose
    fractions are 64-bit floats.

    Errors: `loads.numbers` where something is no number, `loads.ragged`, `loads.elements`.
    """
    if isinstance(value, np.ndarray):
        if value.size > ELEMENT_LIMIT:
            raise source.fail("loads.elements", steps, limit=ELEMENT_LIMIT)
        if value.dtype.kind != "f":
            return value
        if value.dtype.itemsize > FLOAT_BYTES:
            raise source.fail("loads.numbers", steps, found=f"{value.dtype}")
        # Sums and limits of narrower floats overflow; every one of them is a 64-bit float, too.
        return value.astype(np.float64)
    shape: list[int] = []
    level: list[Any] = [value]
    while level and any(isinstance(item, list | tuple) for item in level):
        level = _next_level(source, steps, shape, level)
    numbers = {int, float}
    if not set(map(type, level)) <= numbers:
        index = next(i for i, item in enumerate(level) if type(item) not in numbers)
        raise source.fail(
            "loads.numbers", (*steps, *_at(shape, index)), found=show_json(level[index])
        )
    return np.array(level, np.float64).reshape(shape)


def _next_level(source: JsonSource, steps: Steps, shape: list[int], level: list[Any]) -> list[Any]:
    """The items of the lists of one level; their number is added to the shape."""
    lengths = [len(item) if isinstance(item, list | tuple) else -1 for item in level]
    if len(set(lengths)) > 1:
        index = next(i for i, length in enumerate(lengths) if length != lengths[0])
        expected, found = (
            f"a list of {length}" if length >= 0 else "a number"
            for length in (lengths[0], lengths[index])
        )
        where = (*steps, *_at(shape, index))
        raise source.fail("loads.ragged", where, expected=expected, found=found)
    if len(shape) == RANK_LIMIT or lengths[0] * len(level) > LIST_LIMIT:
        raise source.fail("loads.elements", steps, limit=LIST_LIMIT)
    shape.append(lengths[0])
    return list(chain.from_iterable(level))


def _at(shape: Sequence[int], index: int) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(index, shape)) if shape else ()
