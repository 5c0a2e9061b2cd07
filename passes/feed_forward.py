"""Feed-forward layers by their structure: products of one input, numbers of them, a last product.

    %a = graph.linear %x, %gate          # or grouped, of experts
    %b = graph.linear %x, %up
    ... %h from %a and %b, number by number: silu(%a) %b, gelu(%a) %b, (%b + 1) %a sigmoid(c %a), ..
    %y = graph.linear %h, %down

What gates is for the model to say: nothing here knows the name of an activation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of

ACTIVATIONS = (
    graph.Exp, graph.Sqrt, graph.Rsqrt, graph.Sigmoid, graph.Softplus, graph.Silu, graph.Relu,
    graph.Gelu, graph.Tanh,
)  # fmt: skip
LIMITS = (graph.Minimum, graph.Maximum, graph.Clamp)
ARITHMETIC = (graph.Negate, graph.Add, graph.Subtract, graph.Multiply, graph.Divide)
POINTWISE = (*ACTIVATIONS, *LIMITS, *ARITHMETIC)
"""Ops of which every number of the result follows from the numbers in the same place."""
PRODUCTS = (graph.Linear, graph.GroupedLinear)
CONVERSIONS = (graph.Cast, graph.Quantize)


class FeedForward(NamedTuple):
    """A layer's ops in the order of their block."""

    products: tuple[graph.Linear | graph.GroupedLinear, ...]
    """Of the input by its first weights: the gate and what it gates, or one"""
    hidden: tuple[Operation, ...]
    """What is computed of their results, conversions left out"""
    down: graph.Linear | graph.GroupedLinear

    @property
    def activation(self) -> Operation:
        """The first op of the hidden ones that is no arithmetic, if there is one."""
        return next((op for op in self.hidden if isinstance(op, ACTIVATIONS)), self.hidden[0])


def feed_forwards(ops: Iterable[Operation]) -> list[FeedForward]:
    """Those among the ops, by the place of their last product."""
    ordered = list(ops)
    place = {op: number for number, op in enumerate(ordered)}
    downs = [op for op in ordered if isinstance(op, PRODUCTS)]
    return [layer for down in downs if (layer := _layer_of(down, place)) is not None]


def _layer_of(
    down: graph.Linear | graph.GroupedLinear, place: dict[Operation, int]
) -> FeedForward | None:
    """The layer whose last product this is; None if it is none of a feed-forward layer."""
    if isinstance(down.w.owner, POINTWISE):  # it is no weight but computed, too
        return None
    products: dict[graph.Linear | graph.GroupedLinear, None] = {}
    hidden: dict[Operation, None] = {}
    width = shape_of(down.x)[-1]
    waiting = [down.x]
    while waiting:
        value = waiting.pop()
        op = value.owner
        if op in products or op in hidden:
            continue
        if isinstance(op, (*POINTWISE, *CONVERSIONS)) and op in place:
            hidden[op] = None
            waiting += op.operands
        elif isinstance(op, PRODUCTS) and type(op) is type(down) and op in place:
            products[op] = None
        elif shape_of(value)[-1:] not in ((), (1,)) and shape_of(value)[-1] == width:
            return None  # numbers of the hidden width that come from elsewhere
    computed = sorted((op for op in hidden if isinstance(op, POINTWISE)), key=place.__getitem__)
    inner = tuple(sorted(products, key=place.__getitem__))
    layer = FeedForward(inner, tuple(computed), down)
    return layer if computed and _bends(layer) and _share_input(layer) else None


def _bends(layer: FeedForward) -> bool:
    """Whether the layer is more than one linear map: it has an activation, a limit, or a gate."""
    if any(isinstance(op, (*ACTIVATIONS, *LIMITS)) for op in layer.hidden):
        return True
    follows = {value for op in layer.products for value in op.results}
    for op in layer.hidden:
        if isinstance(op, graph.Multiply | graph.Divide) and {op.a, op.b} <= follows:
            return True
        if any(value in follows for value in op.operands):
            follows.update(op.results)
    return False


def _share_input(layer: FeedForward) -> bool:
    return len({_unquantised(op.x) for op in layer.products}) == 1


def _unquantised(value: SSAValue) -> SSAValue:
    return value.owner.x if isinstance(value.owner, graph.Quantize) else value
