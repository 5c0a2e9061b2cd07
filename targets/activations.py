"""The memory of values that a step makes and uses up: the most that lives at one time."""

from __future__ import annotations

from collections.abc import Mapping

from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from supertile.ir import comm, tile
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import Size
from supertile.ir.types import type_of
from supertile.ir.work import bytes_of, function_shapes
from supertile.targets.cost.values import Value, value_of


class Activations:
    """The values made in a function that live at once; states and weights aside.

    Formulas are made once, so that many deployments can be asked about.
    """

    def __init__(self, function: FuncOp) -> None:
        shapes = function_shapes(function)
        kernels = kernels_of(function)
        ops = list(function.body.block.ops)
        last = {value: n for n, op in enumerate(ops) for value in op.operands}
        live: dict[SSAValue, Size] = {}
        sums: dict[Size, None] = {}
        for number, op in enumerate(ops):
            if isinstance(op, tile.Launch | comm.CommOp):
                for result in op.results:
                    if not _is_kept(op, result, kernels):
                        live[result] = bytes_of(type_of(result), shapes[result])
                sums[sum(live.values())] = None
            for value in op.operands:
                if last[value] == number:
                    live.pop(value, None)
        self.sums = tuple(sums)

    def peak(self, values: Mapping[str, Value]) -> float:
        """The most bytes at one time."""
        return max((float(value_of(size, values)) for size in self.sums), default=0.0)


def _is_kept(op: Operation, value: SSAValue, kernels: Mapping[str, tile.Kernel]) -> bool:
    """Whether a result is a state, which has memory of its own."""
    if not isinstance(op, tile.Launch):
        return False
    reuses = kernels[op.kernel.data].reuses.get_values()
    return any(
        held is value and reused >= 0 for held, reused in zip(op.results, reuses, strict=True)
    )
