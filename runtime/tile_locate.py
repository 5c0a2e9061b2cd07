"""Formulas of `tile.locate`: which row of a call, of a state or of an expert a tile's rows are.

A formula takes tiles of int32, starts of tiles, and whole index vectors that are read in place,
then the numbers of the op. Row t of a call is token `position[t]` of `sequence[t]`; `length` tokens
of its sequence came before the call and `total` are there after it. -1 stands for none: it pads
tiles, and comes out where the equation says nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.runtime.sequence_ops import I32, Index, window_index

# ---- numbers -----------------------------------------------------------------------------------


def numbers(start: int, rows: int, columns: int) -> I32:
    """y[i, k] = (start + i) columns + k: the numbers of all elements of some rows."""
    first = start * columns
    return np.arange(first, first + rows * columns, dtype=np.int32).reshape(rows, columns)


def row_numbers(start: int, rows: int) -> I32:
    """y[i] = start + i."""
    return numbers(start, rows, 1)[:, 0]


def quotient(x: Index, divisor: int) -> I32:
    """y = x // divisor: the entry of a position, the token of a choice."""
    return _where(x >= 0, x // divisor)


def remainder(x: Index, divisor: int) -> I32:
    """y = x mod divisor: the place of a position in its window, the choice of a token."""
    return _where(x >= 0, x % divisor)


def ascending(x: Index) -> I32:
    """y[i, ..] = the numbers x[i, ..], the smallest first."""
    return np.sort(x, axis=-1).astype(np.int32)


# ---- rings -------------------------------------------------------------------------------------


def total(sequence: Index, own: Index | int, length: Index) -> I32:
    """y[i] = length[i] + |{t: sequence[t] = own[i]}|; sequences ascend, so two searches tell."""
    stop = np.searchsorted(sequence, own, side="right")
    new = stop - np.searchsorted(sequence, own, side="left")
    return _where(np.asarray(own) >= 0, length + new)


def ring_old(slot: Index, length: Index, window: int) -> I32:
    """y[i] = p mod window for the old position p = length - window + slot[i] >= 0."""
    position = length - window + slot
    return _where((slot < window) & (position >= 0), position % window)


def ring_new(position: Index, length: Index, window: int) -> I32:
    """y[i] = position[i] - length[i] + window: the slot of a new token behind the old ones."""
    return _where(position >= 0, position - length + window)


def ring_kept(position: Index, total: Index, window: int) -> I32:
    """y[i] = position[i] mod window where position[i] >= total[i] - window: the last ones."""
    return _where((position >= 0) & (position >= total - window), position % window)


def window_slots(position: Index, length: Index, window: int) -> I32:
    """y[i, j] = the slot of position max(0, position[i] - window + 1) + j: `graph.window_index`."""
    own = np.arange(len(position), dtype=np.int32)
    return window_index(own, position, length, window)


# ---- windows -----------------------------------------------------------------------------------


def window_place(position: Index, start: int, rows: int, ratio: int) -> I32:
    """y[i] = |{t < start + i: position[t] ends a window}| where row start + i ends one."""
    own = position[start : start + rows]
    last = (own + 1) % ratio == 0
    before = np.count_nonzero((position[:start] + 1) % ratio == 0)
    place = np.full(rows, -1, dtype=np.int32)
    place[: len(own)] = np.where(last, before + np.cumsum(last) - 1, -1)
    return place


def window_first(position: Index, ratio: int) -> I32:
    """y[i] = position[i] - ratio + 1: the first position of the window that ends there."""
    return _where(position >= 0, position - (ratio - 1))


def pool_new(last: Index, position: Index, length: Index, ratio: int, before: int) -> I32:
    """y[i, j] = last[i] - before + j where position[i] - before + j >= length[i]: a new token."""
    back = np.arange(ratio) - before
    return _where(position[:, None] + back >= length[:, None], last[:, None] + back)


def pool_old(position: Index, length: Index, ratio: int, before: int, overlap: int) -> I32:
    """y[i, j] = p - (length[i] // ratio - overlap) ratio, p = position[i] - before + j, p old."""
    at = position[:, None] - before + np.arange(ratio)
    row = at - ((length // ratio - overlap) * ratio)[:, None]
    return _where((at >= 0) & (at < length[:, None]) & (row >= 0), row)


def pool_kept(position: Index, total: Index, ratio: int, overlap: int) -> I32:
    """y[i] = position[i] - (total[i] // ratio - overlap) ratio: where the state holds a token."""
    row = position - (total // ratio - overlap) * ratio
    return _where((position >= 0) & (row >= 0), row)


def pool_moved(length: Index, total: Index, ratio: int, first: int) -> I32:
    """y[j] = first + j, j < ratio, where the call completes a window: the unfinished one moves."""
    return _where(total // ratio > length // ratio, first + np.arange(ratio))


# ---- experts -----------------------------------------------------------------------------------


def expert_counts(counts: Index, chosen: Index) -> I32:
    """y[e] = counts[e] + |{i, k: chosen[i, k] = e}|."""
    return (counts + _tally(chosen, len(counts))).astype(np.int32)


def expert_counts_before(counts: Index, chosen: Index, at: int, start: int) -> I32:
    """y = expert_counts(counts, chosen) where at < start, else counts."""
    return expert_counts(counts, chosen) if at < start else counts.astype(np.int32)


def expert_place(chosen: Index, counts: Index, before: Index) -> I32:
    """y[i, k] = rows of smaller experts + before[e] + how many of the tile so far chose e, too."""
    flat = chosen.reshape(-1)
    order = np.argsort(flat, kind="stable")
    held = flat[order]
    rank = np.empty(len(flat), dtype=np.int64)
    rank[order] = np.arange(len(flat)) - np.searchsorted(held, held)
    first = np.cumsum(counts) - counts + before
    place = _where(flat >= 0, first[np.maximum(flat, 0)] + rank)
    return place.reshape(chosen.shape)


def _tally(chosen: Index, experts: int) -> npt.NDArray[np.intp]:
    return np.bincount(chosen[chosen >= 0], minlength=experts)


def _where(there: Any, number: Any) -> I32:
    """The number where there is one, else -1."""
    return np.where(there, number, -1).astype(np.int32)


LOCATE: dict[str, Callable[..., I32]] = {
    formula.__name__: formula
    for formula in (
        numbers, row_numbers, quotient, remainder, ascending,
        total, ring_old, ring_new, ring_kept, window_slots,
        window_place, window_first, pool_new, pool_old, pool_kept, pool_moved,
        expert_counts, expert_counts_before, expert_place,
    )
}  # fmt: skip
"""The formulas by name."""
