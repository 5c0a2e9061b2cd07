"""State, windows and attention against loops over single positions, for any split into calls."""

from collections.abc import Iterator
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir.types import StateAttr
from supertile.runtime import sequence_ops as ops
from supertile.runtime.numerics import F32, bf16_bits, bf16_from_bits, round_bf16

VECTORS = Path(__file__).parents[1] / "data" / "deepseek_v4_deployed" / "vectors.npz"
Array = npt.NDArray[Any]

# New tokens of three sequences in each of up to five calls.
splits = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=1, max_size=5)
quick = settings(max_examples=60, deadline=None)


class Call(NamedTuple):
    """The tokens of one call."""

    sequence: Array
    position: Array
    length: Array

    def of(self, tokens: list[F32]) -> F32:
        """Rows of the call from an array of all positions for each sequence."""
        pairs = zip(self.sequence, self.position, strict=True)
        return np.array([tokens[b][p] for b, p in pairs], np.float32).reshape(
            -1, *tokens[0].shape[1:]
        )


def call(length: list[int], new: list[int]) -> Call:
    sequence = np.repeat(np.arange(len(new)), new)
    parts = [np.arange(old, old + more) for old, more in zip(length, new, strict=True)]
    at = np.concatenate(parts)
    return Call(sequence.astype(np.int32), at.astype(np.int32), np.array(length, dtype=np.int32))


def calls(split: list[list[int]]) -> Iterator[Call]:
    length = [0] * len(split[0])
    for new in split:
        yield call(length, new)
        length = [a + b for a, b in zip(length, new, strict=True)]


def tokens_of(split: list[list[int]], *shape: int, seed: int = 0) -> list[F32]:
    """Random numbers for all tokens of each sequence."""
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((count, *shape), dtype=np.float32) for count in np.sum(split, axis=0)
    ]


def unwritten(*shape: int) -> F32:
    """State in which reading anything stale shows."""
    return np.full(shape, np.nan, dtype=np.float32)


# ---- runs and tiles ------------------------------------------------------------------------------


def test_runs_are_the_rows_of_one_sequence() -> None:
    assert ops.runs(np.array([0, 0, 2, 5, 5])) == [(0, 0, 2), (2, 2, 3), (5, 3, 5)]
    assert ops.runs(np.array([], dtype=np.int32)) == []


def test_a_tile_is_of_one_sequence() -> None:
    assert ops.tiles(np.array([0, 0, 0, 1]), 2) == [
        (slice(0, 2), slice(0, 1)),
        (slice(2, 3), slice(0, 1)),
        (slice(3, 4), slice(1, 2)),
    ]


def test_single_tokens_of_consecutive_sequences_share_a_tile() -> None:
    assert ops.tiles(np.array([2, 3, 4]), 2) == [
        (slice(0, 2), slice(2, 4)),
        (slice(2, 3), slice(4, 5)),
    ]
    assert len(ops.tiles(np.array([2, 4]), 8)) == 2


# ---- state ---------------------------------------------------------------------------------------


@quick
@given(splits, st.integers(1, 6))
def test_a_ring_shows_the_last_positions_then_the_new_ones(
    split: list[list[int]], window: int
) -> None:
    tokens = tokens_of(split, 2)
    state = unwritten(3, window, 2)
    for each in calls(split):
        rows = each.of(tokens)
        seen, kept = ops.append(state, rows, *each, kind=StateAttr.of("ring", "kv", [window]))
        assert kept is state
        new = np.bincount(each.sequence, minlength=3)
        assert seen.shape == (3, window + new.max(), 2)
        for b, slot in np.ndindex(*seen.shape[:2]):
            position = each.length[b] - window + slot
            there = 0 <= position < each.length[b] + new[b]
            assert np.array_equal(seen[b, slot], tokens[b][position] if there else [0, 0])


