"""Expectations against brute force and against a published table of simulations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.targets.cost.chance import expected_blocks, poisson, tail_factor, touched_share


def test_a_poisson_variable_sums_to_one_and_has_its_mean() -> None:
    for mean in (0.01, 1.5, 300.0, 40_000.0):
        counts, chances = poisson(mean)
        assert chances.sum() == pytest.approx(1, abs=1e-9)
        assert counts @ chances == pytest.approx(mean, rel=1e-9)


def test_few_rows_take_a_block_each() -> None:
    # One row in expectation: a group is empty with chance exp(-1), and no block is full.
    assert expected_blocks(4, 4, 1000) == pytest.approx(4 * (1 - math.exp(-1)))


def test_blocks_of_one_row_are_the_rows() -> None:
    assert expected_blocks(37, 5, 1) == pytest.approx(37)


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 8))
def test_blocks_by_the_definition(rows: int, step: int) -> None:
    mean = rows / 3
    chances = (math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(200))
    total = sum(chance * -(-n // step) for n, chance in enumerate(chances))
    assert expected_blocks(rows, 3, step) == pytest.approx(3 * total, rel=1e-9)


@pytest.mark.parametrize("step", [2, 3, 16, 64])
def test_the_closed_form_meets_the_sum(step: int) -> None:
    edge = 37 / (1 - math.cos(2 * math.pi / step))
    below, above = (expected_blocks(edge + shift, 1, step) for shift in (-1e-9, 1e-9))
    assert above == pytest.approx(below, rel=1e-9)


def test_touched_groups_by_all_choices() -> None:
    choices = list(itertools.product(range(3), repeat=4))
    share = sum(len(set(choice)) for choice in choices) / len(choices) / 3
    assert touched_share(4, 3) == pytest.approx(share)
    assert (touched_share(0, 3), touched_share(5, 1), touched_share(0, 1)) == (0, 1, 0)


# Sequences of a rank, six choices a token, ranks -> E[max] / mean. Simulations of perfectly
# balanced routing; they agree with the sum over Poisson counts to two digits.
@pytest.mark.parametrize(
    ("ranks", "batch", "expected"),
    [
        (32, 1, 1.93),
        (32, 32, 1.15),
        (384, 1, 2.40),
        (384, 64, 1.15),
        (384, 1024, 1.04),
        (8192, 8, 1.59),
        (8192, 256, 1.10),
    ],
)
def test_the_fullest_rank(ranks: int, batch: int, expected: float) -> None:
    assert tail_factor(6 * batch, ranks) == pytest.approx(expected, abs=0.006)


def test_one_rank_has_no_tail() -> None:
    assert tail_factor(100, 1) == 1


def test_arrays_equal_scalars() -> None:
    rows = np.array([0.0, 1.0, 50.0, 5000.0])
    for function, rest in ((expected_blocks, (7, 16)), (touched_share, (9,)), (tail_factor, (8,))):
        assert function(rows, *rest).tolist() == [function(x, *rest) for x in rows.tolist()]


@pytest.mark.parametrize("ranks", [2, 384, 8192])
def test_large_means_go_on_where_small_ones_end(ranks: int) -> None:
    """What chance adds to a mean m grows as 1 / sqrt(m) on both sides of the change of formula."""
    below, above = (tail_factor(mean, ranks) - 1 for mean in (99_999.0, 100_001.0))
    assert above == pytest.approx(below, rel=3e-5)
    assert tail_factor(1e9, ranks) - 1 == pytest.approx(above / 100, rel=2e-2)
