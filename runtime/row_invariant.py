"""Products whose rows do not depend on how many rows a call has: for bit-equal runs on any ranks.

Libraries choose how to add by the shape of a product, so that a row's last bits change with the
number of rows beside it. Here every product has the same shape however many rows there are: blocks
of `ROWS` rows, the last one padded, or one token alone where sizes belong to its sequence. Within a
shape, a row's bits do not depend on its place or on the other rows (`tests/runtime` looks at that
for the library at hand). Ops that are not in `FUNCTIONS` work row by row anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from xdsl.ir import Operation

from supertile.ir import graph
from supertile.runtime import graph_ops, sequence_ops
from supertile.runtime.graph_ops import Array, Weights, plain, take_rows
from supertile.runtime.numerics import F32, Scaled
from supertile.runtime.sequence_ops import Index

ROWS = 16
"""Fewer waste less on single rows, more are faster for many: see docs/running.md."""


def linear(x: F32 | Scaled, w: F32 | Scaled) -> F32:
    """[.., K] and [N, K] -> [.., N]."""
    if isinstance(x, Scaled) and isinstance(w, Scaled):
        lead = x.shape[:-1]
        return _in_blocks(graph_ops.matrix_of(x), w).reshape(*lead, w.shape[0])
    rows = np.ascontiguousarray(plain(x)).reshape(-1, x.shape[-1])
    blocks = _padded(rows, -len(rows) % ROWS).reshape(-1, ROWS, rows.shape[1])
    # BLAS is faster with few columns than with few rows.
    product = np.matmul(plain(w), blocks.transpose(0, 2, 1)).transpose(0, 2, 1)
    # What reads the result adds by how its numbers lie: one after the other, also of one block.
    flat: F32 = np.ascontiguousarray(product).reshape(-1, w.shape[0])[: len(rows)]
    return flat.reshape(*x.shape[:-1], w.shape[0])


def _in_blocks(x: Scaled, w: Scaled) -> F32:
    """[M, K] and [N, K], both scaled -> [M, N]."""
    result = np.empty((x.shape[0], w.shape[0]), np.float32)
    for start in range(0, len(result), ROWS):
        block = take_rows(x, slice(start, start + ROWS))
        count = block.shape[0]
        result[start : start + count] = graph_ops.linear(_padded(block, ROWS - count), w)[:count]
    return result


def _padded(x: Any, count: int) -> Any:
    """`count` more rows of zeros, or of codes whose numbers are finite."""
    if isinstance(x, Scaled):
        return replace(x, codes=_padded(x.codes, count), scales=_padded(x.scales, count))
    return np.concatenate([x, np.zeros((count, *x.shape[1:]), x.dtype)]) if count else x


def grouped_linear(x: F32 | Scaled, w: Weights, counts: Index) -> F32:
    """x [R, K], w [E, N, K] -> [R, N]."""
    return graph_ops.grouped_linear(x, w, counts, linear)


def einsum(inputs: list[F32 | Scaled], sequence: Index | None, equation: str) -> F32:
    """As `graph_ops.einsum`; what reads its sequence is taken token by token."""
    operands = [plain(x) for x in inputs]
    left, result = equation.split("->")
    terms = left.split(",")
    count = _tokens(operands, terms)
    if not count:
        return graph_ops.einsum(inputs, sequence, equation)
    size = ROWS
    places: list[dict[str, Any]] = [{"t": slice(at, at + ROWS)} for at in range(0, count, ROWS)]
    if "b" in left:
        assert sequence is not None, f"{equation} needs the sequence of each token"
        size = 1
        places = [{"t": slice(t, t + 1), "b": b} for t, b in enumerate(sequence.tolist())]
    bare = [term.replace("b", "") for term in terms]
    pieces = []
    for at in places:
        held = [graph_ops.part_of(x, term, at) for x, term in zip(operands, terms, strict=True)]
        full = [_filled(x, term, size) for x, term in zip(held, bare, strict=True)]
        pieces.append(graph_ops.contract(full, bare, result))
    axis = result.index("t")
    whole = np.concatenate(pieces, axis=axis)
    return np.ascontiguousarray(whole[(slice(None),) * axis + (slice(count),)])


def _tokens(operands: list[Array], terms: list[str]) -> int:
    """How many tokens there are; none where no operand has any."""
    sizes = [x.shape[t.index("t")] for x, t in zip(operands, terms, strict=True) if "t" in t]
    return max(sizes, default=0)


def _filled(x: Array, term: str, size: int) -> Array:
    """x with `size` tokens, zeros behind those that there are, one number after the other."""
    axis = term.find("t")
    if axis >= 0 and x.shape[axis] < size:
        full = np.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
        full[(slice(None),) * axis + (slice(x.shape[axis]),)] = x
        return full
    return np.ascontiguousarray(x)


FUNCTIONS: dict[type[Operation], Callable[..., Any]] = {
    graph.Linear: linear,
    graph.GroupedLinear: grouped_linear,
    graph.Einsum: einsum,
    graph.Attend: partial(sequence_ops.attend, alone=True),
}
