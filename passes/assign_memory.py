"""Gives every tile of every kernel its place in on-chip memory.

    tile.kernel {...} { ... %a = tile.load ... %b = graph.exp %a ... }
->
    tile.kernel {places = [#tile.place<"ub", 0, 8192, 2>, #tile.place<"ub", 16384, 8192, 1>],
                 peaks = {ub = 24576}, ...} { the same }

`memory` says how much there is: "l1=524288 l0c=131072 ub=196608". Of a space that it does not name
the bytes are counted and not limited. Tiles in one space share it, whatever their use. Where each
tile may lie is in `tile_layout.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, ModuleOp

from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.locations import location_text
from supertile.ir.tile_attributes import DEVICE
from supertile.ir.tile_places import CAPACITIES, by_space, capacities, tile_spaces
from supertile.passes.rewriting import Equivalence, Pass, rewrites_of
from supertile.passes.tile_layout import Layout, layout_of


@dataclass(frozen=True)
class AssignMemory(Pass):
    """Kernels -> the same with `places` and `peaks`."""

    name = "assign-memory"
    equivalence: ClassVar[Equivalence] = "exact"
    takes: ClassVar[tuple[str, ...]] = ("tiled",)

    memory: str = ""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        limit_spaces(op, self.memory, self.name)
        spaces, limits = tile_spaces(op), capacities(op)
        for kernel in op.ops:
            if isinstance(kernel, tile.Kernel):
                layout = layout_of(kernel, spaces)
                _check(kernel, layout, limits)
                kernel.properties["places"] = ArrayAttr(layout.places)
                kernel.properties["peaks"] = by_space(layout.peaks)
                rewrites_of(ctx).count("place tiles")


def limit_spaces(module: ModuleOp, memory: str, name: str) -> None:
    """Note the capacities in the module; without any, those that it has stay."""
    limits = read_memory(memory, name)
    if limits:
        module.attributes[CAPACITIES] = by_space(limits)


def read_memory(text: str, name: str) -> dict[str, int]:
    """Space -> bytes, of the option `memory` of the pass `name`. UserError for another text."""
    limits: dict[str, int] = {}
    for word in text.split():
        match = re.fullmatch(r"(\w+)=(\d{1,18})", word)
        if match is None or match[1] == DEVICE or match[1] in limits:
            raise UserError(
                "pass.option_value",
                name=name,
                option="memory",
                expected="each memory once with its bytes, such as 'l1=524288 ub=196608'",
                found=word,
            )
        limits[match[1]] = int(match[2])
    return limits


def overflow(layout: Layout, limits: dict[str, int]) -> str | None:
    """The first space that holds less than the layout needs."""
    return next((s for s, end in sorted(layout.peaks.items()) if end > limits.get(s, end)), None)


def _check(kernel: tile.Kernel, layout: Layout, limits: dict[str, int]) -> None:
    space, peaks = overflow(layout, limits), layout.peaks
    if space is None:
        return
    raise UserError(
        "pass.memory_full",
        name=kernel.sym_name.data,
        place=location_text(kernel.location),
        space=space,
        needed=peaks[space],
        held=limits[space],
    )
