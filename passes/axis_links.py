"""Which axes of an op's operands and results go together: the rule of every op that can be split.

A link is a set of axes such that a slice of each gives a slice of the op: the rows of a weight and
the channels that they make, the heads of a query and those of the output. A link that the op sums
over has no axis of the result: then the op of slices is a part of the sum. An axis in no link
cannot be cut: the op needs all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.tables import Table

Axis = tuple[SSAValue, int]


@dataclass(frozen=True)
class Link:
    """Axes that are cut alike."""

    axes: tuple[Axis, ...]
    is_summed: bool = False


def links_of(op: Operation) -> list[Link]:
    """All links of an op; none for one that stays whole, or is not of the graph level."""
    if type(op) not in graph.OPS:
        return []
    return [link for link in LINKS[type(op)](op) if link.axes]


# ---- rules -------------------------------------------------------------------------------------


def _whole(op: Operation) -> list[Link]:
    """Never cut; weights are where they are read."""
    return []


def _aligned(op: Operation) -> list[Link]:
    """Axes align at the end; those of size 1 stretch and stay as they are."""
    (result,) = op.results
    rank = len(shape_of(result))
    links = []
    for axis, size in enumerate(shape_of(result)):
        found: list[Axis] = [(result, axis)]
        for value in op.operands:
            own = axis - rank + len(shape_of(value))
            if own >= 0 and (size == 1 or shape_of(value)[own] != 1):
                found.append((value, own))
        links.append(Link(tuple(found)))
    return links


def _leading(op: Operation, kept: int, operands: int = 1) -> list[Link]:
    """All but the last `kept` axes, of the first operands and of all results."""
    count = len(shape_of(op.operands[0])) - kept
    values = [*op.operands[:operands], *op.results]
    return [Link(tuple((value, axis) for value in values)) for axis in range(count)]


def _apart_from(op: Operation, axis: int, values: list[SSAValue]) -> list[Link]:
    """Every axis but one; shapes have the same number of axes."""
    count = len(shape_of(values[0]))
    return [Link(tuple((value, a) for value in values)) for a in range(count) if a != axis]


def _reshape(op: Operation) -> list[Link]:
    """Axes that are cut into one another: of each such group the first, on either side."""
    assert isinstance(op, graph.Reshape)
    before, after = shape_of(op.x), shape_of(op.result)
    links: list[Link] = []
    i, j = 0, 0
    while i < len(before) and j < len(after):
        first = (i, j)
        sizes = [before[i], after[j]]
        while sizes[0] != sizes[1]:
            grows = int(sizes[1] < sizes[0])
            if grows and j + 1 < len(after):
                j += 1
                sizes[1] *= after[j]
            elif not grows and i + 1 < len(before):
                i += 1
                sizes[0] *= before[i]
            else:
                return links  # a run-time size is in both: nothing is known of what is behind it
        if before[first[0]] != 1 and after[first[1]] != 1:
            links.append(Link(((op.x, first[0]), (op.result, first[1]))))
            i, j = i + 1, j + 1
        elif before[first[0]] == 1:
            i, j = first[0] + 1, first[1]
        else:
            i, j = first[0], first[1] + 1
    return links


def _linear(op: Operation) -> list[Link]:
    assert isinstance(op, graph.Linear)
    last = len(shape_of(op.x)) - 1
    rows = [Link(((op.x, axis), (op.result, axis))) for axis in range(last)]
    return [
        *rows,
        Link(((op.w, 0), (op.result, last))),
        Link(((op.x, last), (op.w, 1)), is_summed=True),
    ]


def _grouped_linear(op: Operation) -> list[Link]:
    assert isinstance(op, graph.GroupedLinear)
    return [
        Link(((op.w, 1), (op.result, 1))),
        Link(((op.x, 1), (op.w, 2)), is_summed=True),
    ]


def _einsum(op: Operation) -> list[Link]:
    """A letter is a link; that of the tokens' sequences, b, stays whole."""
    assert isinstance(op, graph.Einsum)
    joined, made = op.equation.data.split("->")
    found: dict[str, list[Axis]] = {}
    for term, value in zip([*joined.split(","), made], [*op.inputs, op.result], strict=True):
        for axis, letter in enumerate(term):
            found.setdefault(letter, []).append((value, axis))
    found.pop("b", None)
    if op.sequence is not None:
        found[made[0]].append((op.sequence, 0))
    return [Link(tuple(held), letter not in made) for letter, held in found.items()]


def _reduce_sum(op: Operation) -> list[Link]:
    assert isinstance(op, graph.ReduceSum)
    return [*_reduced(op), Link(((op.x, op.axis.value.data),), is_summed=True)]


def _reduced(op: Operation) -> list[Link]:
    assert isinstance(op, graph.ReduceSum | graph.ReduceMax)
    gone = op.axis.value.data
    kept = [axis for axis in range(len(shape_of(op.x))) if axis != gone]
    return [Link(((op.x, axis), (op.result, made))) for made, axis in enumerate(kept)]


