"""Loads of later steps of a loop overlap the arithmetic of earlier ones.

    tile.loop {stages = 1} { %a = tile.load ..; %b = tile.load ..; %s = tile.mma %a, %b, %sum }
->
    tile.loop {stages = 2} { the same }: each step loads for the next one while it multiplies

Which loads run ahead is in `ir/tile_ahead.py`; they have a buffer for each of the steps in flight.
A loop has fewer stages where the buffers of `stages` do not fit `memory`, and one where a step
stores to what a later one loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import tile
from supertile.ir.op import attribute_of
from supertile.ir.tile_ahead import ops_ahead, overwritten
from supertile.ir.tile_places import TileSpaces, capacities, tile_spaces
from supertile.passes.assign_memory import limit_spaces, overflow
from supertile.passes.rewriting import Equivalence, Pass, count, rewrites_of
from supertile.passes.tile_layout import layout_of


@dataclass(frozen=True)
class PipelineLoops(Pass):
    """Loops that load -> the same with `stages` steps in flight."""

    name = "pipeline-loops"
    equivalence: ClassVar[Equivalence] = "exact"
    takes: ClassVar[tuple[str, ...]] = ("tiled",)

    stages: int = count(2)
    memory: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        limit_spaces(op, self.memory, self.name)
        spaces, limits = tile_spaces(op), capacities(op)
        for kernel in op.ops:
            if not isinstance(kernel, tile.Kernel):
                continue
            for loop in kernel.walk():
                if isinstance(loop, tile.Loop) and ops_ahead(loop) and not overwritten(loop):
                    found = _pipeline(loop, self.stages, kernel, spaces, limits)
                    rewrites_of(ctx).count(f"{found} stages" if found > 1 else "does not fit")


def _pipeline(
    loop: tile.Loop, stages: int, kernel: tile.Kernel, spaces: TileSpaces, limits: dict[str, int]
) -> int:
    """Give the loop the most stages, up to `stages`, with which the kernel fits; how many."""
    for number in range(stages, 0, -1):
        loop.properties["stages"] = attribute_of(number)
        if number == 1 or overflow(layout_of(kernel, spaces), limits) is None:
            return number
    raise AssertionError("a loop has at least one stage")
