"""Sessions: fixed capacity, ragged calls, and state that is updated where it is."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from small_models import Array, random_weights, small_module

from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.plan import plan_module


def session(folder: Path, batch: int = 2, context: int = 8, pipeline: str = "") -> Session:
    module = small_module(folder)
    if pipeline:
        module = module.clone()
        run_passes(module, parse_pipeline(pipeline))
    return Session(Executor(plan_module(module), random_weights), "logits", batch, context)


def logits(session: Session, *rows: list[int]) -> Array:
    """New tokens of each sequence, in one call."""
    ids = np.array([token for row in rows for token in row])
    return session.call({"ids": ids}, [len(row) for row in rows])["logits"]


def test_state_has_room_for_the_batch_and_the_context(tmp_path: Path) -> None:
    states = session(tmp_path, batch=3, context=9).states
    assert [state.shape for state in states] == [(2, 3, 3, 4), (2, 3, 2, 2, 4), (2, 3, 5, 4)]
    assert all((state == 0).all() for state in states)


def test_state_bytes_are_fixed(tmp_path: Path) -> None:
    held = session(tmp_path)
    before = held.state_bytes
    for _ in range(8):
        logits(held, [1], [2])
    assert held.state_bytes == before == sum(state.nbytes for state in held.states)


def test_call_vectors_of_a_ragged_call(tmp_path: Path) -> None:
    held = session(tmp_path)
    logits(held, [1, 2, 3], [4])
    sequence, position, length = held.vectors([2, 3])
    assert sequence.tolist() == [0, 0, 1, 1, 1]
    assert position.tolist() == [3, 4, 1, 2, 3]
    assert length.tolist() == [3, 1]
    assert {array.dtype for array in (sequence, position, length)} == {np.dtype(np.int32)}


def test_any_split_of_the_tokens_gives_the_same(tmp_path: Path) -> None:
    whole = logits(session(tmp_path), [1, 2, 3, 4, 5], [6, 7])
    split = session(tmp_path)
    first = logits(split, [1, 2], [])
    second = logits(split, [3], [6, 7])
    third = logits(split, [4, 5], [])
    ours = np.concatenate([first, second[:1], third, second[1:]])
    assert np.allclose(ours, whole, atol=1e-5)
    assert split.length.tolist() == [5, 2]


def test_sequences_do_not_see_each_other(tmp_path: Path) -> None:
    alone = session(tmp_path, batch=1)
    both = session(tmp_path)
    for token in (3, 1, 4, 1):
        expected = logits(alone, [token])
        assert np.allclose(logits(both, [9, 9], [token])[2:], expected, atol=1e-5)


def test_a_full_session_takes_no_more(tmp_path: Path) -> None:
    held = session(tmp_path, context=4)
    logits(held, [1, 2, 3], [1])
    with pytest.raises(ValueError, match="state for 4 tokens cannot hold 5"):
        logits(held, [4, 5], [])
    logits(held, [4], [2, 3, 4])


def test_state_is_updated_where_it_is(tmp_path: Path) -> None:
    held = session(tmp_path)
    before = list(held.states)
    for token in range(8):
        logits(held, [token], [token])
    assert all(old is new for old, new in zip(before, held.states, strict=True))
    assert all((state != 0).any() for state in held.states)


def traced(session: Session, calls: int) -> tuple[int, int]:
    """Bytes that stay after so many calls, and the most that one of them needed."""
    batch = len(session.length)
    for _ in range(calls):
        gc.collect()
        tracemalloc.reset_peak()
        logits(session, *([1] for _ in range(batch)))
    return tracemalloc.get_traced_memory()


def test_decoding_allocates_nothing_that_grows(tmp_path: Path) -> None:
    """What stays after a call does not depend on the tokens before it; what it needs, hardly."""
    batch, row = 32, 16  # bytes of a row of state
    held = session(tmp_path, batch, context=100)
    gc.freeze()  # what other tests keep need not be looked through after every call
    tracemalloc.start()
    try:
        before, peak_before = traced(held, 40)
        after, peak_after = traced(held, 50)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    assert after - before < 50 * batch * row / 2
    assert peak_after - peak_before < 50 * batch * row * 4  # attention sees more and more entries


def test_a_specialized_entry_fixes_batch_and_context(tmp_path: Path) -> None:
    pipeline = "specialize{batch=2 context=8}"
    assert logits(session(tmp_path, pipeline=pipeline), [1], [2]).shape == (2, 11)
    assert session(tmp_path, context=5, pipeline=pipeline).states[2].shape == (2, 2, 4, 4)
    with pytest.raises(ValueError, match="is made for B = 2, not 3"):
        session(tmp_path, batch=3, pipeline=pipeline)
    with pytest.raises(ValueError, match=r"layers\.pairs is made for S:2 = 4, not 10"):
        session(tmp_path, context=20, pipeline=pipeline)
