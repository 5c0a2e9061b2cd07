"""Wraps what leads out of the residual and back into it.

    %r = graph.add %x, %y
    %n = graph.rms_norm %r, %gain
->
    %r, %n = graph.fused {kind = "add_norm"} {
      %r_1 = graph.add %x, %y
      %n_1 = graph.rms_norm %r_1, %gain
      graph.yield %r_1, %n_1
    }

With several streams: `mixing` computes the weights of the streams and collapses them to one row,
`join` spreads a result over them. A sum of parts just before a join or an add belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import graph
from supertile.passes.fusing import PARTS, Pattern, fuse
from supertile.passes.rewriting import Equivalence, Pass

PATTERNS = (
    # joined[t, j, d] = post[t, j] y[t, d] + sum_i A[t, i, j] X[t, i, d]
    Pattern(
        "join",
        anchor=graph.Add,
        producers={
            graph.Add: (graph.Multiply, graph.Einsum),
            graph.Multiply: (graph.Reshape,),
            graph.Reshape: (graph.Add,),
        },
        requires=(graph.Multiply, graph.Einsum),
    ),
    # weights = linear(X) / rms(X); slices of them, scaled and shifted; sum_n pre[t, n] X[t, n, d]
    Pattern(
        "mixing",
        anchor=graph.Rsqrt,
        producers={
            graph.Rsqrt: (graph.Add,),
            graph.Add: (graph.Divide, *PARTS),
            graph.Divide: (graph.Einsum,),
            graph.Einsum: (graph.Reshape,),
            graph.Multiply: (graph.Linear, graph.Reshape, *PARTS),
            graph.Linear: (graph.Reshape,),
            graph.Reshape: PARTS,
        },
        users={
            graph.Rsqrt: (graph.Reshape,),
            graph.Reshape: (graph.Multiply, graph.Sinkhorn),
            graph.Multiply: (*PARTS, graph.Multiply, graph.Add),
            **dict.fromkeys(PARTS, (graph.Multiply,)),
            graph.Add: (graph.Sigmoid, graph.Reshape, graph.Einsum),
            graph.Sigmoid: (graph.Add, graph.Multiply),
        },
        requires=(graph.Linear, graph.Sigmoid, graph.Einsum),
    ),
    Pattern(
        "add_norm",
        anchor=graph.Add,
        producers={graph.Add: (graph.Add,)},
        users={
            graph.Add: (graph.RmsNorm,),
            graph.RmsNorm: (graph.Cast, graph.Quantize),
            graph.Cast: (graph.Quantize,),
        },
        requires=(graph.RmsNorm,),
    ),
    Pattern(
        "join",
        anchor=graph.Add,
        producers={graph.Add: (graph.Add,)},
        requires=(graph.Add,),
    ),
)


@dataclass(frozen=True)
class FuseResidual(Pass):
    """%r = add(%x, %y), rms_norm(%r) -> fused add_norm; mixing and joining of streams likewise."""

    name = "fuse-residual"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        fuse(ctx, op, PATTERNS)
