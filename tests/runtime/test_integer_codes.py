"""INT8 codes: every byte, rounding, scales, and products that are exact to the last bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from supertile.runtime import numerics
from supertile.runtime.numerics import Scaled

BYTES = np.arange(256, dtype=np.uint8)
FINITE = st.floats(-(2.0**100), 2.0**100, width=32)
ROWS = arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=FINITE)


def floats(*values: float) -> numerics.F32:
    return np.array(values, dtype=np.float32)


def codes(rows: int, width: int, seed: int = 0) -> Scaled:
    """Random codes with one scale for each row."""
    generator = np.random.default_rng(seed)
    held = generator.integers(-127, 128, (rows, width)).astype(np.int8).view(np.uint8)
    scales = generator.uniform(0.5, 2, (rows, 1)).astype(np.float32)
    return Scaled(held, scales, "i8", (1, width))


def test_every_byte_is_its_twos_complement():
    assert (numerics.decode_i8(BYTES) == BYTES.view(np.int8)).all()
    symmetric = BYTES[BYTES != 128]
    assert (numerics.encode_i8(numerics.decode_i8(symmetric)) == symmetric).all()


def test_ties_go_to_even_and_large_numbers_to_the_largest_code():
    given = floats(0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.4, 1e30, -np.inf, np.nan)
    expected = [0, 2, 2, 0, -2, 126, 127, 127, -127, 0]
    assert numerics.decode_i8(numerics.encode_i8(given)).tolist() == expected


def test_the_scale_is_the_largest_magnitude_over_127():
    held = numerics.quantize(floats(1, -254, 3, 127).reshape(2, 2), "i8", 2)
    assert held.scales.tolist() == [[2], [1]]
    assert held.values().tolist() == [[0, -127], [3, 127]]  # half of 1 rounds to even
    assert held.block == (1, 2)


@given(ROWS)
def test_values_are_within_half_a_step(x):
    held = numerics.quantize(x, "i8", x.shape[-1])
    assert np.abs(held.values()).max() <= 127
    off = np.abs(held.dequantize().astype(np.float64) - x)
    assert (off <= held.scales.astype(np.float64) * 0.5 * (1 + 1e-4)).all()


@given(ROWS)
def test_the_largest_of_each_row_has_the_largest_code(x):
    held = numerics.quantize(x, "i8", x.shape[-1])
    normal = np.abs(x).max(axis=-1) >= 127 * 2.0**-126
    assert (np.abs(held.values()).max(axis=-1)[normal] == 127).all()


@given(ROWS)
def test_signs_are_symmetric(x):
    one, other = numerics.quantize(x, "i8", 4), numerics.quantize(-x, "i8", 4)
    assert (one.values() == -other.values()).all()
    assert (one.scales == other.scales).all()


def test_rows_of_zeros_and_broken_rows():
    x = floats(0, 0, 1, np.nan, 1, np.inf, 1, 2).reshape(4, 2)
    back = numerics.quantize(x, "i8", 2).dequantize()
    assert back[0].tolist() == [0, 0]
    assert np.isnan(back[1:3]).all()
    assert np.isfinite(back[3]).all()


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3000), st.integers(0, 9))
def test_products_sum_exactly_and_are_scaled_by_row_then_channel(rows, columns, width, seed):
    x, w = codes(rows, width, seed), codes(columns, width, seed + 1)
    sums = x.codes.view(np.int8).astype(np.int64) @ w.codes.view(np.int8).astype(np.int64).T
    expected = sums.astype(np.float32) * x.scales * w.scales.T
    assert (numerics.scaled_product(x, w) == expected).all()


def test_the_largest_sums_are_exact():
    """Of many equal terms float32 alone would lose the last one."""
    width = 131_071
    ones = Scaled(np.full((1, width), 127, np.uint8), np.ones((1, 1), np.float32), "i8", (1, width))
    (found,) = numerics.scaled_product(ones, ones).flat
    assert Fraction(float(found)) == Fraction(float(np.float32(127 * 127 * width)))
    wide = Scaled(
        np.zeros((1, width + 1), np.uint8), np.ones((1, 1), np.float32), "i8", (1, width + 1)
    )
    with pytest.raises(ValueError, match="int32"):
        numerics.scaled_product(wide, wide)


def test_a_broken_row_breaks_its_products_alone():
    x = numerics.quantize(floats(1, np.nan, 1, 2).reshape(2, 2), "i8", 2)
    product = numerics.scaled_product(x, codes(3, 2))
    assert np.isnan(product[0]).all()
    assert np.isfinite(product[1]).all()
