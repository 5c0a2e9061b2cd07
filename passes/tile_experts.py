"""Phases of dispatch and combine: rows to experts and back.

    counts = tally of all choices;  place[t, k] = rows of smaller experts + earlier rows of its own
    for rows:  R[rows] = gather(X, order[rows] // K)
    for tokens:  y = R[place[t, 0]] + R[place[t, 1]] + ..., places ascending

It is a counting sort: every block tallies the choices before its own, so that blocks do not wait
for one another.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, MxAttr, tensor, type_of
from supertile.passes.kernel_builder import KernelBuilder
from supertile.passes.tile_rows import row_workspaces, stored
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase

# ---- to the experts ----------------------------------------------------------------------------


def lower_dispatch(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Counts, then the order with the weights, then the rows."""
    (op,) = phase.ops
    assert isinstance(op, graph.Dispatch)
    asked = stored(builder, phase)
    row_workspaces(builder, phase, [*dict.fromkeys([*asked, op.counts, op.order])])
    _count(builder, op, sizes)
    _sort(builder, op, sizes, op.row_weight in asked)
    if op.rows in asked:
        _route(builder, op, sizes)


def _count(builder: KernelBuilder, op: graph.Dispatch, sizes: PhaseSizes) -> None:
    """How many rows each expert gets."""
    experts = op.experts.value.data
    with builder.grid([(builder.ref(op.counts), 0, experts)]) as (start,):
        counts = _tally(builder, op, sizes, "expert_counts", [])
        for target in builder.targets(op.counts):
            builder.store(counts, target, [(0, start)])


def _tally(
    builder: KernelBuilder,
    op: graph.Dispatch,
    sizes: PhaseSizes,
    formula: str,
    bounds: Sequence[SSAValue],
) -> SSAValue:
    """How many choices fall on each expert: all, or those before a row."""
    experts, chosen = op.experts.value.data, builder.ref(op.chosen)
    zero = builder.fill(0.0, [experts], i32, builder.where.vector)
    with builder.loop(chosen, 0, sizes.rows, [zero]) as body:
        held = _choices(builder, op, body.start, sizes.rows)
        inputs = [body.carried[0], held, *([body.start] if bounds else []), *bounds]
        body.next = [builder.locate(formula, inputs, [experts])]
    return body.results[0]


def _choices(builder: KernelBuilder, op: graph.Dispatch, start: SSAValue, rows: int) -> SSAValue:
    """The experts of some tokens; -1 beyond the last."""
    shape = [rows, shape_of(op.chosen)[1]]
    return builder.load(builder.ref(op.chosen), [(0, start)], shape, pad=-1.0)


def _sort(builder: KernelBuilder, op: graph.Dispatch, sizes: PhaseSizes, has_weight: bool) -> None:
    """The number of each choice, and its weight, to its place."""
    chosen = builder.ref(op.chosen)
    shape = [sizes.rows, shape_of(op.chosen)[1]]
    with builder.grid([(chosen, 0, sizes.rows)]) as (start,):
        before = _tally(builder, op, sizes, "expert_counts_before", [start])
        counts = builder.load(builder.ref(op.counts), [], [op.experts.value.data])
        own = _choices(builder, op, start, sizes.rows)
        place = builder.locate("expert_place", [own, counts, before], shape)
        number = builder.locate("numbers", [start], shape, shape)
        for target in builder.targets(op.order):
            builder.scatter(number, target, place)
        if has_weight:
            weight = builder.load(builder.ref(op.weight), [(0, start)], shape)
            for target in builder.targets(op.row_weight):
                builder.scatter(weight, target, place)


def _route(builder: KernelBuilder, op: graph.Dispatch, sizes: PhaseSizes) -> None:
    """The token of each row."""
    choices, target = shape_of(op.chosen)[1], builder.ref(op.rows)
    last, columns = len(shape_of(op.rows)) - 1, _columns(op.rows, sizes.columns)
    shape = [sizes.rows, *shape_of(op.rows)[1:-1], columns]
    with builder.grid([(target, 0, sizes.rows), (target, last, columns)]) as (start, column):
        order = builder.load(builder.ref(op.order), [(0, start)], [sizes.rows], pad=-1.0)
        token = builder.locate("quotient", [order], [sizes.rows], [choices])
        rows = builder.gather(builder.ref(op.x), token, shape, place=[(last - 1, column)])
        for ref in builder.targets(op.rows):
            builder.store(rows, ref, [(0, start), (last, column)])


def _columns(value: SSAValue, asked: int) -> int:
    """Channels of a block: all of them, or whole scale blocks."""
    width, encoding = shape_of(value)[-1], type_of(value).encoding
    whole = encoding.sizes[-1] if isinstance(encoding, MxAttr) else 1
    if asked <= 1:
        return width
    return min(-(-asked // whole) * whole, width)


# ---- and back ----------------------------------------------------------------------------------


def lower_combine(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Where the rows of each token are, then their sum."""
    (op,) = phase.ops
    assert isinstance(op, graph.Combine)
    row_workspaces(builder, phase, [op.result])
    choices, tokens = op.choices.value.data, shape_of(op.result)[0]
    extents = [builder.row_extent(builder.spaces[op.result])] if tokens == DYNAMIC else []
    places = builder.scratch(tensor([tokens, choices], i32), extents)
    _find_rows(builder, op, sizes, places)
    target = builder.ref(op.result)
    last, columns = len(shape_of(op.result)) - 1, _columns(op.result, sizes.columns)
    with builder.grid([(target, 0, sizes.rows), (target, last, columns)]) as (start, column):
        shape = [sizes.rows, choices]
        place = builder.load(places, [(0, start)], shape, pad=-1.0)
        rows = builder.locate("ascending", [place], shape)
        total = _sum(builder, op, rows, column, columns)
        for ref in builder.targets(op.result):
            builder.store(total, ref, [(0, start), (last, column)])


def _find_rows(
    builder: KernelBuilder, op: graph.Combine, sizes: PhaseSizes, places: SSAValue
) -> None:
    """places[order[r] // K, order[r] mod K] = r."""
    order, rows, choices = builder.ref(op.order), sizes.rows, [op.choices.value.data]
    with builder.grid([(order, 0, rows)]) as (start,):
        held = builder.load(order, [(0, start)], [rows], pad=-1.0)
        token = builder.locate("quotient", [held], [rows], choices)
        choice = builder.locate("remainder", [held], [rows], choices)
        number = builder.locate("row_numbers", [start], [rows], [rows])
        builder.scatter(number, places, choice, owner=token)


def _sum(
    builder: KernelBuilder, op: graph.Combine, rows: SSAValue, column: SSAValue, columns: int
) -> SSAValue:
    """Rows of each token added one after the other, in float32."""
    source, (count, choices) = builder.ref(op.rows), shape_of(rows)
    shape = [count, *shape_of(op.rows)[1:-1], columns]
    total: SSAValue | None = None
    for choice in range(choices):
        own = builder.op(graph.Slice, [rows], axis=1, start=choice, size=1)
        own = builder.op(graph.Reshape, [own], shape=[count])
        held = builder.gather(source, own, shape, place=[(len(shape) - 2, column)])
        total = held if total is None else builder.op(graph.Add, [total, held])
    assert total is not None, "a token has at least one expert"
    element = type_of(op.result).element_type
    if type_of(total).element_type != element:
        total = builder.op(graph.Cast, [total], element)
    return total
