"""Every fused group and every op alone becomes a launch of a tile kernel.

    %y = graph.linear %x, %w : (tensor<?x64xf32>, tensor<32x64xf32>) -> tensor<?x32xf32>
->
    tile.kernel {sym_name = "linear_1", ...} { grid { loop { load, load, mma }, store } }
    %y = tile.launch %x, %w {kernel = "linear_1"} : (...) -> tensor<?x32xf32>

The sizes are those that `choose-tiles` left on the functions. Equal groups share one kernel, so
that kernels do not grow with kinds of layers. Weights, constants, layers, communication and
reshapes, which are views, stay in the functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from supertile.ir import graph, tile
from supertile.ir.errors import UserError
from supertile.ir.tile_places import tile_spaces
from supertile.passes.kernel_builder import KernelBuilder
from supertile.passes.rewriting import Equivalence, Pass, rewrites_of
from supertile.passes.tile_attend import lower_attend
from supertile.passes.tile_columns import lower_columns
from supertile.passes.tile_experts import lower_combine, lower_dispatch
from supertile.passes.tile_products import lower_grouped_product, lower_product
from supertile.passes.tile_rows import lower_rows
from supertile.passes.tile_sizes import SIZES, PhaseSizes
from supertile.passes.tile_state import (
    lower_append,
    lower_completed_windows,
    lower_pool_windows,
    lower_window_index,
)
from supertile.passes.tiling import Phase, Spaces, Unit, row_spaces, units_of

Lowering = Callable[[KernelBuilder, Phase, PhaseSizes], None]

LOWERINGS: dict[str, Lowering] = {
    "rows": lower_rows,
    "columns": lower_columns,
    "product": lower_product,
    "einsum_product": lower_product,
    "grouped_product": lower_grouped_product,
    "append": lower_append,
    "completed_windows": lower_completed_windows,
    "pool_windows": lower_pool_windows,
    "window_index": lower_window_index,
    "attend": lower_attend,
    "dispatch": lower_dispatch,
    "combine": lower_combine,
}


@dataclass(frozen=True)
class LowerToTile(Pass):
    """Groups and ops -> tile kernels, launched in their place."""

    name = "lower-to-tile"
    equivalence: ClassVar[Equivalence] = "reassociate"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = [function for function in op.ops if isinstance(function, FuncOp)]
        lowering = _Lowering(op)
        for function in functions:
            lowering.function(function)
            for kind, count in lowering.counts.items():
                for _ in range(count):
                    rewrites_of(ctx).count(f"lower {kind}")
            lowering.counts.clear()


class _Lowering:
    """The kernels of a module so far, and how to make more."""

    def __init__(self, module: ModuleOp) -> None:
        self.module = module
        self.where = tile_spaces(module)
        self.symbols: dict[Any, str] = {}
        self.numbers: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        self.built: set[str] = set()

    def function(self, function: FuncOp) -> None:
        spaces = row_spaces(function)
        units = list(units_of(function, spaces))
        sizes = iter(_sizes(function, sum(len(unit.phases) for unit in units)))
        planned = []
        for unit in units:
            held = [next(sizes) for _ in unit.phases]
            planned.append((unit, held, self._symbol(unit, spaces, held)))
        # From the last on, so that what a unit uses is still made by the ops that `spaces` knows.
        made = [self._unit(unit, spaces, held, symbol) for unit, held, symbol in reversed(planned)]
        self.module.body.block.add_ops([kernel for kernel in reversed(made) if kernel is not None])
        for op in reversed(list(function.body.block.ops)):
            if isinstance(op, graph.Constant) and not any(value.uses for value in op.results):
                Rewriter.erase_op(op)
        del function.attributes[SIZES]

    def _unit(
        self, unit: Unit, spaces: Spaces, sizes: list[PhaseSizes], symbol: str
    ) -> tile.Kernel | None:
        """Replace the unit by a launch; its kernel, unless there is an equal one."""
        builder = KernelBuilder(unit, spaces, self.where, symbol)
        is_new = symbol not in self.built
        if is_new:
            self.built.add(symbol)
            for phase, size in zip(unit.phases, sizes, strict=True):
                LOWERINGS[phase.kind](builder, phase, size)
        kernel = builder.finish() if is_new else None
        launch = builder.launch()
        self.counts[unit.kind] = self.counts.get(unit.kind, 0) + 1
        for old, new in zip(unit.op.results, launch.results, strict=True):
            new.name_hint = old.name_hint
        Rewriter.replace_op(unit.op, launch)
        return kernel

    def _symbol(self, unit: Unit, spaces: Spaces, sizes: list[PhaseSizes]) -> str:
        """The name of the kernel of a unit; equal units have one."""
        key = _key(unit, spaces, sizes)
        if key not in self.symbols:
            number = self.numbers[unit.kind] = self.numbers.get(unit.kind, 0) + 1
            self.symbols[key] = f"{unit.kind}_{number}"
        return self.symbols[key]


def _sizes(function: FuncOp, phases: int) -> list[PhaseSizes]:
    held = function.attributes.get(SIZES)
    if not isinstance(held, ArrayAttr):
        raise UserError("pass.no_tiles", name=function.sym_name.data)
    sizes = [PhaseSizes(*numbers.get_values()) for numbers in held]
    if len(sizes) != phases:
        raise UserError("pass.other_tiles", name=function.sym_name.data)
    return sizes


def _key(unit: Unit, spaces: Spaces, sizes: list[PhaseSizes]) -> Any:
    """Equal for units that become equal kernels: ops, types, wiring, row spaces, sizes."""
    numbers: dict[SSAValue, int] = {}
    parts: list[Any] = [unit.kind, tuple(sizes)]

    def number(value: SSAValue) -> Any:
        value = value
        owner = value.owner
        if isinstance(owner, graph.Constant):
            return owner.value
        if value not in numbers:
            numbers[value] = len(numbers)
            parts.append((value.type, spaces.get(value)))
        return numbers[value]

    for value in unit.inputs():
        number(value)
    for op in unit.ops:
        parts.append((op.name, tuple(number(value) for value in op.operands), _properties(op)))
        for value in op.results:
            number(value)
    parts.append(tuple(number(value) for value in unit.results))
    return tuple(parts)


def _properties(op: Operation) -> tuple[Any, ...]:
    return tuple(sorted(op.properties.items()))