def _transpose(op: Operation) -> list[Link]:
    assert isinstance(op, graph.Transpose)
    order = op.permutation.get_values()
    return [Link(((op.x, old), (op.result, new))) for new, old in enumerate(order)]


def _repeat(op: Operation) -> list[Link]:
    assert isinstance(op, graph.Repeat)
    added = op.axis.value.data
    axes = range(len(shape_of(op.x)))
    return [Link(((op.x, axis), (op.result, axis + (axis >= added)))) for axis in axes]


def _gather(op: Operation) -> list[Link]:
    assert isinstance(op, graph.Gather)
    channels = range(1, len(shape_of(op.table)))
    return [
        Link(((op.ids, 0), (op.result, 0))),
        *(Link(((op.table, axis), (op.result, axis))) for axis in channels),
    ]


def _rope(op: Operation) -> list[Link]:
    """Channels turn in pairs; tokens have a position each."""
    assert isinstance(op, graph.Rope)
    first, *heads = _leading(op, 1)
    return [Link((*first.axes, (op.position, 0))), *heads]


def _top_k(op: Operation) -> list[Link]:
    assert isinstance(op, graph.TopK)
    first, *others = _leading(op, 1)
    counts = () if op.count is None else ((op.count, 0),)
    return [Link((*first.axes, *counts)), *others]


def _append(op: Operation) -> list[Link]:
    """What a row is made of: heads, channels."""
    assert isinstance(op, graph.Append)
    states = (op.state, op.seen, op.kept)
    axes = range(1, len(shape_of(op.rows)))
    return [Link(((op.rows, axis), *((state, axis + 1) for state in states))) for axis in axes]


def _attend(op: Operation) -> list[Link]:
    """Heads of the query; heads of keys and values, which may be fewer, apart."""
    assert isinstance(op, graph.Attend)
    sink = () if op.sink is None else ((op.sink, 0),)
    held = [value for value in (*op.keys, *op.values) if len(shape_of(value)) == 4]
    return [
        Link(((op.q, 1), (op.result, 1), *sink)),
        Link(tuple((value, 2) for value in held)),
    ]


def _combine(op: Operation) -> list[Link]:
    assert isinstance(op, graph.Combine)
    axes = range(1, len(shape_of(op.rows)))
    return [Link(((op.rows, axis), (op.result, axis))) for axis in axes]


LINKS: dict[type[Operation], Callable[[Operation], list[Link]]] = Table(
    __name__,
    "LINKS",
    {
        graph.Constant: _whole,
        graph.Weight: _whole,
        graph.Cast: _aligned,
        graph.Reshape: _reshape,
        graph.Transpose: _transpose,
        graph.Slice: lambda op: _apart_from(op, op.axis.value.data, [op.x, op.result]),  # type: ignore[attr-defined]
        graph.Split: lambda op: _apart_from(op, op.axis.value.data, [op.x, *op.parts]),  # type: ignore[attr-defined]
        graph.Concat: lambda op: _apart_from(op, op.axis.value.data, [*op.parts, op.result]),  # type: ignore[attr-defined]
        graph.Repeat: _repeat,
        graph.Gather: _gather,
        graph.Take: lambda op: _leading(op, 1, operands=2),
        graph.Member: lambda op: _leading(op, 1),
        graph.Select: _aligned,
        graph.Negate: _aligned,
        graph.Exp: _aligned,
        graph.Sqrt: _aligned,
        graph.Rsqrt: _aligned,
        graph.Sigmoid: _aligned,
        graph.Softplus: _aligned,
        graph.Silu: _aligned,
        graph.Relu: _aligned,
        graph.Gelu: _aligned,
        graph.Tanh: _aligned,
        graph.Add: _aligned,
        graph.Subtract: _aligned,
        graph.Multiply: _aligned,
        graph.Divide: _aligned,
        graph.Minimum: _aligned,
        graph.Maximum: _aligned,
        graph.Clamp: _aligned,
        graph.ReduceSum: _reduce_sum,
        graph.ReduceMax: _reduced,
        graph.Softmax: lambda op: _leading(op, 1),
        graph.Linear: _linear,
        graph.GroupedLinear: _grouped_linear,
        graph.Einsum: _einsum,
        graph.RmsNorm: lambda op: _leading(op, 1),
        graph.Rope: _rope,
        graph.Hadamard: lambda op: _leading(op, 1),
        graph.Quantize: _aligned,
        graph.Dequantize: _aligned,
        graph.Sinkhorn: lambda op: _leading(op, 2),
        graph.Append: _append,
        graph.CompletedWindows: _whole,
        graph.PoolWindows: _whole,
        graph.WindowIndex: _whole,
        graph.VisibleCount: _whole,
        graph.TopK: _top_k,
        graph.Attend: _attend,
        graph.Dispatch: _whole,
        graph.Combine: _combine,
        graph.Layers: _whole,
        graph.Fused: _whole,
        graph.Yield: _whole,
    },
)
