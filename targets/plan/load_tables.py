"""Which tables of expert counts a file holds, told by their keys.

- `logical_count` [rows, E] or [steps, rows, E]: SGLang's recorder
- `counts` in the same shapes, with optional `layers` and `pairs`: this project
- `expert_load_window`, `expert_load_pass` or `physical_count` [.., rows, P], with
  `physical_to_logical_map` [rows, P]: counts of slots
- `records` of `global_physical_count` [rows, P], with `last_physical_to_logical_map`: SGLang's
  recorder of single passes
- `layer_list` of `device_list` of `device_expert`, loads beside it: the form of vllm-ascend's maps
- `workload_table` and `placement_table` [rows, devices, slots]: vllm-ascend's policies

Counts of slots become counts of experts: the replicas of an expert are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError, nearest
from supertile.ir.json_text import JsonSource, Steps, show_json
from supertile.ir.placement import IDLE
from supertile.targets.plan.loads import ELEMENT_LIMIT, Table, check_rank, check_values
from supertile.targets.plan.model import ExpertLayers

Array = NDArray[Any]
RANK_LIMIT = 4
LIST_LIMIT = 2**25  # numbers in nested lists, which take more room than arrays

LOGICAL = ("logical_count", "counts")
PHYSICAL = ("expert_load_window", "expert_load_pass", "physical_count")
MAPS = ("physical_to_logical_map", "last_physical_to_logical_map")
DEVICE_LOADS = (
    "device_expert_load",
    "device_expert_loads",
    "device_expert_hotness",
    "device_expert_heat",
)


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


def table_of(source: JsonSource, value: object, model: ExpertLayers) -> Table:
    """The table of a file's value: an object with known keys, or the bare counts."""
    if not isinstance(value, Mapping):
        return Table(source, (), array_of(source, (), value))
    held = Held(source, value)
    for keys, read in FORMS:
        found = [key for key in keys if key in value]
        if found:
            return read(held, found[0], model)
    known = [key for keys, _ in FORMS for key in keys]
    names = [str(key) for key in value]
    hints = (nearest(name, known) for name in names)
    found_text = ", ".join(name[:40] for name in names[:8]) or "no keys"
    hint = next(filter(None, hints), "")
    expected = ", ".join(known)
    raise UserError("loads.keys", file=source.file, expected=expected, found=found_text, hint=hint)


# ---- one function a form


def _logical(held: Held, key: str, model: ExpertLayers) -> Table:
    layers = None
    if "layers" in held.values and key == "counts":
        numbers = held.array("layers")
        check_rank(held.source, ("layers",), numbers, (1,))
        layers = numbers.tolist()
    pairs = held.array("pairs") if held.values.get("pairs") is not None else None
    return Table(held.source, (key,), held.array(key), layers, pairs)


def _physical(held: Held, key: str, model: ExpertLayers) -> Table:
    loads = held.array(key)
    check_rank(held.source, (key,), loads, (2, 3))
    check_values(held.source, (key,), loads)
    name = _map_key(held, (key,))
    logical = _summed(held.source, loads, (name,), held.array(name), model.experts)
    return Table(held.source, (key,), logical)


def _records(held: Held, key: str, model: ExpertLayers) -> Table:
    """One window a record: a forward pass, as one rank counted it."""
    records = held.values[key]
    if not isinstance(records, list) or not records:
        raise held.source.fail("loads.records", (key,), found=show_json(records))
    name = _map_key(held, (key,))
    slots = held.array(name)
    check_rank(held.source, (name,), slots, (2,))
    windows = []
    for index, record in enumerate(records):
        steps: Steps = (key, index)
        if not isinstance(record, Mapping) or "global_physical_count" not in record:
            raise held.source.fail("loads.records", steps, found=show_json(record))
        steps = (*steps, "global_physical_count")
        loads = held.array(*steps)
        check_rank(held.source, steps, loads, (2,))
        check_values(held.source, steps, loads)
        if len(records) * loads.shape[0] * model.experts > ELEMENT_LIMIT:
            raise held.source.fail("loads.elements", (key,), limit=ELEMENT_LIMIT)
        windows.append(_summed(held.source, loads, (name,), slots, model.experts))
    shapes = {window.shape for window in windows}
    if len(shapes) > 1:
        raise held.source.fail("loads.records", (key,), found="records of several shapes")
    ranks = sorted({str(record.get("rank", "?")) for record in records})
    note = f"{held.source.file} has the counts of rank {', '.join(ranks[:8])} alone"
    return Table(held.source, (key,), np.stack(windows), notes=(note,))


