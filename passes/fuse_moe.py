"""Wraps the choice of experts, the experts, the shared expert, and dense feed-forward layers.

    %r, %g, %n, %o = graph.dispatch %x, %chosen, %weight
    %a = graph.grouped_linear %r, %w1, %n
    ...
    %c = graph.grouped_linear %h, %w2, %n
    %y = graph.combine %c, %o
->
    %y = graph.fused {kind = "experts"} {
      the same ops
    }

The weights of the rows may be multiplied in before %w2 or behind it. A layer is known by its
structure (`feed_forward.py`), whatever its activation.

Of experts on several ranks, comm.dispatch and comm.combine stay outside: a transfer is a task of
its own. The shared expert is a group of its own, so that it can run while rows travel to the
experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation

from supertile.ir import comm, graph
from supertile.passes.feed_forward import POINTWISE, feed_forwards
from supertile.passes.fusing import Edges, Pattern, fuse
from supertile.passes.rewriting import Equivalence, Pass

SCORES = (graph.Sqrt, graph.Sigmoid, graph.Softmax)


def gated_producers(linear: type[graph.GraphOp]) -> Edges:
    """down(activation(gate(x)) up(x)): what its ops pull in from above, down apart."""
    return {
        linear: (graph.Quantize,),
        **dict.fromkeys(POINTWISE, (*POINTWISE, linear, graph.Reshape)),
    }


def gated_users(linear: type[graph.GraphOp]) -> Edges:
    """What they pull in from below: all up to the product by down."""
    return {
        **dict.fromkeys(POINTWISE, (*POINTWISE, graph.Cast, graph.Quantize, linear)),
        graph.Cast: (graph.Quantize, linear),
        graph.Quantize: (linear,),
    }


def activations(block: Block) -> list[Operation]:
    """One op of what each feed-forward layer of the block computes between its products."""
    return [layer.activation for layer in feed_forwards(block.ops)]


PATTERNS = (
    # scores, the choice by them or by a table, the weights of the chosen scaled to a fixed sum
    Pattern(
        "router",
        anchor=graph.Take,
        producers={
            graph.Take: (*SCORES, graph.TopK, graph.Gather, graph.Reshape),
            graph.Sqrt: (graph.Softplus,),
            graph.Softplus: (graph.Linear,),
            graph.Sigmoid: (graph.Linear,),
            graph.Softmax: (graph.Linear,),
            graph.TopK: (*SCORES, graph.Add, graph.Reshape, graph.ReduceSum),
            graph.Add: SCORES,
            graph.Reshape: (graph.Add, graph.Select, graph.Member),
            graph.Select: (graph.Reshape,),
            graph.Member: (graph.TopK,),
            graph.ReduceSum: (graph.Take,),
        },
        users={
            graph.Take: (graph.ReduceSum, graph.Divide),
            graph.ReduceSum: (graph.Reshape, graph.TopK),
            graph.Reshape: (graph.Divide, graph.Select, graph.TopK),
            graph.Divide: (graph.Multiply,),
            graph.TopK: (graph.Member, graph.Take),
            graph.Member: (graph.Reshape,),
            graph.Select: (graph.Reshape,),
        },
        shared=(graph.TopK, graph.Gather),
        requires=(graph.Linear,),
        feeds=(graph.Dispatch, comm.Dispatch),
    ),
    Pattern(
        "shared_expert",
        anchor=activations,
        producers=gated_producers(graph.Linear),
        users=gated_users(graph.Linear),
        requires=(graph.Linear,),
        beside=(graph.Combine, comm.Combine),
    ),
    Pattern(
        "experts",
        anchor=activations,
        producers={
            **gated_producers(graph.GroupedLinear),
            graph.Quantize: (graph.Dispatch,),
            graph.GroupedLinear: (graph.Quantize, graph.Dispatch),
            graph.Reshape: (graph.Dispatch,),
        },
        users={
            **gated_users(graph.GroupedLinear),
            # Rows are weighed before the last product, or behind it.
            graph.GroupedLinear: (graph.Multiply, graph.Combine),
            graph.Multiply: (
                *POINTWISE,
                graph.Cast,
                graph.Quantize,
                graph.GroupedLinear,
                graph.Combine,
            ),
        },
        requires=(graph.GroupedLinear,),
    ),
    Pattern(
        "feed_forward",
        anchor=activations,
        producers=gated_producers(graph.Linear),
        users=gated_users(graph.Linear),
        requires=(graph.Linear,),
    ),
)


@dataclass(frozen=True)
class FuseMoe(Pass):
    """dispatch, grouped products, combine -> fused experts; router, shared_expert, feed_forward."""

    name = "fuse-moe"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        fuse(ctx, op, PATTERNS)
