"""Computes equal values once: an op equal to one above it gives way to that one.

    %a = graph.linear %x, %w : (...) -> tensor<?x8xf32>
    %b = graph.linear %x, %w : (...) -> tensor<?x8xf32>
    %c = graph.add %a, %b : (...) -> tensor<?x8xf32>
->
    %a = graph.linear %x, %w : (...) -> tensor<?x8xf32>
    %c = graph.add %a, %a : (...) -> tensor<?x8xf32>

Equal means: same op, operands, properties, result types and regions. Ops above a fused group are
seen in it, ops in a group are not seen outside. Dead ops are removed on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation
from xdsl.transforms.common_subexpression_elimination import CSEDriver

from supertile.ir.locations import name_of
from supertile.passes.rewriting import Equivalence, Pass, Rewrites, rewrites_of


class _Merging(CSEDriver):
    """xDSL's elimination, counted, and keeping names: the merged value bears one if either did."""

    def __init__(self, rewrites: Rewrites) -> None:
        super().__init__()
        self.rewrites = rewrites

    def _replace_and_delete(self, op: Operation, existing: Operation) -> None:
        if name_of(op.location) and not name_of(existing.location):
            existing.location = op.location
        for gone, kept in zip(op.results, existing.results, strict=True):
            kept.name_hint = kept.name_hint or gone.name_hint
        super()._replace_and_delete(op, existing)
        self.rewrites.count("merge equal ops")

    def _mark_erasure(self, op: Operation) -> None:
        super()._mark_erasure(op)
        self.rewrites.count("remove op")


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    """%a = f(%x), %b = f(%x), g(%a, %b) -> %a = f(%x), g(%a, %a)."""

    name = "cse"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        _Merging(rewrites_of(ctx)).simplify(op)
