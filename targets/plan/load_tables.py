"""Which tables of expert counts a file holds, told by their keys.

- `logical_count` [rows, E] or [steps, rows, E]: SGLang's recorder
- `counts` in the same shapes, with optional `layers` and `pairs`: this project
- `expert_load_window`, `expert_load_pass` or `physical_count` [.., rows, P], with
  `physical_to_logical_map` [rows, P]: counts of slots
- `records` of `global_physical_count` [rows, P], with `last_physical_to_logical_map`: SGLang's
  recorder of single passes
- `layer_list` of `device_list` of `device_expert`, loads beside it: the form of vllm-ascend's maps
- `workload_table` and `placement_table` [rows, devices, slots]: vllm-ascend's policies
- numbers of layers, or of iterations and layers (`load_keys`)

Counts of slots become counts of experts: the replicas of an expert are added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError, nearest
from supertile.ir.json_text import JsonSource, Steps, show_json
from supertile.targets.plan.load_arrays import Held, array_of, map_error, map_key, summed
from supertile.targets.plan.load_keys import by_iteration, by_layer, is_by_iteration, is_by_layer
from supertile.targets.plan.load_records import records_table
from supertile.targets.plan.loads import ELEMENT_LIMIT, Table, check_rank, check_values
from supertile.targets.plan.model import ExpertLayers

Array = NDArray[Any]

LOGICAL = ("logical_count", "counts")
PHYSICAL = ("expert_load_window", "expert_load_pass", "physical_count")
DEVICE_LOADS = (
    "device_expert_load",
    "device_expert_loads",
    "device_expert_hotness",
    "device_expert_heat",
)


def table_of(source: JsonSource, value: object, model: ExpertLayers) -> Table:
    """The table of a file's value: an object with known keys, or the bare counts."""
    if not isinstance(value, Mapping):
        return Table(source, (), array_of(source, (), value))
    held = Held(source, value)
    for keys, read in FORMS:
        found = [key for key in keys if key in value]
        if found:
            return read(held, found[0], model)
    if is_by_layer(held):
        return by_layer(held, model)
    if is_by_iteration(held):
        return by_iteration(held, model)
    known = [key for keys, _ in FORMS for key in keys]
    names = [str(key) for key in value]
    hints = (nearest(name, known) for name in names)
    found_text = ", ".join(name[:40] for name in names[:8]) or "no keys"
    hint = next(filter(None, hints), "")
    expected = f"{', '.join(known)}; or numbers of layers"
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
    name = map_key(held, (key,))
    logical = summed(held.source, loads, (name,), held.array(name), model.experts)
    return Table(held.source, (key,), logical)


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
    loads, ids = (held.array(*steps, name) for name in (keys[0], "device_expert"))
    check_rank(held.source, (*steps, keys[0]), loads, (1,))
    check_values(held.source, (*steps, keys[0]), loads)
    where = (*steps, "device_expert")
    total: Array = summed(held.source, loads[None], where, ids[None], experts, flat=True)[0]
    return total


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
        raise map_error(held.source, ("placement_table",), list(loads.shape), list(slots.shape))
    rows = len(loads)
    logical = summed(
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
    (("records",), records_table),
    (("layer_list",), _devices),
    (("workload_table",), _workload),
)
"""Keys that a form is known by, the first that a file has; a file may have further keys."""
