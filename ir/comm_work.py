"""What a comm op moves between ranks: bytes that one rank sends and receives, from its types.

    dispatch   out: a row in its format with its scales, its weight, its origin; T K times
    combine    back: a row of results; one for each row that arrived
    share      nothing
    all_gather the rank's rows to each other rank of the group
    all_reduce around the group twice, in parts: 2 (n - 1) / n of all bytes

Counts are upper bounds: rows for the rank itself are not sent, and an implementation may send one
copy of a row to a rank that holds several of its experts. `targets/traffic.py` counts those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import comm, graph
from supertile.ir.op import shape_of
from supertile.ir.shapes import Shape, Size
from supertile.ir.types import DYNAMIC, i32, tensor, type_of
from supertile.ir.work import bytes_of

ARRIVED = "arrived"
"""The name of the number of rows that arrive at a rank: T K on average over the ranks."""

ORIGIN = tensor((DYNAMIC, 2), i32)
"""The source rank of a row and its place there: the last result of `comm.dispatch`."""


@dataclass(frozen=True)
class Wire:
    """Bytes of one rank; numbers or formulas over the names of `function_shapes` and `arrived`."""

    sent: Size
    received: Size


@dataclass(frozen=True)
class CopyBytes:
    """Bytes of one row: out to an expert, what routes it there, and its result back."""

    out: int
    """Codes with scales: 7,224 for 7,168 channels in FP8 with a scale for each 128."""
    routing: int
    """Its weight and its origin, for each choice."""
    back: int


def wire_of(op: Operation, shapes: Mapping[SSAValue, Shape] | None = None) -> Wire:
    """What the rank sends and receives; a value that `shapes` lacks has its declared shape."""
    held = shapes or {}

    def shape(value: SSAValue) -> Shape:
        return held.get(value, shape_of(value))

    match op:
        case comm.Dispatch():
            each = _row_bytes(op.x) + _routing_bytes(op)
            return Wire(math.prod(shape(op.chosen)) * each, shape(op.rows)[0] * each)
        case comm.Combine():
            each = _row_bytes(op.rows)
            return Wire(shape(op.rows)[0] * each, math.prod(shape(op.chosen)) * each)
        case comm.Share():
            return Wire(0, 0)
        case comm.AllGather():
            own, others = shape(op.x)[0] * _row_bytes(op.x), op.ranks.value.data - 1
            return Wire(others * own, others * own)
        case comm.AllReduce():
            ranks = op.ranks.value.data
            each = group_bytes(op, held) * Fraction(2 * (ranks - 1), ranks)
            return Wire(each, each)
        case _:
            raise TypeError(f"{op.name} moves nothing between ranks")


def group_bytes(op: comm.AllGather | comm.AllReduce, shapes: Mapping[SSAValue, Shape]) -> Size:
    """Bytes that every rank of the group has in the end, in the format in which they travel."""
    return bytes_of(type_of(op.x), shapes.get(op.result, shape_of(op.result)))


def copy_bytes(dispatch: comm.Dispatch, combine: comm.Combine) -> CopyBytes:
    """Bytes of one row through a pair of ops."""
    return CopyBytes(_row_bytes(dispatch.x), _routing_bytes(dispatch), _row_bytes(combine.rows))


def sent_bytes(
    dispatch: graph.Dispatch, combine: graph.Combine, kind: TensorType[Attribute]
) -> CopyBytes:
    """Bytes of one row that is to travel in the format `kind`, before experts are placed."""
    weight = bytes_of(type_of(dispatch.row_weight), (1,))
    return CopyBytes(
        bytes_of_row(kind), int(weight + bytes_of(ORIGIN, (1, 2))), _row_bytes(combine.rows)
    )


def bytes_of_row(kind: TensorType[Attribute]) -> int:
    """One row of a tensor, codes and scales: all axes but the first are static."""
    return int(bytes_of(kind, (1, *kind.get_shape()[1:])))


def _row_bytes(value: SSAValue) -> int:
    return bytes_of_row(type_of(value))


def _routing_bytes(op: comm.Dispatch) -> int:
    return _row_bytes(op.row_weight) + _row_bytes(op.origin)
