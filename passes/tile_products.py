"""Phases of products: a grid over blocks of the result, a pipelined loop over the summed axis.

    for m, n in blocks:  sum = 0;  for k: sum += load(X[m, k]) load(W[n, k])^T;  store(sum, Y[m, n])

Grouped products have rows sorted by expert, and no block has rows of two experts.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import f32
from xdsl.ir import SSAValue

from supertile.ir import graph
from supertile.ir.types import type_of
from supertile.passes.kernel_builder import KernelBuilder
from supertile.passes.tile_factors import Factors, factors_of
from supertile.passes.tile_rows import row_workspaces
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase


def lower_product(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """A linear map, or a product by named axes with weights."""
    (op,) = phase.ops
    factors, result = factors_of(op), op.results[0]
    row_workspaces(builder, phase, [result])
    target = builder.ref(result)
    dimensions: list[tuple[SSAValue, int, int]] = [
        (target, factors.y_letters.index(factors.row), sizes.rows),
        *[(target, factors.y_letters.index(letter), 1) for letter in factors.shared],
        (target, factors.y_letters.index(factors.column), sizes.columns),
    ]
    with builder.grid(dimensions) as starts:
        at = dict(zip([factors.row, *factors.shared, factors.column], starts, strict=True))
        length = {c: factors.size(c) for c in factors.x_letters[1:]}
        length |= dict.fromkeys(factors.shared, 1)
        length |= {factors.row: sizes.rows, factors.column: sizes.columns}
        total = _sum(builder, factors, sizes, at, length)
        _store_total(builder, total, result, _place(factors.y_letters, at))


def _sum(
    builder: KernelBuilder,
    factors: Factors,
    sizes: PhaseSizes,
    at: dict[str, SSAValue],
    length: dict[str, int],
) -> SSAValue:
    """The loop over the summed axis: a tile of the result, in float32."""
    where = builder.where
    x_ref, w_ref = builder.ref(factors.x), builder.ref(factors.w)
    zero = builder.fill(0.0, [length[c] for c in factors.y_letters], f32, where.accumulator)
    axis = factors.w_letters.index(factors.summed)
    with builder.loop(w_ref, axis, sizes.depth, [zero]) as body:
        inner, extent = {**at, factors.summed: body.start}, {**length, factors.summed: sizes.depth}
        x = _operand(builder, x_ref, factors.x_letters, inner, extent)
        w = _weight(builder, w_ref, factors, inner, extent)
        body.next = [builder.mma(x, w, body.carried[0])]
    return body.results[0]


def _operand(
    builder: KernelBuilder,
    ref: SSAValue,
    letters: str,
    at: dict[str, SSAValue],
    length: dict[str, int],
    select: Sequence[SSAValue] = (),
) -> SSAValue:
    shape = [length[c] for c in letters]
    return builder.load(ref, _place(letters, at), shape, select, space=builder.where.operand)


def _weight(
    builder: KernelBuilder,
    ref: SSAValue,
    factors: Factors,
    at: dict[str, SSAValue],
    length: dict[str, int],
) -> SSAValue:
    """[columns, depth] of the matrix of the current index of the shared axes."""
    letters = factors.w_letters
    lead = len(factors.shared)
    tile = _operand(builder, ref, letters[lead:], at, length, [at[c] for c in letters[:lead]])
    if letters[lead:] == factors.column + factors.summed:
        return tile
    return builder.op(graph.Transpose, [tile], permutation=(1, 0))


def _place(letters: str, at: dict[str, SSAValue]) -> list[tuple[int, SSAValue]]:
    return [(axis, at[c]) for axis, c in enumerate(letters) if c in at]


def _store_total(
    builder: KernelBuilder,
    total: SSAValue,
    result: SSAValue,
    place: Sequence[tuple[int, SSAValue]],
    limit: SSAValue | None = None,
) -> None:
    """The sum, rounded to the element type of the result."""
    element = type_of(result).element_type
    if element != f32:
        total = builder.op(graph.Cast, [total], element)
    for target in builder.targets(result):
        builder.store(total, target, place, limit=limit)


def lower_grouped_product(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Rows of each expert times that expert's matrix."""
    (op,) = phase.ops
    assert isinstance(op, graph.GroupedLinear)
    row_workspaces(builder, phase, [op.result])
    x, w, counts = (builder.ref(value) for value in (op.x, op.w, op.counts))
    target, where = builder.ref(op.result), builder.where
    experts, columns = (counts, 0, sizes.rows, 1), (target, 1, sizes.columns)
    with builder.grid([experts, columns]) as (expert, row, stop, column):
        zero = builder.fill(0.0, [sizes.rows, sizes.columns], f32, where.accumulator)
        with builder.loop(w, 2, sizes.depth, [zero]) as body:
            left = builder.load(
                x,
                [(0, row), (1, body.start)],
                [sizes.rows, sizes.depth],
                limit=stop,
                space=where.operand,
            )
            right = builder.load(
                w,
                [(0, column), (1, body.start)],
                [sizes.columns, sizes.depth],
                [expert],
                space=where.operand,
            )
            body.next = [builder.mma(left, right, body.carried[0])]
        _store_total(builder, body.results[0], op.result, [(0, row), (1, column)], stop)
