"""Chooses the tile sizes of every phase, from closed forms under the capacities of a machine.

    func.func @layers(...)  ->  func.func @layers(...) attributes {supertile.tiles = [..]}

Options describe the machine: how many cores, what lies where and how much fits, and `balance`, the
operations of a core, in 16-bit formats, for each byte that it can load. `tokens`, `arrived`,
`sequences` and `context` are the sizes to choose for: tokens of a call, rows that other ranks send.
Nothing is built here: a choice is a line of numbers on the function.

With `force=test` tiles are smaller than every size that they cut, and do not divide it where they
need not, so that tests see remainders and several steps of every loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, ModuleOp, StringAttr, i64
from xdsl.dialects.func import FuncOp

from supertile.ir.tile_places import TILE_SPACES
from supertile.passes.fusing import flatten
from supertile.passes.rewriting import Equivalence, Pass, count
from supertile.passes.tile_choice import Limits, chosen_sizes
from supertile.passes.tile_sizes import SIZES
from supertile.passes.tiling import row_spaces, units_of


@dataclass(frozen=True)
class ChooseTiles(Pass):
    """Functions -> the same with `supertile.tiles`, numbers for each phase."""

    name = "choose-tiles"
    equivalence: ClassVar[Equivalence] = "exact"
    leaves: ClassVar[str | None] = "fused"

    force: Literal["none", "test"] = "none"
    tokens: int = count(16)
    arrived: int = count(0, least=0)
    sequences: int = count(1)
    context: int = count(4096)
    cores: int = count(1)
    vector_cores: int = count(1)
    balance: float = 16.0
    operand: str = "cache"
    operand_bytes: int = count(1 << 20)
    accumulator: str = "cache"
    accumulator_bytes: int = count(1 << 20)
    vector: str = "cache"
    vector_bytes: int = count(1 << 22)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        names = (self.operand, self.accumulator, self.vector)
        op.attributes[TILE_SPACES] = ArrayAttr([StringAttr(name) for name in names])
        limits = self.limits()
        for function in op.ops:
            assert isinstance(function, FuncOp)
            flatten(function)
            spaces = row_spaces(function)
            sizes = [
                chosen_sizes(phase, unit, spaces, limits)
                for unit in units_of(function, spaces)
                for phase in unit.phases
            ]
            function.attributes[SIZES] = ArrayAttr(
                [DenseArrayBase.from_list(i64, list(size.numbers())) for size in sizes]
            )

    def limits(self) -> Limits:
        return Limits(
            test=self.force == "test",
            tokens=self.tokens,
            arrived=self.arrived or self.tokens,
            sequences=self.sequences,
            context=self.context,
            cores=self.cores,
            vector_cores=self.vector_cores,
            balance=self.balance,
            operand_bytes=self.operand_bytes,
            accumulator_bytes=self.accumulator_bytes,
            vector_bytes=self.vector_bytes,
            spaces=(self.operand, self.accumulator, self.vector),
        )
