"""Phases over the entries of a state: scores of all entries, and the best of them.

    for rows of one sequence:  best = none;  for entries s:  score = f(q, K[s]);  best = merge(...)

The entries are too many for a tile, so that every value that has them as its last axis is computed
block by block. With a `top_k` at the end the blocks form a loop that carries the best so far;
without, they are a dimension of the grid and the values are stored.
"""

from __future__ import annotations

import math

from xdsl.dialects.builtin import f32, i32
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import graph, tile
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, type_of
from supertile.passes.kernel_builder import KernelBuilder, row_type
from supertile.passes.tile_rows import RowTiles, row_workspaces, stored
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase, has_columns


class ColumnTiles(RowTiles):
    """Tiles of some rows and, of values with entries, some entries."""

    def __init__(
        self,
        builder: KernelBuilder,
        space: str,
        start: SSAValue,
        rows: int,
        sequence: SSAValue | None,
        limit: SSAValue | None,
    ) -> None:
        super().__init__(builder, space, start, rows)
        self.sequence = sequence
        self.limit = limit
        self.column: SSAValue | None = None
        self.columns = 1

    def _load(self, value: SSAValue) -> SSAValue:
        if not has_columns(value):
            return super()._load(value)
        assert self.column is not None
        shape = [self.rows, *shape_of(value)[1:-1], self.columns]
        place = [(0, self.start), (len(shape) - 1, self.column)]
        return self.builder.load(self.builder.ref(value), place, shape, limit=self.limit)

    def kind(self, value: SSAValue) -> Attribute:
        if has_columns(value):
            return row_type(value, self.rows, self.columns)
        return super().kind(value)

    def run(self, op: Operation) -> None:
        if isinstance(op, graph.Einsum) and op.sequence is not None:
            self.tiles[op.result] = self._scores(op)
        else:
            super().run(op)

    def _scores(self, op: graph.Einsum) -> SSAValue:
        """The product of the rows with some entries of their one sequence."""
        assert self.sequence is not None
        assert self.column is not None
        left, result = op.equation.data.split("->")
        terms, tiles = left.split(","), []
        for term, operand in zip(terms, op.inputs, strict=True):
            value = operand
            if "b" not in term:
                tiles.append(self.get(value))
                continue
            shape = [self.columns, *shape_of(value)[2:]]
            ref, where = self.builder.ref(value), self.builder.where.operand
            tiles.append(
                self.builder.load(ref, [(0, self.column)], shape, [self.sequence], space=where)
            )
        equation = f"{left.replace('b', '')}->{result}"
        element = type_of(op.result).element_type
        return self.builder.op(graph.Einsum, [tiles, []], element, equation=equation)


def lower_columns(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Scores by a loop with `top_k` at its end, or by a grid that stores them."""
    results = stored(builder, phase)
    last = phase.ops[-1]
    chosen = last if isinstance(last, graph.TopK) else None
    for value in results:
        _workspace(builder, phase, value)
    entries, axis = _entries(builder, phase)
    product = _product(phase)
    rows = (builder.ref(_rows_of(builder, phase)), 0, sizes.rows)
    if product is not None and product.sequence is not None:
        rows = (builder.ref(product.sequence), 0, sizes.rows, 2)  # type: ignore[assignment]
    dimensions = [rows] if chosen else [rows, (entries, axis, sizes.columns)]
    with builder.grid(dimensions) as indices:
        sequence, start, limit = indices[:3] if product else (None, indices[0], None)
        tiles = ColumnTiles(builder, phase.space, start, sizes.rows, sequence, limit)
        tiles.columns = sizes.columns
        if chosen is None:
            tiles.column = indices[-1]
            for op in phase.ops:
                tiles.run(op)
            _store(builder, tiles, results)
            return
        _loop(builder, phase, sizes, tiles, chosen, (entries, axis))
        _store(builder, tiles, [value for value in results if value is chosen.result])


def _store(builder: KernelBuilder, tiles: ColumnTiles, results: list[SSAValue]) -> None:
    for value in results:
        for target in builder.targets(value):
            place = [(0, tiles.start)]
            if has_columns(value):
                assert tiles.column is not None
                place.append((len(shape_of(value)) - 1, tiles.column))
            builder.store(tiles.get(value), target, place, limit=tiles.limit)


def _loop(
    builder: KernelBuilder,
    phase: Phase,
    sizes: PhaseSizes,
    tiles: ColumnTiles,
    chosen: graph.TopK,
    along: tuple[SSAValue, int],
) -> None:
    """All entries in turn, the best k carried. What does not depend on entries comes before."""
    if chosen.count is None:
        raise ValueError("the best entries of a state need a count of the entries that are there")
    count = tiles.get(chosen.count)
    for op in phase.ops:
        for value in op.operands:
            if not has_columns(value) and tiles.is_row(value):
                tiles.get(value)
    k = chosen.k.value.data
    best = builder.fill(-math.inf, [sizes.rows, k], f32, builder.where.vector)
    index = builder.fill(-1, [sizes.rows, k], i32, builder.where.vector)
    with builder.loop(*along, sizes.columns, [best, index]) as body:
        tiles.column = body.start
        for op in phase.ops[:-1]:
            tiles.run(op)
        merged = tile.MergeTopK.create(
            operands=[*body.carried, tiles.get(chosen.scores), body.start, count],
            result_types=[best.type, index.type],
        )
        builder.add(merged)
        body.next = list(merged.results)
        _store(builder, tiles, [v for v in stored(builder, phase) if has_columns(v)])
    tiles.tiles[chosen.result] = body.results[1]


def _product(phase: Phase) -> graph.Einsum | None:
    """The product with the entries of each row's sequence, if the phase has one."""
    found = (op for op in phase.ops if isinstance(op, graph.Einsum))
    return next((op for op in found if op.sequence is not None), None)


def _rows_of(builder: KernelBuilder, phase: Phase) -> SSAValue:
    """A value with a reference whose first axis are the rows of the phase."""
    return next(
        value
        for op in phase.ops
        for value in op.operands
        if builder.spaces.get(value) == phase.space and builder.has_ref(value)
    )


def _entries(builder: KernelBuilder, phase: Phase) -> tuple[SSAValue, int]:
    """A reference with the entries, and which axis they are."""
    product = _product(phase)
    if product is not None:
        terms = product.equation.data.split("->")[0].split(",")
        number = next(n for n, term in enumerate(terms) if "b" in term)
        return builder.ref(product.inputs[number]), 1
    value = next(value for op in phase.ops for value in op.operands if has_columns(value))
    return builder.ref(value), len(shape_of(value)) - 1


def _workspace(builder: KernelBuilder, phase: Phase, value: SSAValue) -> None:
    if not has_columns(value):
        row_workspaces(builder, phase, [value])
        return
    ref, axis = _entries(builder, phase)
    argument = list[SSAValue](builder.body.args).index(ref)
    extents = [builder.row_extent(phase.space)] if shape_of(value)[0] == DYNAMIC else []
    if shape_of(value)[-1] == DYNAMIC:
        extents.append(tile.ExtentAttr.of("size", argument, axis))
    builder.workspace(value, extents)
