"""Wraps attention with its cache, the compression of keys, and the selection of blocks.

    %seen, %kept = graph.append %state, %rows, ...
    %i = graph.window_index ...
    %o = graph.attend %q, %seen, %i, ...
    %y = graph.rope %o, ... {inverse}
->
    %kept, %y = graph.fused {kind = "attention"} {
      the same ops
    }

So what a call sees of a cache, `seen`, never leaves the kernel that reads it.
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
    # values and scores of tokens -> pooled, normalised, turned, rounded -> entries of a cache
    Pattern(
        "compress",
        anchor=graph.PoolWindows,
        producers={
            graph.PoolWindows: (graph.Linear,),
            graph.Rope: (graph.CompletedWindows,),
            graph.Append: (graph.CompletedWindows,),
        },
        users={
            graph.PoolWindows: (graph.Cast, graph.RmsNorm),
            graph.Cast: (graph.RmsNorm, graph.Rope),
            graph.RmsNorm: (graph.Cast, graph.Rope),
            graph.Rope: (*PARTS, graph.Concat, graph.Hadamard, graph.Quantize, graph.Append),
            **dict.fromkeys(PARTS, (graph.Quantize, graph.Concat)),
            graph.Hadamard: (graph.Quantize,),
            graph.Quantize: (graph.Dequantize,),
            graph.Dequantize: (graph.Concat, graph.Append),
            graph.Concat: (graph.Append,),
        },
        requires=(graph.Append,),
    ),
    # score[t, s] = sum_h mix[t, h] relu(query[t, h] . keys[s]), and the best of the visible
    Pattern(
        "index_select",
        anchor=graph.TopK,
        producers={
            graph.TopK: (graph.ReduceSum, graph.VisibleCount),
            graph.ReduceSum: (graph.Multiply,),
            graph.Multiply: (graph.Relu, graph.Reshape),
            graph.Relu: (graph.Einsum,),
            graph.Reshape: (graph.Multiply,),
        },
        requires=(graph.Einsum,),
    ),
    Pattern(
        "attention",
        anchor=graph.Attend,
        producers={
            graph.Attend: (graph.Append, graph.WindowIndex, graph.VisibleCount),
            graph.Append: (graph.Reshape, graph.Cast),
            graph.Cast: (graph.Reshape,),
        },
        users={
            graph.Attend: (graph.Cast, graph.Rope, graph.Reshape),
            graph.Cast: (graph.Rope,),
            graph.Rope: (graph.Reshape,),
            graph.Reshape: (graph.Cast,),
        },
    ),
)


@dataclass(frozen=True)
class FuseAttention(Pass):
    """append, window_index, attend, rope back -> fused attention; compress, index_select."""

    name = "fuse-attention"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        fuse(ctx, op, PATTERNS)
