"""How many bytes each buffer of a program needs, at most, in calls of a bounded size.

Shapes are formulas over named sizes; here every name gets the largest value that it can have with
so many tokens of so many sequences of so long a context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, SSAValue

from supertile.ir import comm
from supertile.ir.formula import Formula
from supertile.ir.op import shape_of
from supertile.ir.sched_memory import device_bytes, runtime_bytes
from supertile.ir.shapes import Shape
from supertile.ir.types import type_of


@dataclass(frozen=True)
class Bounds:
    """The largest call: tokens of all sequences of a rank, sequences of a rank, tokens of one."""

    tokens: int
    batch: int
    context: int
    memory: str

    @property
    def of_a_half(self) -> Bounds:
        """Of one of two micro-batches: half of the sequences, which may have all of the tokens."""
        return replace(self, batch=-(-self.batch // 2))

    @property
    def numbers(self) -> list[int]:
        return [self.tokens, self.batch, self.context]

    def most(self, name: str, arrived: int) -> int:
        """The largest value of a named size; `arrived` rows of experts reach a rank."""
        exact = {"T": self.tokens, "B": self.batch, "arrived": arrived}
        if name in exact:
            return exact[name]
        if name.startswith("S:"):
            return -(-self.context // int(name.removeprefix("S:")))
        if name.startswith("seen"):
            return int(name.removeprefix("seen")) + self.tokens
        if name.startswith("share"):
            return -(-self.tokens // int(name.removeprefix("share")))
        if name.startswith("windows"):
            return self._windows(int(name.removeprefix("windows")))
        raise ValueError(f"nothing bounds the size {name}")

    def _windows(self, ratio: int) -> int:
        """n tokens of a sequence complete at most ceil(n / ratio) windows: worst in many rows."""
        rows = min(self.batch, self.tokens)
        return rows + (self.tokens - rows) // ratio


Shapes = Mapping[SSAValue, Shape]


def buffer_bytes(
    function: FuncOp, shapes: Shapes, values: Sequence[SSAValue], bounds: Bounds
) -> dict[SSAValue, int]:
    """The most bytes of each value of a tiled function with these shapes."""
    arrived = _arrived(function, shapes, bounds)
    count = device_bytes if bounds.memory == "device" else runtime_bytes
    return {
        value: count(type_of(value), [_most(size, bounds, arrived) for size in shapes[value]])
        for value in values
    }


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
    arrived = _arrived(function, shapes, bounds)
    sizes = [*leading, *kind.get_shape()[len(leading) :]]
    count = device_bytes if bounds.memory == "device" else runtime_bytes
    return count(kind, [_most(size, bounds, arrived) for size in sizes])


def _most(size: Formula | int, bounds: Bounds, arrived: int) -> int:
    if isinstance(size, int):
        return size
    number = size.evaluate({name: bounds.most(name, arrived) for name in size.names})
    assert isinstance(number, int), f"{size} is no whole number"
    return number


def _arrived(function: FuncOp, shapes: Shapes, bounds: Bounds) -> int:
    """A rank gets a row for each token of any rank and slot at most, or for each choice."""
    rows = [0]
    for op in function.body.block.ops:
        if isinstance(op, comm.Dispatch):
            placement = op.placement
            each = min(shape_of(op.chosen)[1], placement.width)
            tokens = _most(shapes[op.chosen][0], bounds, 0)
            rows.append(placement.ranks * tokens * each)
    return max(rows)
