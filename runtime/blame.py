"""Which op is to blame: the first whose value differs between two runs, and what sets it apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from xdsl.ir import BlockArgument, Operation, SSAValue

from supertile.ir import graph, tile
from supertile.ir.group_layout import SLICE
from supertile.ir.locations import file_line, name_of
from supertile.ir.op import properties_of
from supertile.runtime.observe import Array, Key, Value, largest, place_text


def bit_equal(a: Array, b: Array) -> bool:
    """Tells 0 from -0; NaN equals NaN."""
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return False
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    bits = np.dtype(f"u{a.dtype.itemsize}")
    return bool(((a.view(bits) == b.view(bits)) | (np.isnan(a) & np.isnan(b))).all())


def close(a: Array, b: Array, bound: float) -> bool:
    """Within the bound, relative to the largest value; integers are equal unless all is allowed."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if bound == np.inf:
        return True
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b))
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return bool((same | (distance(a, b) <= bound * largest(a))).all())


def distance(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        difference: Array = np.abs(a.astype(np.float64) - b)
    return difference


def first_difference(
    before: Mapping[Key, Value], after: Mapping[Key, Value], bound: float | None = None
) -> str | None:
    """The first op that the old program has, too, with a value that none of its line had there."""
    lines: dict[tuple[str, int | None, int], list[Value]] = {}
    places: dict[tuple[str, int | None, int], Value] = {}
    for (label, layer, call, _), value in before.items():
        lines.setdefault((value.step.source, layer, call), []).append(value)
        places[label, layer, call] = value
    for key, value in after.items():
        label, layer, call, _ = key
        if (label, layer, call) not in places:
            continue
        if value.step.layout == SLICE != places[label, layer, call].step.layout:
            continue  # on each rank a part of what there was
        where = (places[label, layer, call].step.source, layer, call)
        if any(_same_value(one, value, bound) for one in lines.get(where, ())):
            continue
        old = before.get(key, places[label, layer, call])
        size, cause = _size_of_difference(old, value), _cause(old.step.op, value.step.op)
        place = place_text(value.step, layer)
        return f"{place} is the first op that differs, by {size}, in call {call}{cause}"
    return None


def _same_value(a: Value, b: Value, bound: float | None) -> bool:
    # A result of a launch stands for the first result of an op.
    if len(a.parts) != len(b.parts) and not isinstance(b.step.op, tile.Launch):
        return False
    pairs = list(zip(a.parts, b.parts, strict=False))
    if bound is None:
        return all(bit_equal(x, y) for x, y in pairs)
    return all(close(x, y, bound) for x, y in pairs if x.dtype != np.uint8)


def _size_of_difference(a: Value, b: Value) -> str:
    """In words, of the first result that differs."""
    for x, y in zip(a.parts, b.parts, strict=False):
        if x.shape != y.shape:
            return f"its shape, {list(y.shape)} instead of {list(x.shape)}"
        if bit_equal(x, y) or x.dtype == np.uint8:
            continue
        if x.dtype.kind != "f":
            return f"{np.count_nonzero(x != y)} of {x.size} integers"
        return f"{largest(distance(x, y)):.3g} where values reach {largest(x):.3g}"
    return "its kind of value"


def _cause(before: Operation, after: Operation) -> str:
    """What sets the two ops apart, if it is seen on them: properties, type, operands."""
    old, new = properties_of(before), properties_of(after)
    for name in new:
        if old.get(name) != new[name]:
            return f"; its {name} is {new[name]}, was {old.get(name)}"
    for a, b in zip(before.results, after.results, strict=False):
        if a.type != b.type:
            return f"; its type is {b.type}, was {a.type}"
    for number, (x, y) in enumerate(zip(before.operands, after.operands, strict=False)):
        if _origin(x) != _origin(y):
            return f"; its operand {number} comes from {_origin(y)}, came from {_origin(x)}"
    return ""


def _origin(value: SSAValue) -> str:
    """The op that makes a value, with its place."""
    if isinstance(value, BlockArgument):
        return f"the argument {value.name_hint or value.index}"
    op = value.owner
    assert isinstance(op, Operation)
    if isinstance(op, graph.Fused):
        last = op.body.block.last_op
        assert last is not None
        return _origin(last.operands[op.results.index(value)])
    place, name = file_line(op.location), name_of(op.location)
    line = f" at line {place.line.data}" if place else ""
    return f"{op.name}{f' ({name})' if name else ''}{line}"
