"""Kernels of the ops that know sequences against the ops on whole tensors, for ragged batches."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from kernel_of_op import CALL, argument, blocks_backwards, kernel_of, sizes_of

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, StateAttr, f32, tensor
from supertile.runtime import sequence_ops

quick = settings(max_examples=50, deadline=None)
lengths = st.integers(0, 13)
# (tokens before the call, tokens of the call) of each sequence.
ragged = st.lists(st.tuples(lengths, st.integers(0, 11)), min_size=1, max_size=5)
decode = st.lists(st.tuples(lengths, st.just(1)), min_size=1, max_size=5)
batches = (ragged | decode).filter(lambda batch: any(new for _, new in batch))
steps = st.sampled_from([1, 2, 3, 5, 64])


def call_of(batch):
    """sequence, position, length."""
    new = [count for _, count in batch]
    at = [np.arange(old, old + count) for old, count in batch]
    parts = np.repeat(np.arange(len(batch)), new), np.concatenate(at), [old for old, _ in batch]
    return [np.array(part, dtype=np.int32) for part in parts]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def state_of(*shape):
    """A state of which some rows were never written."""
    state = normal(*shape, seed=9)
    state[:, ::3] = np.nan
    return state


def check(kernel, function, operands, tolerance=0.0, **properties):
    """The kernel and the function give the same results and leave the same state."""
    expected = function(*[x.copy() for x in operands], **properties)
    with blocks_backwards():
        backwards = kernel.launch([x.copy() for x in operands])
    found = kernel.launch(operands)
    for got, wanted, other in zip(found, expected, backwards, strict=True):
        np.testing.assert_array_equal(got, other)
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
    return found


# ---- state -------------------------------------------------------------------------------------


def ring_kernel(window, step, *channels):
    arguments = [
        argument(tensor([DYNAMIC, window, *channels], f32), "B"),
        argument(tensor([DYNAMIC, *channels], f32), "T"),
        *CALL,
    ]
    kind = StateAttr.of("ring", "kv", [window])
    return kernel_of(graph.Append, arguments, sizes_of(step), kind=kind)


def filled_ring(batch, window):
    """A ring in which the slots without a position hold NaN: nothing may read them."""
    ring = normal(len(batch), window, 2, seed=3)
    for b, (old, _) in enumerate(batch):
        ring[b, old:] = np.nan
    return ring


@quick
@given(batches, st.integers(1, 6), steps)
def test_a_ring_is_seen_in_order_and_keeps_the_last_rows(batch, window, step):
    call = call_of(batch)
    state, rows = filled_ring(batch, window), normal(len(call[0]), 2)
    seen, kept = check(
        ring_kernel(window, step, 2),
        sequence_ops.append,
        [state, rows, *call],
        kind=StateAttr.of("ring", "kv", [window]),
    )
    assert kept is state and not np.isnan(seen).any()


def test_rows_of_a_ring_may_have_heads():
    call = call_of([(5, 4), (0, 0), (1, 7)])
    check(
        ring_kernel(4, 2, 3, 2),
        sequence_ops.append,
        [normal(3, 4, 3, 2, seed=1), normal(11, 3, 2), *call],
        kind=StateAttr.of("ring", "kv", [4]),
    )


@quick
@given(batches, st.integers(1, 4), steps)
def test_blocks_hold_a_row_for_each_entry(batch, ratio, step):
    kind = StateAttr.of("blocks", "kv", [ratio])
    arguments = [
        argument(tensor([DYNAMIC, DYNAMIC, 2], f32), "B"),
        argument(tensor([DYNAMIC, 2], f32), "T"),
        *CALL,
    ]
    kernel = kernel_of(graph.Append, arguments, sizes_of(step), kind=kind)
    sequence, position, length = call_of(batch)
    first = position % ratio == 0  # one row for each entry, as windows have
    call = [sequence[first], position[first], length]
    operands = [state_of(len(batch), 25, 2), normal(int(first.sum()), 2), *call]
    seen, kept = check(kernel, sequence_ops.append, operands, kind=kind)
    assert seen is operands[0] and kept is operands[0]


def test_an_entry_beyond_the_capacity_is_an_error():
    kind = StateAttr.of("blocks", "kv", [4])
    arguments = [
        argument(tensor([1, 2, 1], f32), "B"),
        argument(tensor([DYNAMIC, 1], f32), "T"),
        *CALL,
    ]
    kernel = kernel_of(graph.Append, arguments, sizes_of(2), kind=kind)
    with pytest.raises(IndexError):
        kernel.launch([normal(1, 2, 1), normal(1, 1), *call_of([(8, 1)])])


# ---- windows -----------------------------------------------------------------------------------


@quick
@given(batches, st.integers(1, 6), steps)
def test_window_index(batch, window, step):
    kernel = kernel_of(graph.WindowIndex, CALL, sizes_of(step), window=window)
    check(
        kernel,
        lambda *call, window: [sequence_ops.window_index(*call, window)],
        call_of(batch),
        window=window,
    )


@quick
@given(batches, st.integers(1, 5), steps)
def test_completed_windows(batch, ratio, step):
    kernel = kernel_of(graph.CompletedWindows, CALL, sizes_of(step), ratio=ratio)
    check(kernel, sequence_ops.completed_windows, call_of(batch), ratio=ratio)


def test_a_call_may_complete_no_window():
    kernel = kernel_of(graph.CompletedWindows, CALL, sizes_of(2), ratio=4)
    sequence, position = kernel.launch(call_of([(0, 3), (4, 1)]))
    assert sequence.shape == position.shape == (0,)


def pool_kernel(ratio, overlap, width, sizes):
    slots = (1 + overlap) * ratio
    arguments = [
        argument(tensor([DYNAMIC, slots, 2, width], f32), "B"),
        argument(tensor([DYNAMIC, width], f32), "T"),
        argument(tensor([DYNAMIC, width], f32), "T"),
        argument(tensor([ratio, width], f32)),
        *CALL,
    ]
    return kernel_of(graph.PoolWindows, arguments, sizes, ratio=ratio, overlap=overlap)


@quick
@given(
    batches,
    st.sampled_from([(1, 0), (3, 0), (4, 1), (2, 1), (1, 1)]),
    steps,
    st.sampled_from([1, 2, 3, 64]),
)
def test_pooling_gives_the_rows_and_the_state_of_the_op(batch, case, step, columns):
    ratio, overlap = case
    width, call = 5 * (1 + overlap), call_of(batch)
    state = normal(len(batch), (1 + overlap) * ratio, 2, width, seed=1)
    for b, (old, _) in enumerate(batch):
        state[b, overlap * ratio + old % ratio :] = np.nan  # positions that are yet to come
        if old < ratio:
            state[b, : overlap * ratio] = np.nan
    rows = [normal(len(call[0]), width, seed=seed) for seed in (2, 3)]
    pooled, kept = check(
        pool_kernel(ratio, overlap, width, sizes_of(step, columns)),
        sequence_ops.pool_windows,
        [state, *rows, normal(ratio, width, seed=4), *call],
        1e-6,
        ratio=ratio,
        overlap=overlap,
    )
    assert kept is state and not np.isnan(pooled).any()


@pytest.mark.parametrize("split", [[13, 1, 1, 1, 1], [1, 6, 2, 9, 0], [4, 4, 4, 4, 1]])
def test_pooling_does_not_depend_on_how_tokens_come_in_calls(split):
    """One sequence call by call, beside another that has its tokens at once."""
    values, scores, bias = normal(17, 6, seed=5), normal(17, 6, seed=6), normal(4, 6, seed=7)
    kernel = pool_kernel(4, 1, 6, sizes_of(3, 2))
    state, pooled = np.full((1, 8, 2, 6), np.nan, np.float32), []
    for start, new in zip(np.cumsum([0, *split]), split, strict=False):
        part = slice(start, start + new)
        call = call_of([(int(start), new)])
        pooled.append(kernel.launch([state, values[part], scores[part], bias, *call])[0])
    whole = np.full((1, 8, 2, 6), np.nan, np.float32)
    expected, _ = sequence_ops.pool_windows(
        whole, values, scores, bias, *call_of([(0, 17)]), ratio=4, overlap=1
    )
    np.testing.assert_allclose(np.concatenate(pooled), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(state[:, :5], whole[:, :5])
