"""Whatever chooses the k largest: of equal scores the smaller index, and never more than k.

The rule is written down once more here, in plain Python; -0.0 equals 0.0, NaN ranks as -inf.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings, strategies as st

from supertile.runtime import graph_ops, tile_ops

Array = npt.NDArray[np.float32]
Choose = Callable[[Array, npt.NDArray[np.int64], int], npt.NDArray[np.int32]]

FEW = (0.0, -0.0, 1.0, -1.0, 1.5, math.inf, -math.inf, math.nan)


def rule(scores: list[float], count: int, k: int) -> list[int]:
    """The k largest of the first `count` scores, -1 where there are fewer."""
    rank = [-math.inf if math.isnan(score) else score for score in scores[:count]]
    order = sorted(range(len(rank)), key=lambda index: (-rank[index], index))[:k]
    return order + [-1] * (k - len(order))


def sorted_whole(scores: Array, count: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int32]:
    return graph_ops.top_k(scores, count, k=k)


def row_by_row(scores: Array, count: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int32]:
    """As in decoding: a call for each token."""
    rows = [graph_ops.top_k(scores[n : n + 1], count[n : n + 1], k=k) for n in range(len(scores))]
    return np.concatenate(rows)


def partitioned(scores: Array, count: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int32]:
    """As for calls of many scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_ops, "_SORTED", 0)
        return graph_ops.top_k(scores, count, k=k)


def merged(tile: int) -> Choose:
    """As in kernels: tile after tile, the best so far carried."""

    def choose(scores: Array, count: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.int32]:
        best = np.full((len(scores), k), -np.inf, np.float32)
        index = np.full((len(scores), k), -1, np.int32)
        for start in range(0, scores.shape[1], tile):
            part = scores[:, start : start + tile]
            best, index = tile_ops.merge_top_k(best, index, part, start, count)
        return index

    return choose


WAYS: dict[str, Choose] = {
    "sorted": sorted_whole,
    "row by row": row_by_row,
    "partitioned": partitioned,
    "merged one by one": merged(1),
    "merged in tiles of 3": merged(3),
    "merged in tiles of 8": merged(8),
}


@st.composite
def cases(draw: st.DrawFn) -> tuple[Array, npt.NDArray[np.int64], int]:
    """Rows of few different scores, how many of each row may be chosen from, and k."""
    width, rows = draw(st.integers(1, 24)), draw(st.integers(1, 4))
    values = st.lists(st.sampled_from(FEW), min_size=1, max_size=3)
    scores = []
    for _ in range(rows):
        some = st.sampled_from(draw(values))
        scores.append(draw(st.lists(some, min_size=width, max_size=width)))
    counts = draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows))
    return np.array(scores, np.float32), np.array(counts), draw(st.integers(1, 9))


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_the_smaller_index_is_chosen_and_never_more_than_k(
    way: str, case: tuple[Array, npt.NDArray[np.int64], int]
) -> None:
    scores, count, k = case
    chosen = WAYS[way](scores, count, k)
    pairs = zip(scores.tolist(), count.tolist(), strict=True)
    assert chosen.tolist() == [rule(row, number, k) for row, number in pairs]


def test_routers_choose_from_all() -> None:
    scores = np.array([[0.0, -0.0, 0.0, -0.0], [-0.0, 0.0, 1.0, 1.0]], np.float32)
    assert graph_ops.top_k(scores, None, k=2).tolist() == [[0, 1], [2, 3]]
    assert graph_ops.top_k(scores, None, k=3).tolist() == [[0, 1, 2], [2, 3, 0]]


def test_long_rows_of_zeros_of_both_signs() -> None:
    signs = np.random.default_rng(0).choice(np.array([0.0, -0.0], np.float32), (6, 3000))
    count = np.full(6, 3000)
    for name in ("sorted", "partitioned", "merged in tiles of 8"):
        assert (WAYS[name](signs, count, 64) == np.arange(64)).all(), name


def test_a_threshold_would_be_found_out() -> None:
    """The checker sees the usual fault: all that is as large as the k-th score is let in."""
    scores, k = np.array([[2.0, 0.0, -0.0, 0.0]], np.float32), 2
    let_in = np.flatnonzero(scores[0] >= np.sort(scores[0])[-k])
    assert let_in.tolist() != rule(scores[0].tolist(), 4, k)
    assert len(let_in) > k