@quick
@given(splits, st.integers(1, 4))
def test_blocks_hold_an_entry_for_each_completed_window(split: list[list[int]], ratio: int) -> None:
    entries = [rows[: len(rows) // ratio] for rows in tokens_of(split, 2)]
    state = np.zeros((3, 50, 2), dtype=np.float32)
    for each in calls(split):
        sequence, position = ops.completed_windows(*each, ratio=ratio)
        pairs = zip(sequence, position, strict=True)
        rows = np.array([entries[b][p // ratio] for b, p in pairs], np.float32).reshape(-1, 2)
        kind = StateAttr.of("blocks", "kv", [ratio])
        seen, kept = ops.append(state, rows, sequence, position, each.length, kind=kind)
        assert seen is state and kept is state
    for b, held in enumerate(entries):
        assert np.array_equal(state[b, : len(held)], held)
        assert not state[b, len(held) :].any()


def test_blocks_refuse_an_entry_beyond_their_capacity() -> None:
    one = call([8], [1])
    with pytest.raises(ValueError, match="capacity 2"):
        kind = StateAttr.of("blocks", "kv", [4])
        ops.append(np.zeros((1, 2, 1), np.float32), np.ones((1, 1), np.float32), *one, kind=kind)


# ---- windows -------------------------------------------------------------------------------------


@quick
@given(splits, st.integers(1, 5))
def test_completed_windows_end_in_the_call(split: list[list[int]], ratio: int) -> None:
    for each in calls(split):
        expected = []
        for b, old in enumerate(each.length):
            total = old + np.count_nonzero(each.sequence == b)
            expected += [(b, p) for p in range(0, total, ratio) if old < p + ratio <= total]
        sequence, position = ops.completed_windows(*each, ratio=ratio)
        assert list(zip(sequence, position, strict=True)) == expected
        assert sequence.dtype == position.dtype == np.int32


def test_visible_count() -> None:
    assert ops.visible_count(np.array([0, 2, 3, 4, 7]), ratio=4).tolist() == [0, 0, 1, 1, 2]


@quick
@given(splits, st.integers(1, 6))
def test_window_index_points_at_the_last_positions(split: list[list[int]], window: int) -> None:
    state = unwritten(3, window)
    for each in calls(split):
        rows = each.position.astype(np.float32)
        seen, _ = ops.append(state, rows, *each, kind=StateAttr.of("ring", "kv", [window]))
        index = ops.window_index(*each, window=window)
        assert index.shape == (len(rows), window) and index.dtype == np.int32
        for b, p, slots in zip(each.sequence, each.position, index, strict=True):
            expected = list(range(max(0, p - window + 1), p + 1))
            assert seen[b, slots[: len(expected)]].tolist() == expected
            assert (slots[len(expected) :] == -1).all()


def pooled(values: F32, scores: F32, bias: F32, window: int, ratio: int, overlap: int) -> Array:
    """One window of one sequence, slot by slot."""
    width = values.shape[1] // (1 + overlap)
    total, weight = np.zeros(width), np.zeros(width)
    for slot in range((1 + overlap) * ratio):
        position = (window - overlap) * ratio + slot
        if position < 0:
            continue
        part = slice(0, width) if slot < overlap * ratio else slice(overlap * width, None)
        e = np.exp(np.float64(scores[position, part] + bias[position % ratio, part]))
        total, weight = total + e * values[position, part], weight + e
    return total / weight


@quick
@given(splits, st.sampled_from([(1, 0), (3, 0), (4, 1), (2, 1), (1, 1)]))
def test_pooling_of_any_split_is_that_of_whole_sequences(
    split: list[list[int]], case: tuple[int, int]
) -> None:
    ratio, overlap = case
    width = 2 * (1 + overlap)
    values, scores = tokens_of(split, width), tokens_of(split, width, seed=1)
    bias = np.random.default_rng(2).standard_normal((ratio, width), dtype=np.float32)
    state = unwritten(3, (1 + overlap) * ratio, 2, width)
    for each in calls(split):
        inputs = (each.of(values), each.of(scores), bias)
        rows, kept = ops.pool_windows(state, *inputs, *each, ratio=ratio, overlap=overlap)
        assert kept is state and rows.dtype == np.float32
        windows = zip(*ops.completed_windows(*each, ratio=ratio), strict=True)
        expected = [
            pooled(values[b], scores[b], bias, p // ratio, ratio, overlap) for b, p in windows
        ]
        assert rows.shape == (len(expected), width // (1 + overlap))
        np.testing.assert_allclose(rows, np.reshape(expected, rows.shape), rtol=1e-4, atol=1e-5)


@quick
@given(splits)
def test_the_state_of_pooling_is_the_unfinished_window_and_the_one_before(
    split: list[list[int]],
) -> None:
    values, scores = tokens_of(split, 4), tokens_of(split, 4, seed=1)
    state, bias = unwritten(3, 6, 2, 4), np.zeros((3, 4), dtype=np.float32)
    for each in calls(split):
        inputs = (each.of(values), each.of(scores), bias)
        ops.pool_windows(state, *inputs, *each, ratio=3, overlap=1)
    for b in range(3):
        first = (len(values[b]) // 3 - 1) * 3
        for position in range(max(first, 0), len(values[b])):
            assert np.array_equal(state[b, position - first, 0], values[b][position])
            assert np.array_equal(state[b, position - first, 1], scores[b][position])


# ---- attention -----------------------------------------------------------------------------------


class Attention(NamedTuple):
    """Operands of an attention op."""

    q: F32
    keys: list[F32]
    values: list[F32]
    index: list[Array]
    sink: F32 | None
    sequence: Array


def attend(case: Attention, width: int, **properties: Any) -> F32:
    return ops.attend(*case, scale=0.4, value_width=width, **properties)


def naive(case: Attention, width: int) -> Array:
    """Token by token and head by head, in float64."""
    tokens, heads, _ = case.q.shape
    result = np.zeros((tokens, heads, width))
    for t, h in np.ndindex(tokens, heads):
        total = 0.0 if case.sink is None else exp(case.sink[h])
        for i, chosen in enumerate(case.index):
            keys = case.keys[i][case.sequence[t]]
            values = case.values[i][case.sequence[t]] if case.values else keys
            picked = chosen[t] if chosen.ndim == 2 else np.arange(chosen[t])
            for s in picked[picked >= 0]:
                head = (s, h // (heads // keys.shape[1])) if keys.ndim == 3 else (s,)
                e = exp(0.4 * np.dot(case.q[t, h].astype(float), keys[head]))
                total += e
                result[t, h] += e * values[head][:width]
        result[t, h] /= total or 1
    return result


def random_index(rng: np.random.Generator, kind: str, tokens: int, keys: int) -> Array:
    match kind:
        case "count":
            return rng.integers(0, keys + 1, tokens)
        case "ascending":  # as a window: consecutive keys, empty ones last
            start = rng.integers(0, keys - 3, tokens)[:, None] + np.arange(4)
            return np.where(np.arange(4) < rng.integers(0, 5, tokens)[:, None], start, -1)
        case "chosen":  # as a selection: any order, empty ones anywhere
            picked = np.argsort(rng.random((tokens, keys)), axis=1)[:, : keys // 2]
            return np.where(rng.random(picked.shape) < 0.2, -1, picked)
        case "repeated":
            return rng.integers(-1, keys, (tokens, 3))
        case _:
            return np.full((tokens, 2), -1)


KINDS = ("count", "ascending", "chosen", "repeated", "nothing")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=4),
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=3),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 9),
)
def test_attention_is_one_softmax_over_all_sources(
    new: list[int], kinds: list[str], key_heads: int | None, own: bool, sink: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    each = call([0] * len(new), new)
    tokens, counts = len(each.sequence), [int(rng.integers(4, 12)) for _ in kinds]
    lead = [(len(new), n) if key_heads is None else (len(new), n, key_heads) for n in counts]
    held = [rng.standard_normal((*shape, 5), dtype=np.float32) for shape in lead]
    case = Attention(
        rng.standard_normal((tokens, 4, 5), dtype=np.float32),
        held,
        [rng.standard_normal((*shape, 3), dtype=np.float32) for shape in lead] if own else [],
        [random_index(rng, kind, tokens, n) for kind, n in zip(kinds, counts, strict=True)],
        rng.standard_normal(4, dtype=np.float32) if sink else None,
        each.sequence,
    )
    got = attend(case, 3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, naive(case, 3), atol=2e-5)
    # Rounded weights change a result by steps of bf16, never the meaning.
    np.testing.assert_allclose(attend(case, 3, round="bf16", block=4), naive(case, 3), atol=0.05)


def test_attention_of_many_tokens_works_in_tiles() -> None:
    rng = np.random.default_rng(0)
    each = call([7, 0], [150, 20])
    index = ops.window_index(*each, window=16)
    keys = rng.standard_normal((2, 166, 8), dtype=np.float32)
    q = rng.standard_normal((170, 4, 8), dtype=np.float32)
    case = Attention(q, [keys, keys], [], [index, each.position // 4], None, each.sequence)
    np.testing.assert_allclose(attend(case, 8), naive(case, 8), atol=2e-5)


def test_nothing_visible_gives_zeros_without_warnings() -> None:
    q, keys = np.ones((1, 1, 2), np.float32), np.ones((1, 3, 2), np.float32)
    with np.errstate(all="raise"):
        for sink in (None, np.zeros(1, np.float32)):
            for index in (np.array([[-1, -1]]), np.array([0])):
                case = Attention(q, [keys], [], [index], sink, np.array([0]))
                assert not attend(case, 2).any()
                assert not attend(case, 2, round="bf16", block=64).any()


def test_a_sink_far_above_the_scores_takes_everything() -> None:
    q, keys = np.ones((1, 1, 2), np.float32), np.ones((1, 3, 2), np.float32)
    case = Attention(q, [keys], [], [np.array([3])], np.array([1e4], np.float32), np.array([0]))
    assert not attend(case, 2).any()
    assert not attend(case, 2, round="bf16", block=64).any()


def test_a_key_that_is_not_there_is_an_error() -> None:
    q, keys = np.ones((1, 1, 2), np.float32), np.ones((1, 3, 2), np.float32)
    for index in (np.array([[3]]), np.array([4])):
        with pytest.raises(IndexError):
            attend(Attention(q, [keys], [], [index], None, np.array([0])), 2)


def bf16_steps(a: F32, b: F32) -> Array:
    """How many BF16 numbers lie between; both are BF16."""
    bits = [bf16_bits(x).astype(np.int32) for x in (a, b)]
    ordered = [np.where(x < 32768, x, 32768 - x) for x in bits]
    return np.abs(ordered[0] - ordered[1])


def test_rounded_attention_of_the_released_model() -> None:
    vectors = np.load(VECTORS)
    q, keys, expected = (
        bf16_from_bits(vectors[f"attention.{name}.bf16"]) for name in ("q", "keys", "output")
    )
    index = vectors["attention.index"][0]
    sequence = np.zeros(len(index), dtype=np.int32)
    got = ops.attend(
        q[0], [keys], [], [index], vectors["attention.sink"], sequence,
        scale=64**-0.5, value_width=64, round="bf16", block=64,
    )  # fmt: skip
    steps = bf16_steps(round_bf16(got), expected[0])
    assert (steps == 0).mean() >= 0.99 and steps.max() <= 1


def kernel(case: Attention, scale: float, block: int) -> F32:
    """The released kernel on one token of one head: a running maximum, rescaled block by block."""
    keys, q, index = case.keys[0][0], case.q[0, 0], case.index[0][0]
    top, total, out = -np.inf, np.float32(0), np.zeros(len(q), np.float32)
    for at in range(0, len(index), block):
        held = keys[index[at : at + block]]
        score = np.where(index[at : at + block] < 0, -np.inf, held @ q * np.float32(scale))
        new = max(top, score.max())
        if new == -np.inf:
            continue
        e = np.exp((score - new).astype(np.float32))
        old = np.float32(exp(top - new))
        total, out, top = total * old + e.sum(), out * old + round_bf16(e) @ held, new
    assert case.sink is not None
    return out / (total + np.exp(case.sink[0] - np.float32(top)))


@pytest.mark.parametrize("ascending", [True, False])
def test_rounding_is_relative_to_the_running_maximum_of_the_columns(ascending: bool) -> None:
    rng = np.random.default_rng(3)
    order = np.arange(50) if ascending else rng.permutation(50)
    index = np.where((order < 8) | (order > 45), -1, order)[None]  # the first block may be empty
    case = Attention(
        3 * rng.standard_normal((1, 1, 8), dtype=np.float32),
        [rng.standard_normal((1, 50, 8), dtype=np.float32)],
        [],
        [index],
        np.array([0.5], dtype=np.float32),
        np.array([0]),
    )
    got = attend(case, 8, round="bf16", block=8)
    np.testing.assert_allclose(got[0, 0], kernel(case, 0.4, 8), rtol=1e-5, atol=1e-6)


def test_attention_rounds_to_bf16_only() -> None:
    with pytest.raises(ValueError, match="f16"):
        ops.attend(np.ones((0, 1, 1), np.float32), [], [], [], None, np.zeros(0, int), 1, 1, "f16")
