"""Wraps each normalisation, and each turn by position, with what is done to its rows next.

    %n = graph.rms_norm %x, %gain
    %c = graph.quantize %n
->
    %n, %c = graph.fused {kind = "norm"} {
      %n_1 = graph.rms_norm %x, %gain
      %c_1 = graph.quantize %n_1
      graph.yield %n_1, %c_1
    }

All of these kernels read a row once and write it once. A norm behind a residual add, and one of
pooled windows, is left to the fusions that begin there; an op alone stays alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import graph
from supertile.passes.fusing import PARTS, Edges, Pattern, fuse
from supertile.passes.rewriting import Equivalence, Pass

# From a turned row to the numbers that are kept or compared: apart, rounded, together again.
TO_CODES: Edges = {
    graph.Rope: (graph.Cast, *PARTS, graph.Concat, graph.Hadamard, graph.Quantize),
    graph.Cast: (graph.Rope, graph.Concat),
    **dict.fromkeys(PARTS, (graph.Quantize, graph.Concat)),
    graph.Hadamard: (graph.Quantize,),
    graph.Quantize: (graph.Dequantize,),
    graph.Dequantize: (graph.Concat,),
}

# The parts of a row that are turned and joined with others, back to the row.
TO_PARTS: Edges = {
    graph.Concat: (graph.Rope, graph.Cast),
    graph.RmsNorm: (*PARTS, graph.Cast),
    graph.Rope: (*PARTS, graph.Reshape, graph.Cast),
    graph.Cast: (*PARTS, graph.Reshape),
}

# A norm written out: x times the reciprocal root of the mean of its squares.
WRITTEN_OUT: Edges = {
    graph.Rsqrt: (graph.Add,),
    graph.Add: (graph.Divide,),
    graph.Divide: (graph.ReduceSum,),
    graph.ReduceSum: (graph.Multiply,),
    graph.Multiply: (graph.Reshape,),
}
SCALES_ROWS: Edges = {
    graph.Rsqrt: (graph.Reshape, graph.Multiply),
    graph.Reshape: (graph.Multiply,),
}

# Their values are turned, or normalised, within groups of their own.
ELSEWHERE = (graph.PoolWindows, graph.CompletedWindows, graph.Attend)

PATTERNS = (
    Pattern(
        "key_norm_rope",
        anchor=graph.RmsNorm,
        producers=TO_PARTS,
        users={graph.RmsNorm: (graph.Cast, graph.Rope, graph.Concat), **TO_CODES},
        requires=(graph.Rope,),
        feeds=(graph.Append,),
        apart=ELSEWHERE,
    ),
    Pattern(
        "query_norm_rope",
        anchor=graph.Rsqrt,
        producers=WRITTEN_OUT,
        users={**SCALES_ROWS, graph.Multiply: (graph.Rope,)},
        requires=(graph.ReduceSum, graph.Rope),
    ),
    Pattern(
        "head_norm",
        anchor=graph.Rsqrt,
        producers=WRITTEN_OUT,
        users=SCALES_ROWS,
        requires=(graph.ReduceSum, graph.Multiply),
    ),
    Pattern(
        "key_rope",
        anchor=graph.Rope,
        producers=TO_PARTS,
        users=TO_CODES,
        feeds=(graph.Append,),
        apart=ELSEWHERE,
    ),
    Pattern(
        "query_rope",
        anchor=graph.Rope,
        producers=TO_PARTS,
        users=TO_CODES,
        apart=ELSEWHERE,
    ),
    Pattern(
        "norm",
        anchor=graph.RmsNorm,
        users={graph.RmsNorm: (graph.Cast, graph.Quantize), graph.Cast: (graph.Quantize,)},
        requires=(graph.Quantize,),
        apart=(*ELSEWHERE, graph.Add),
    ),
)


@dataclass(frozen=True)
class FuseNorm(Pass):
    """%n = rms_norm(%x), quantize(%n) -> fused norm; norm and rope of queries and keys likewise."""

    name = "fuse-norm"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        fuse(ctx, op, PATTERNS)
