"""Exact sums: near the true value, and the same bits in whatever order a library adds."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from shifting_product import shifting_product
from small_models import Array

from supertile.runtime import exact_sums

SHAPES = st.tuples(st.integers(1, 6), st.integers(0, 40), st.integers(1, 5))


def spread_numbers(seed: int, *shape: int, range_: int = 12) -> Array:
    """Both signs, magnitudes over many powers of two, some zeros."""
    random = np.random.default_rng(seed)
    numbers = random.standard_normal(shape) * 2.0 ** random.integers(-range_, range_, shape)
    return (numbers * (random.random(shape) > 0.1)).astype(np.float32)


def true_product(x: Array, w: Array) -> list[list[Fraction]]:
    rows, columns = x.astype(float).tolist(), w.T.astype(float).tolist()
    return [
        [sum((Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)), Fraction())
         for column in columns]
        for row in rows
    ]  # fmt: skip


@settings(deadline=None, derandomize=True, max_examples=60)
@given(shape=SHAPES, seed=st.integers(0, 2**31))
def test_the_error_is_within_the_stated_bound(shape, seed):
    rows, terms, columns = shape
    x, w = spread_numbers(seed, rows, terms), spread_numbers(seed + 1, terms, columns)
    result = exact_sums.product(x, w)
    bounds = np.abs(x).max(1, initial=0)[:, None] * np.abs(w).max(0, initial=0) * terms
    for row, line in enumerate(true_product(x, w)):
        for column, true in enumerate(line):
            error = abs(Fraction(float(result[row, column])) - true)
            allowed = Fraction(float(bounds[row, column])) * Fraction(2.0**-25.4)
            last = Fraction(float(np.spacing(abs(result[row, column])))) / 2
            assert error <= allowed + last


@settings(deadline=None, derandomize=True, max_examples=60)
@given(shape=SHAPES, seed=st.integers(0, 2**31))
def test_no_order_of_adding_changes_a_bit(shape, seed):
    rows, terms, columns = shape
    x, w = spread_numbers(seed, rows, terms), spread_numbers(seed + 1, terms, columns)
    usual = exact_sums.product(x, w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact_sums, "multiply", shifting_product)
        assert exact_sums.product(x, w).tobytes() == usual.tobytes()
    order = np.random.default_rng(seed).permutation(terms)
    assert exact_sums.product(x[:, order], w[order]).tobytes() == usual.tobytes()
    total = exact_sums.total(x, 1)
    assert exact_sums.total(x[:, order], 1).tobytes() == total.tobytes()
    assert exact_sums.total(np.asfortranarray(x), 1).tobytes() == total.tobytes()


def test_the_stand_in_product_does_change_float32_sums():
    x, w = spread_numbers(0, 1, 40, range_=2).repeat(6, axis=0), spread_numbers(1, 40, 5, range_=2)
    assert np.unique(shifting_product(x, w), axis=0).shape[0] > 1


@pytest.mark.parametrize("terms", [exact_sums.TERMS + 5, 2 * exact_sums.TERMS])
def test_long_sums_are_cut_at_fixed_places(terms, monkeypatch):
    x, w = spread_numbers(0, 2, terms), spread_numbers(1, terms, 3)
    whole = exact_sums.product(x, w)
    true = x.astype(np.float64) @ w.astype(np.float64)
    assert np.allclose(whole, true, rtol=1e-5, atol=1e-5 * np.abs(true).max())
    assert exact_sums.product(x[1:], w).tobytes() == whole[1:].tobytes()
    monkeypatch.setattr(exact_sums, "BLOCK", 1)
    assert exact_sums.product(x, w).tobytes() == whole.tobytes()


def test_batches_broadcast_and_empty_sums_are_zero():
    x, w = spread_numbers(0, 3, 1, 2, 8), spread_numbers(1, 4, 8, 5)
    result = exact_sums.product(x, w)
    assert result.shape == (3, 4, 2, 5)
    assert result[2, 1].tobytes() == exact_sums.product(x[2, 0], w[1]).tobytes()
    assert exact_sums.product(x[..., :0], w[:, :0]).tolist() == np.zeros((3, 4, 2, 5)).tolist()
    assert exact_sums.product(x[:0], w).shape == (0, 4, 2, 5)
    assert exact_sums.total(np.zeros((2, 0), np.float32), 1).tolist() == [0, 0]


def test_numbers_that_are_not_finite_give_what_the_terms_say():
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    x = np.array([[1, inf, 2], [inf, -inf, 1], [nan, 0, 0], [1, 2, 3]], np.float32)
    w = np.array([[1, 0, 1], [2, 1, -1], [3, inf, 0]], np.float32)
    with np.errstate(invalid="ignore"):
        expected = (x[:, :, None] * w).sum(axis=1)
    assert np.array_equal(exact_sums.product(x, w), expected, equal_nan=True)
    assert np.array_equal(exact_sums.product(x[3:], w), expected[3:], equal_nan=True)
    assert np.array_equal(exact_sums.total(x, 1), [inf, nan, nan, 6], equal_nan=True)


def test_results_beyond_float32_are_infinite_and_small_ones_are_kept():
    big, tiny = np.float32(3e38), np.float32(1e-45)
    assert exact_sums.product(np.array([[big]]), np.array([[big]])).tolist() == [[np.inf]]
    assert exact_sums.product(np.array([[tiny]]), np.ones((1, 1), np.float32)) == tiny
    assert exact_sums.total(np.array([big, big, -big], np.float32), 0) == big


def test_too_many_terms_are_refused():
    with pytest.raises(ValueError, match="at most 134217728 terms"):
        exact_sums.total(np.broadcast_to(np.float32(1), (1 << 27) + 1), 0)
