"""Ops that know sequences: state, windows of tokens, attention. See `graph_ops.py` for the rest.

The T tokens of a call belong to B sequences. `sequence` [T] names the sequence of a row: rows of
one sequence are consecutive and sequences ascend. `position` [T] is absolute, `length` [B] how many
tokens a sequence had before the call; so the first row of sequence b has position length[b].
Source of windows, states and the rounded attention: DeepSeek-V4, arXiv 2606.19348, and its released
inference code.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from supertile.ir.types import StateAttr
from supertile.runtime.arithmetic import LIBRARY, Arithmetic
from supertile.runtime.numerics import F32, round_bf16

Index = npt.NDArray[np.integer[Any]]
I32 = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]


def runs(sequence: Index) -> list[tuple[int, int, int]]:
    """(sequence, start, stop) for each run of rows of one sequence, in order."""
    if len(sequence) < 2:  # one token: the usual call, so the quick way
        return [(b, 0, 1) for b in sequence.tolist()]
    edges = (np.flatnonzero(sequence[1:] != sequence[:-1]) + 1).tolist()
    starts = [0, *edges]
    return list(zip(sequence[starts].tolist(), starts, [*edges, len(sequence)], strict=True))


def tiles(sequence: Index, size: int) -> list[tuple[slice, slice]]:
    """(tokens, sequences), at most `size` tokens each, that together are all tokens in order.

    A tile is of one sequence, or it has one token of each of consecutive sequences, as in decoding.
    """
    parts, count = runs(sequence), len(sequence)
    if count and len(parts) == count == parts[-1][0] - parts[0][0] + 1:
        shift, starts = parts[0][0], range(0, count, size)
        spans = [(at, min(at + size, count)) for at in starts]
        return [(slice(at, end), slice(at + shift, end + shift)) for at, end in spans]
    return [
        (slice(at, min(at + size, stop)), slice(b, b + 1))
        for b, start, stop in parts
        for at in range(start, stop, size)
    ]


# ---- state ---------------------------------------------------------------------------------------


def append(
    state: F32, rows: F32, sequence: Index, position: Index, length: Index, kind: StateAttr
) -> tuple[F32, F32]:
    """(what the call sees, state); writes `rows` into the state in place.

    ring [B, W, ..]: position p is held at p mod W. Seen is a new array [B, W + n, ..], n the most
    new rows of a sequence: slot i holds position length[b] - W + i, zeros where there is none.
    blocks [B, capacity, ..]: the row at position p is entry p // ratio. Seen is the state itself.
    ValueError when an entry exceeds the capacity.
    """
    if kind.kind.data == "ring":
        return _append_ring(state, rows, sequence, position, length), state
    if len(rows) == 0:
        return state, state
    entry = position // kind.sizes[0]
    if entry.max() >= state.shape[1]:
        raise ValueError(f"capacity {state.shape[1]} of a state is exceeded by entry {entry.max()}")
    state[sequence, entry] = rows
    return state, state


def _append_ring(state: F32, rows: F32, sequence: Index, position: Index, length: Index) -> F32:
    window, new = state.shape[1], np.bincount(sequence, minlength=len(length))
    most = int(new.max(initial=0))
    seen = np.zeros((state.shape[0], window + most, *state.shape[2:]), dtype=state.dtype)
    for b, kept in enumerate(length.tolist()):
        split = kept % window  # the slot of the oldest kept position, and of the next one
        seen[b, window - split : window] = state[b, :split]
        if kept >= window:
            seen[b, : window - split] = state[b, split:]
    seen[sequence, position - length[sequence] + window] = rows
    if most > window:  # write no slot twice
        last = position >= (length + new)[sequence] - window
        sequence, position, rows = sequence[last], position[last], rows[last]
    state[sequence, position % window] = rows
    return seen


# ---- windows -------------------------------------------------------------------------------------


def completed_windows(
    sequence: Index, position: Index, length: Index, ratio: int
) -> tuple[I32, I32]:
    """Sequence and first position [M] of each window whose last token is in the call, in order."""
    complete = (position + 1) % ratio == 0
    first = position[complete] + (1 - ratio)
    return sequence[complete].astype(np.int32), first.astype(np.int32)


def visible_count(position: Index, ratio: int) -> I32:
    """How many windows of `ratio` tokens are complete once token t is there: [T]."""
    return ((position + 1) // ratio).astype(np.int32)


def window_index(sequence: Index, position: Index, length: Index, window: int) -> I32:
    """[T, W]: where `append` to a ring shows the last W positions of each token, oldest first.

    Column i is position max(0, p - W + 1) + i; -1 where that is beyond p.
    """
    oldest = np.maximum(position - (window - 1), 0)
    column = oldest[:, None] + np.arange(window)
    slot = column - (length[sequence] - window)[:, None]
    return np.where(column <= position[:, None], slot, -1).astype(np.int32)


def pool_windows(
    state: F32,
    values: F32,
    scores: F32,
    bias: F32,
    sequence: Index,
    position: Index,
    length: Index,
    ratio: int,
    overlap: int,
    arithmetic: Arithmetic = LIBRARY,
) -> tuple[F32, F32]:
    """(pooled rows [M, width / (1 + overlap)], state); updates the state in place.

    values, scores [T, width], bias [ratio, width]. The state [B, (1 + overlap) ratio, 2, width]
    holds values (plane 0) and biased scores (plane 1): position p of the unfinished window in row
    overlap * ratio + p mod ratio; before these rows, with overlap, the window before it. Rows that
    a sequence has not written are never read, so that state need not be cleared between sequences.
    """
    phase = position % ratio
    biased = scores + bias[phase]
    complete = phase == ratio - 1
    if not complete.any():
        _keep(state, values, biased, sequence, overlap * ratio + phase)
        return np.empty((0, values.shape[1] // (1 + overlap)), dtype=np.float32), state
    slots = _slots(sequence, position, length, complete, ratio, overlap)
    scored = _read(state[:, :, 1], biased, slots)
    pooled = _pool(_read(state[:, :, 0], values, slots, 0), scored, arithmetic)
    # What was unfinished becomes the previous window; the rows it lacks come with this call.
    done = np.unique(sequence[complete])
    if overlap:
        state[done, :ratio] = state[done, ratio:]
    total = length + np.bincount(sequence, minlength=len(length))
    row = position - ((total // ratio - overlap) * ratio)[sequence]
    recent = row >= 0
    _keep(state, values[recent], biased[recent], sequence[recent], row[recent])
    return pooled, state


def _keep(state: F32, values: F32, biased: F32, sequence: Index, row: Index) -> None:
    state[sequence, row, 0] = values
    state[sequence, row, 1] = biased


class _Slots(NamedTuple):
    """Where the tokens of M windows come from; all [M, S], S = (1 + overlap) ratio."""

    new: Index
    """Row of the call; meaningless for tokens before the call."""
    old: Mask
    """Whether the token came before the call."""
    missing: Mask
    """Whether there is no such token: the window before the first."""
    owner: Index
    """Sequence."""
    kept: Index
    """Row of the state; meaningless for tokens of the call."""
    parts: int
    """1, or 2 with overlap: the previous window gives the first half of the channels."""


def _slots(
    sequence: Index, position: Index, length: Index, complete: Mask, ratio: int, overlap: int
) -> _Slots:
    last, owner = np.flatnonzero(complete)[:, None], sequence[complete][:, None]
    back = np.arange((1 + overlap) * ratio) - ((1 + overlap) * ratio - 1)
    at = position[last] + back
    new, kept = last + back, at - (length[owner] // ratio - overlap) * ratio
    return _Slots(
        np.maximum(new, 0),
        (at >= 0) & (at < length[owner]),
        at < 0,
        np.broadcast_to(owner, at.shape),
        kept,
        1 + overlap,
    )


def _read(plane: F32, rows: F32, slots: _Slots, missing: float = -np.inf) -> F32:
    """[M, S, width / parts] from a plane [B, S, width] of the state and rows [T, width]."""
    count, width = slots.new.shape[1] // slots.parts, rows.shape[1] // slots.parts
    result = np.empty((*slots.new.shape, width), dtype=np.float32)
    for part in range(slots.parts):
        columns = slice(part * count, (part + 1) * count)
        channels = slice(part * width, (part + 1) * width)
        half, old = result[:, columns], slots.old[:, columns]
        half[...] = rows[:, channels][slots.new[:, columns]]
        owner, kept = slots.owner[:, columns][old], slots.kept[:, columns][old]
        half[old] = plane[owner, kept, channels]
        half[slots.missing[:, columns]] = missing
    return result


def _pool(values: F32, scores: F32, arithmetic: Arithmetic) -> F32:
    """The sum over axis 1 of softmax(scores) * values, channel by channel; uses up `scores`."""
    scores -= scores.max(axis=1, keepdims=True)
    weight = arithmetic.exp(scores)
    weight /= arithmetic.total(weight, 1)[:, None]
    weight *= values
    return arithmetic.total(weight, 1)


# ---- attention -----------------------------------------------------------------------------------

_TILE_ROWS = 1024  # tokens times heads of a tile: enough for a fast product, few masked columns
_TILE_FLOATS = 1 << 22  # of one temporary: 16 MiB, and a tile has up to four of them
_SMALLEST = np.finfo(np.float32).smallest_normal
_GATHER_COST = 24  # copying a key costs as much as its products with this many heads


def attend(
    q: F32,
    keys: list[F32],
    values: list[F32],
    index: list[Index],
    sink: F32 | None,
    sequence: Index,
    scale: float,
    value_width: int,
    round: str | None = None,
    block: int | None = None,
    arithmetic: Arithmetic = LIBRARY,
) -> F32:
    """[T, H, value_width]: for each token and head one softmax over the keys of all sources.

    q [T, H, C]; keys [B, S, C] for all heads, or [B, S, heads, C] where H / heads consecutive heads
    share; index [T, n] with -1 for none, or a count [T]: the first ones. A token that sees nothing
    gets zeros. Keys and values that are not visible may be read: they must be finite.

    `round` as in the released attention kernel: columns (the lists of the sources one after the
    other, empty entries too; a count source comes last) are taken in blocks, the weight e^(s -
    running maximum, without the sink) is rounded to bf16 for the product with the values, not for
    the sum.

    Where the arithmetic adds in no order, the result of a token does not depend, to the last bit,
    on the tokens beside it: each one sees its own keys alone, the same however many there are.
    """
    if round not in (None, "bf16"):
        raise ValueError(f"attention rounds to bf16 or not at all, got {round!r}")
    span = (block or 64) if round else None
    keys, values = [_by_head(held) for held in keys], [_by_head(held) for held in values]
    result = np.empty((*q.shape[:2], value_width), dtype=np.float32)
    alone = not arithmetic.order_matters
    for tokens, owner in tiles(sequence, _tile_tokens(q, keys, index, alone)):
        sources = []
        for i, key in enumerate(keys):
            columns = _columns(index[i][tokens], key.shape[1], q.shape[1], span, alone)
            picked = _pick(key[owner], columns, alone)
            beside = _pick(values[i][owner], columns, alone) if values else picked
            sources.append(_Source(picked, beside[..., :value_width], columns.visible))
        result[tokens] = _attend_tile(q[tokens], sources, sink, np.float32(scale), span, arithmetic)
    return result


def _by_head(held: F32) -> F32:
    return held if held.ndim == 4 else held[:, :, None]


def _tile_tokens(q: F32, keys: list[F32], index: list[Index], alone: bool) -> int:
    """How many tokens to attend at once."""
    heads: int = q.shape[1]
    floats = 1
    for key, chosen in zip(keys, index, strict=True):
        columns = chosen.shape[1] if chosen.ndim == 2 else int(chosen.max(initial=0))
        floats += columns * max(
            heads + _GATHER_COST, prod(key.shape[2:]) * (alone or chosen.ndim == 2)
        )
    return max(1, min(64, _TILE_ROWS // heads, _TILE_FLOATS // floats))


class _Columns(NamedTuple):
    """Which keys of one sequence the columns of a source are, for the t tokens of a tile."""

    visible: Mask
    """[t, n]; columns beyond the keys are not visible."""
    first: int
    """Without a gather: column i is key first + i for all tokens."""
    gather: Index | None
    """[t, n]: the key of each column, anything where not visible."""


class _Source(NamedTuple):
    """Keys [heads, t or 1, m, C] and values [heads, t or 1, m, V] of the first m <= n columns."""

    keys: F32
    values: F32
    visible: Mask


def _columns(chosen: Index, key_count: int, heads: int, block: int | None, alone: bool) -> _Columns:
    """The columns of an index [t, n] or a count [t].

    Keys are gathered only where a stretch of them does not do: where the tokens look at keys far
    apart, or the order of the columns matters and differs from that of the keys. They are always
    gathered for tokens `alone`: a stretch ends where the keys of the call do.
    """
    last = int(chosen.max(initial=-1)) + (chosen.ndim == 2)
    if last > key_count:
        raise IndexError(f"attention to {last} keys of {key_count}")
    if chosen.ndim == 1:
        visible = np.arange(last) < chosen[:, None]
        every = np.broadcast_to(np.arange(last), visible.shape)
        return _Columns(visible, 0, every if alone else None)
    visible = chosen >= 0
    if alone:
        return _Columns(visible, 0, np.maximum(chosen, 0))
    first = int(chosen.min(where=visible, initial=last))
    if ((chosen == first + np.arange(chosen.shape[1])) | ~visible).all():
        return _Columns(visible, first, None)
    if block is None and (last - first) * heads <= chosen.shape[1] * (heads + _GATHER_COST):
        stretch = np.zeros((len(chosen), last - first), dtype=np.bool_)
        token, column = np.nonzero(visible)
        stretch[token, chosen[token, column] - first] = True
        if np.count_nonzero(stretch) == len(token):  # a key listed twice counts twice
            return _Columns(stretch, first, None)
    return _Columns(visible, first, np.maximum(chosen, 0))


def _pick(held: F32, columns: _Columns, alone: bool) -> F32:
    """Keys or values [t or 1, S, heads, C] in the order of the columns: [heads, t or 1, m, C].

    Of tokens `alone` those that are not visible are zeros.
    """
    if columns.gather is None:
        stop = columns.first + columns.visible.shape[1]
        return held[:, columns.first : stop].transpose(2, 0, 1, 3)
    owner = np.arange(len(held))[:, None]
    picked = held[owner, columns.gather]
    if alone:
        picked[~columns.visible] = 0
    return picked.transpose(2, 0, 1, 3)


def _attend_tile(
    q: F32,
    sources: list[_Source],
    sink: F32 | None,
    scale: np.float32,
    block: int | None,
    arithmetic: Arithmetic,
) -> F32:
    """[t, H, V] for q [t, H, C]; inside [heads, t, g, ..], g query heads to a head of the keys."""
    tokens, head_count, width = q.shape
    heads = len(sources[0].keys)
    group = head_count // heads
    split = q.reshape(tokens, heads, group, width).transpose(1, 0, 2, 3)
    columns = sum(source.visible.shape[1] for source in sources)
    columns = -(-max(columns, 1) // (block or 1)) * (block or 1)
    scores = np.full((heads, tokens, group, columns), -np.inf, dtype=np.float32)
    at = 0
    for source in sources:
        count = source.keys.shape[2]
        product = _product(split, source.keys.swapaxes(2, 3), arithmetic)
        product *= scale
        np.copyto(scores[..., at : at + count], product, where=source.visible[:, None, :count])
        at += source.visible.shape[1]
    limit = None if sink is None else sink.reshape(heads, 1, group)
    weight, total = (
        _rounded_weights(scores, limit, block, arithmetic)
        if block
        else _weights(scores, limit, arithmetic)
    )
    mixed = np.zeros((heads, tokens, group, sources[0].values.shape[3]), dtype=np.float32)
    at = 0
    for source in sources:
        part = weight[..., at : at + source.values.shape[2]]
        mixed += _product(part, source.values, arithmetic)
        at += source.visible.shape[1]
    # A token that sees nothing has weights of zero: its total may be zero, its result is.
    mixed /= np.maximum(total, _SMALLEST)[..., None]
    return mixed.transpose(1, 0, 2, 3).reshape(tokens, head_count, -1)


def _product(x: F32, held: F32, arithmetic: Arithmetic) -> F32:
    """x [heads, t, g, a] times [heads, t, a, b]; with 1 for t, one product over t g rows."""
    heads, tokens, group, inner = x.shape
    rows = x.reshape(heads, held.shape[1], tokens // held.shape[1] * group, inner)
    return arithmetic.product(rows, held).reshape(*x.shape[:3], held.shape[3])


def _weights(scores: F32, sink: F32 | None, arithmetic: Arithmetic) -> tuple[F32, F32]:
    """e^(score - maximum) and its sum over the last axis, the sink in both; uses up `scores`."""
    top = scores.max(axis=-1)
    if sink is not None:
        top = np.maximum(top, sink)
    top = _finite(top)
    scores -= top[..., None]
    weight = arithmetic.exp(scores)
    total = arithmetic.total(weight, -1)
    if sink is not None:
        total += arithmetic.exp(sink - top)
    return weight, total


def _rounded_weights(
    scores: F32, sink: F32 | None, block: int, arithmetic: Arithmetic
) -> tuple[F32, F32]:
    """As `_weights`, block by block relative to the running maximum and rounded there.

    The kernel rescales what it has summed whenever the maximum grows. Here each block is rescaled
    once to the last maximum, which is the same up to the rounding of float32.
    """
    blocks = scores.reshape(*scores.shape[:-1], -1, block)
    running = np.maximum.accumulate(blocks.max(axis=-1), axis=-1)
    top = _finite(running[..., -1])
    # Before the first visible key the maximum is -inf; the weights are 0 whatever replaces it.
    running = np.where(running == -np.inf, top[..., None], running)
    blocks -= running[..., None]
    weight = arithmetic.exp(blocks)
    rescale = arithmetic.exp(running - top[..., None])
    total = arithmetic.total(arithmetic.total(weight, -1) * rescale, -1)
    if sink is not None:
        with np.errstate(over="ignore"):  # a sink far above all scores leaves nothing: x / inf
            total += arithmetic.exp(sink - top)
    rounded = round_bf16(weight) * rescale[..., None]
    return rounded.reshape(scores.shape), total


def _finite(top: F32) -> F32:
    """Zero instead of -inf, so that -inf - top is -inf where nothing is visible."""
    return np.where(top == -np.inf, np.float32(0), top)