def _devices(held: Held, key: str, model: ExpertLayers) -> Table:
    """vllm-ascend's map of experts, with the load of each slot beside it; one window."""
    layers = held.values[key]
    if not isinstance(layers, list) or not layers:
        raise held.source.fail("loads.devices", (key,), found=show_json(layers))
    if len(layers) * model.experts > ELEMENT_LIMIT:
        raise held.source.fail("loads.elements", (key,), limit=ELEMENT_LIMIT)
    counts = np.zeros((len(layers), model.experts))
    for index, layer in enumerate(layers):
        steps = (key, index)
        if not isinstance(layer, Mapping) or layer.get("layer_id", index) != index:
            raise held.source.fail("loads.devices", steps, found=show_json(layer))
        devices = layer.get("device_list")
        if not isinstance(devices, list) or not devices:
            raise held.source.fail("loads.devices", steps, found=show_json(devices))
        for place, device in enumerate(devices):
            where = (*steps, "device_list", place)
            counts[index] += _device(held, where, device, model.experts)
    return Table(held.source, (key,), counts)


def _device(held: Held, steps: Steps, device: object, experts: int) -> Array:
    """[E]: the loads of the experts in the slots of one device."""
    keys = [key for key in DEVICE_LOADS if isinstance(device, Mapping) and key in device]
    if not isinstance(device, Mapping) or "device_expert" not in device or not keys:
        found = ", ".join(map(str, device)) if isinstance(device, Mapping) else show_json(device)
        raise held.source.fail("loads.devices", steps, found=found[:200])
    where = {key: (*steps, key) for key in ("device_expert", keys[0])}
    ids, loads = (held.array(*at)[None] for at in where.values())
    check_rank(held.source, where[keys[0]], loads, (2,))
    check_values(held.source, where[keys[0]], loads)
    summed: Array = _summed(held.source, loads, where["device_expert"], ids, experts, True)[0]
    return summed


def _workload(held: Held, key: str, model: ExpertLayers) -> Table:
    loads = held.array(key)
    loads = np.where(loads == -1, 0, loads)  # -1: nothing was collected
    if "placement_table" not in held.values:
        raise held.source.fail("loads.no_map", (key,), expected="placement_table")
    slots = held.array("placement_table")
    if loads.ndim != 3 or 0 in loads.shape:
        raise held.source.fail(
            "loads.rank", (key,), expected="[layers][devices][slots]", found=list(loads.shape)
        )
    check_values(held.source, (key,), loads)
    if loads.shape != slots.shape:
        raise _map_error(held.source, ("placement_table",), list(loads.shape), list(slots.shape))
    rows = len(loads)
    logical = _summed(
        held.source,
        loads.reshape(rows, -1),
        ("placement_table",),
        slots.reshape(rows, -1),
        model.experts,
    )
    return Table(held.source, (key,), logical)


FORMS: tuple[tuple[Sequence[str], Callable[[Held, str, ExpertLayers], Table]], ...] = (
    (LOGICAL, _logical),
    (PHYSICAL, _physical),
    (("records",), _records),
    (("layer_list",), _devices),
    (("workload_table",), _workload),
)
"""Keys that a form is known by, the first that a file has; a file may have further keys."""


# ---- slots to experts


def _map_key(held: Held, steps: Steps) -> str:
    for name in MAPS:
        if held.values.get(name) is not None:
            return name
    raise held.source.fail("loads.no_map", steps, expected=MAPS[0])


def _summed(
    source: JsonSource, loads: Array, steps: Steps, slots: Array, experts: int, flat: bool = False
) -> Array:
    """[.., rows, E]: the loads [.., rows, P] of slots, added by the expert [rows, P] in each.

    `flat`: the map stands in the file as one list, not one a row.
    """
    if slots.dtype.kind not in "iuf" or slots.shape != loads.shape[-2:]:
        raise _map_error(source, steps, list(loads.shape[-2:]), list(slots.shape))
    wrong = ~((slots >= IDLE) & (slots < experts) & (slots == np.floor(slots)))
    if wrong.any():
        at = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), slots.shape))
        steps = (*steps, *(at[1:] if flat else at))
        raise _map_error(source, steps, f"an expert from 0 to {experts - 1}, or -1", slots[at])
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


def _map_error(source: JsonSource, steps: Steps, expected: object, found: object) -> UserError:
    return source.fail("loads.map", steps, expected=expected, found=found)


# ---- nested lists to arrays


def array_of(source: JsonSource, steps: Steps, value: object) -> Array:
    """The numbers of nested lists as an array; of lists of equal lengths, each.

    Errors: `loads.numbers` where something is no number, `loads.ragged`, `loads.elements`.
    """
    if isinstance(value, np.ndarray):
        if value.size > ELEMENT_LIMIT:
            raise source.fail("loads.elements", steps, limit=ELEMENT_LIMIT)
        return value
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
