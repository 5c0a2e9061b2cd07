"""How many bytes each buffer of a program needs, at most, in calls of a bounded size.

Shapes are formulas over named sizes; here every name gets the largest value that it can have with
so many tokens of so many sequences of so long a context. What comes of it is in the program, where
`ir/sched_bytes.py` finds it again by a way of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, SSAValue

from supertile.ir import comm
from supertile.ir.op import shape_of
from supertile.ir.sched_bounds import Bounds
from supertile.ir.shapes import Shape
from supertile.ir.types import type_of

Shapes = Mapping[SSAValue, Shape]


def buffer_bytes(
    function: FuncOp, shapes: Shapes, values: Sequence[SSAValue], bounds: Bounds
) -> dict[SSAValue, int]:
    """The most bytes of each value of a tiled function with these shapes."""
    arrived = _arrived(function, shapes, bounds)
    return {value: bounds.bytes_of(type_of(value), shapes[value], arrived) for value in values}


def value_bytes(
    function: FuncOp,
    shapes: Shapes,
    like: SSAValue,
    kind: TensorType[Attribute],
    bounds: Bounds,
) -> int:
    """The most bytes of a value of a type whose leading sizes are those of a value of a function,
    and whose others are fixed."""
    leading = shapes[like]
    sizes = [*leading, *kind.get_shape()[len(leading) :]]
    return bounds.bytes_of(kind, sizes, _arrived(function, shapes, bounds))


def _arrived(function: FuncOp, shapes: Shapes, bounds: Bounds) -> int:
    """The most rows of experts that reach a rank in a function; 0 where none travel."""
    return max(
        (
            bounds.arrived(shapes[op.chosen][0], shape_of(op.chosen)[1], op.placement)
            for op in function.body.block.ops
            if isinstance(op, comm.Dispatch)
        ),
        default=0,
    )
