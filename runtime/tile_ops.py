"""What each op of the tile dialect means, as NumPy functions; the graph ops keep their own.

A reference is the array, the `Scaled` or the list of experts' arrays that a tensor is elsewhere;
tiles are the same, of static shape. Blocks of a grid run one after the other, which is one of the
orders that the dialect allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.runtime.arithmetic import LIBRARY, Arithmetic
from supertile.runtime.graph_ops import linear
from supertile.runtime.numerics import F32, Scaled
from supertile.runtime.sequence_ops import I32, Index, runs

Array = npt.NDArray[Any]
Spans = Sequence[tuple[int, int]]  # (start, stop) on each axis of a reference

ONE_E8M0 = 127  # the code of 2^0


# ---- grids -------------------------------------------------------------------------------------


def plain_blocks(size: int, step: int) -> list[tuple[int, ...]]:
    """(start,) of each block of an axis."""
    return [(start,) for start in range(0, size, step)]


def group_blocks(counts: Index, step: int) -> list[tuple[int, ...]]:
    """(group, first row, end of the group's rows) of each block of rows sorted by group."""
    blocks: list[tuple[int, ...]] = []
    stop = 0
    for group in np.flatnonzero(counts).tolist():
        start, stop = stop, stop + int(counts[group])
        blocks += [(group, row, stop) for row in range(start, stop, step)]
    return blocks


def sequence_blocks(sequence: Index, step: int) -> list[tuple[int, ...]]:
    """(sequence, first row, end of its rows) of each block of the rows of a call."""
    return [(b, row, stop) for b, start, stop in runs(sequence) for row in range(start, stop, step)]


def blocks_of(ref: Any, axis: int, step: int, ragged: int) -> list[tuple[int, ...]]:
    """The indices that one dimension of a grid gives to each of its blocks."""
    if ragged == 1:
        return group_blocks(ref, step)
    if ragged == 2:
        return sequence_blocks(ref, step)
    return plain_blocks(size_of(ref, axis), step)


def size_of(ref: Any, axis: int) -> int:
    """The size of an axis of a reference; a list of experts has one more axis in front."""
    if isinstance(ref, list):
        return len(ref) if axis == 0 else int(ref[0].shape[axis - 1])
    return int(ref.shape[axis])


# ---- movement ----------------------------------------------------------------------------------


def selected(ref: Any, select: Sequence[int]) -> Any:
    """One index of each of the first axes: of experts, or of axes that have no common scales."""
    for index in select:
        if isinstance(ref, Scaled):
            ref = replace(ref, codes=ref.codes[index], scales=ref.scales[index])
        else:
            ref = ref[index]
    return ref


def load(ref: Any, spans: Spans, shape: Sequence[int], pad: float) -> Any:
    """The part of a reference between the spans, padded to `shape`."""
    if isinstance(ref, Scaled):
        return _load_scaled(ref, spans, shape)
    part = ref[tuple(slice(start, stop) for start, stop in spans)]
    return _padded(part, shape, pad)


def _padded(part: Array, shape: Sequence[int], pad: float) -> Array:
    if part.shape == tuple(shape):
        return part
    result = np.full(shape, pad, dtype=part.dtype)
    result[tuple(slice(size) for size in part.shape)] = part
    return result


def tile_block(block: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    """Scale blocks of a tile: those of the tensor, or the whole tile where it is smaller."""
    lead = len(shape) - len(block)
    return tuple(min(b, size) for b, size in zip(block, shape[lead:], strict=True))


def _load_scaled(ref: Scaled, spans: Spans, shape: Sequence[int]) -> Scaled:
    """Codes and the scales that belong to them; padding is zeros with scales of one."""
    block = ref.block
    lead = len(spans) - len(block)
    parts = [1] * lead + list(block)
    codes = ref.codes[tuple(slice(*span) for span in _code_spans(ref, spans))]
    scales = ref.scales[
        tuple(
            slice(start // part, -(-stop // part))
            for (start, stop), part in zip(spans, parts, strict=True)
        )
    ]
    sizes = tile_block(block, shape)
    one = ONE_E8M0 if scales.dtype == np.uint8 else 1
    counts = [-(-size // part) for size, part in zip(shape, [1] * lead + list(sizes), strict=True)]
    width = shape[-1] // 2 if ref.packed else shape[-1]
    return Scaled(
        _padded(codes, [*shape[:-1], width], 0),
        _padded(scales, counts, one),
        ref.element,
        sizes,
        ref.packed,
    )


def _code_spans(ref: Scaled, spans: Spans) -> list[tuple[int, int]]:
    """Spans of the codes: half as long on the last axis where two codes share a byte."""
    if not ref.packed:
        return list(spans)
    start, stop = spans[-1]
    if start % 2 or stop % 2:
        raise ValueError(f"a tile of packed codes begins and ends at even columns: {spans[-1]}")
    return [*spans[:-1], (start // 2, stop // 2)]


def store(value: Any, ref: Any, spans: Spans) -> None:
    """The part of a tile that lies between the spans, into the reference."""
    if isinstance(ref, Scaled):
        _store_scaled(value, ref, spans)
        return
    part = tuple(slice(stop - start) for start, stop in spans)
    ref[tuple(slice(start, stop) for start, stop in spans)] = value[part]


def _store_scaled(value: Scaled, ref: Scaled, spans: Spans) -> None:
    lead = len(spans) - len(ref.block)
    parts = [1] * lead + list(ref.block)
    store(value.codes, ref.codes, spans)
    store(
        value.scales,
        ref.scales,
        [
            (start // part, -(-stop // part))
            for (start, stop), part in zip(spans, parts, strict=True)
        ],
    )


def gather(
    ref: Any,
    rows: Index,
    spans: Spans,
    shape: Sequence[int],
    pad: float,
    owner: Index | None = None,
) -> Any:
    """Rows of a reference [R, ..], or [B, R, ..] with an owner; of other axes the spans."""
    if isinstance(ref, Scaled):
        return _gather_scaled(ref, rows, spans, shape)
    numbers, known = _row_numbers(rows, owner)
    columns = tuple(slice(start, stop) for start, stop in spans)
    whole = (slice(None),) * len(numbers)
    part = ref[(*whole, *columns)][tuple(np.maximum(number, 0) for number in numbers)]
    if not known.all():
        part[~known] = pad
    return _padded(part, shape, pad)


def _row_numbers(rows: Index, owner: Index | None) -> tuple[tuple[Index, ...], Any]:
    """The numbers of rows on the first axes of a reference, and whether there are such rows."""
    if owner is None:
        return (rows,), rows >= 0
    shape = owner.shape + (1,) * (rows.ndim - owner.ndim)
    owners = np.broadcast_to(owner.reshape(shape), rows.shape)
    return (owners, rows), (owners >= 0) & (rows >= 0)


def _gather_scaled(ref: Scaled, rows: Index, spans: Spans, shape: Sequence[int]) -> Scaled:
    """Rows with their scales; every row has scales of its own."""
    if ref.block[0] != 1 and len(ref.block) == len(spans) + 1:
        raise ValueError(f"rows of blocks of {ref.block} cannot be taken apart")
    held = _load_scaled(ref, [(0, ref.shape[0]), *spans], [ref.shape[0], *shape[rows.ndim :]])
    known, safe = rows >= 0, np.maximum(rows, 0)
    codes, scales = held.codes[safe], held.scales[safe]
    codes[~known] = 0
    return replace(held, codes=codes, scales=scales)


def scatter(value: Any, ref: Any, rows: Index, spans: Spans, owner: Index | None = None) -> None:
    """Rows of a tile to rows of a reference [R, ..], or [B, R, ..] with an owner."""
    numbers, known = _row_numbers(rows, owner)
    columns = tuple(slice(start, stop) for start, stop in spans)
    part = value[(known, *(slice(stop - start) for start, stop in spans))]
    ref[(*(number[known] for number in numbers), *columns)] = part


# ---- arithmetic --------------------------------------------------------------------------------


def mma(x: Any, w: Any, accumulator: F32, arithmetic: Arithmetic = LIBRARY) -> F32:
    """x [m, k] times the transpose of w [n, k], plus the accumulator [m, n]."""
    product: F32 = linear(x, w, arithmetic) + accumulator
    return product


def merge_top_k(best: F32, index: Index, scores: F32, start: int, count: Index) -> tuple[F32, I32]:
    """The best k of k carried (best, index) and of scores [m, n] of indices start, start + 1, ...

    What is carried comes first and has smaller indices, so that position breaks ties.
    """
    k, size = best.shape[1], scores.shape[1]
    column = start + np.arange(size, dtype=np.int32)
    # NaN ranks last, as in `top_k`, but before indices that do not take part.
    shown = np.fmax(scores, np.float32(-np.inf))
    live = column < count[:, None]
    every = np.concatenate([best, np.where(live, shown, np.float32(-np.inf))], axis=1)
    numbers = np.concatenate([index, np.where(live, column, -1)], axis=1).astype(np.int32)
    # Places that hold nothing sort behind real scores of -inf.
    order = np.lexsort((np.arange(k + size)[None].repeat(len(every), 0), numbers < 0, -every))
    chosen = order[:, :k]
    return np.take_along_axis(every, chosen, 1), np.take_along_axis(numbers, chosen, 1)


def mask(scores: F32, index: Index | None, start: int | None, count: Index | None) -> F32:
    """scores [m, h, n] with -inf where index [m, n] is -1, or start + n is not below count [m]."""
    if index is not None:
        there = index >= 0
    else:
        assert start is not None
        assert count is not None
        there = start + np.arange(scores.shape[-1]) < count[:, None]
    middle = (slice(None), *[None] * (scores.ndim - 2), slice(None))
    return np.where(there[middle], scores, np.float32(-np.inf))
