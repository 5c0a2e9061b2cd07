"""Elementary functions near their values, at any place of an array and in any layout."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from supertile.ir import portable_math
from supertile.ir.portable_math import (
    cos_sin,
    erf,
    exp,
    expm1,
    log,
    log1p,
    log_factorial,
    power,
    product,
    tanh,
)

STORED = [
    "0x1.1ed3fe64fc541p+2",
    "-0x1.c5041854df7d4p-3",
    "0x1.26bb1bbb55516p+1",
    "0x1.0ca937be1b9dcp-2",
    "0x1.fb2a734897868p+3",
    "0x1.6b94c3bbe24b8p-1",
    "-0x1.687d5890974a5p-1",
]
RANDOM = np.random.default_rng(0)
POINTS = {
    "exp": np.concatenate([RANDOM.uniform(-700, 700, 300), RANDOM.uniform(-1, 1, 300)]),
    "log": 10.0 ** np.concatenate([RANDOM.uniform(-300, 300, 300), RANDOM.uniform(-1, 1, 300)]),
}
SMALL = np.concatenate([RANDOM.uniform(-0.9, 3, 300), 10.0 ** RANDOM.uniform(-20, 0, 100)])


def units_apart(result: np.ndarray, true: list[Decimal]) -> float:
    """The largest distance in units in the last place."""
    pairs = zip(result.tolist(), true, strict=True)
    return max(
        abs(float((Decimal(value) - exact) / Decimal(math.ulp(value)))) for value, exact in pairs
    )


def test_functions_are_within_four_units_in_the_last_place():
    with localcontext(prec=60):
        assert units_apart(exp(POINTS["exp"]), [Decimal(x).exp() for x in POINTS["exp"]]) <= 4
        assert units_apart(log(POINTS["log"]), [Decimal(x).ln() for x in POINTS["log"]]) <= 4
        assert units_apart(expm1(SMALL), [Decimal(x).exp() - 1 for x in SMALL]) <= 4
        assert units_apart(log1p(SMALL), [(1 + Decimal(x)).ln() for x in SMALL]) <= 4
        exponents = RANDOM.uniform(0, 1, 100)
        true = [(Decimal(x) * Decimal(10000).ln()).exp() for x in exponents]
        assert units_apart(power(1e4, exponents), true) <= 40


def test_the_error_function_and_the_tangent_are_those_of_the_libraries():
    points = np.concatenate([np.linspace(-6.5, 6.5, 4001), SMALL])
    wanted = np.array([math.erf(x) for x in points])
    assert (np.abs(erf(points) - wanted) <= 16 * np.spacing(np.abs(wanted))).all()
    wanted = np.array([math.tanh(x) for x in points])
    assert (np.abs(tanh(points) - wanted) <= 8 * np.spacing(np.abs(wanted))).all()


def test_angles_are_reduced_in_full():
    angles = np.concatenate([RANDOM.uniform(-(2.0**26), 2.0**26, 2000), np.pi / 2 * np.arange(50)])
    cosine, sine = cos_sin(angles)
    assert np.abs(cosine - [math.cos(x) for x in angles]).max() < 1e-15
    assert np.abs(sine - [math.sin(x) for x in angles]).max() < 1e-15


def test_values_at_the_edges():
    inf, nan = math.inf, math.nan
    cases = [
        (exp, [inf, -inf, nan, 0, 710, -750, -745], [inf, 0, nan, 1, inf, 0, 5e-324]),
        (expm1, [inf, -inf, nan, 0, 1e-300], [inf, -1, nan, 0, 1e-300]),
        (log, [inf, 0, nan, -1, 1, 5e-324], [inf, -inf, nan, nan, 0, math.log(5e-324)]),
        (log1p, [inf, -1, nan, -2, 0, 1e-300], [inf, -inf, nan, nan, 0, 1e-300]),
        (erf, [inf, -inf, nan, 0, 7, -6], [1, -1, nan, 0, 1, -1]),
        (tanh, [inf, -inf, nan, 0, 1e-300, -40], [1, -1, nan, 0, 1e-300, -1]),
    ]
    for function, points, values in cases:
        assert np.array_equal(function(points), values, equal_nan=True), function.__name__
    assert all(np.isnan(x) for x in cos_sin(nan))
    assert power([0, 0, 1, inf], [0, 2, 1e9, 0]).tolist() == [1, 0, 1, 1]


def test_logarithms_of_factorials():
    counts = np.concatenate([np.arange(60), [1e3, 12345, 1e6, 1e9]])
    true = [math.lgamma(n + 1) for n in counts.tolist()]
    assert np.allclose(log_factorial(counts), true, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("terms", [0, 1, 40, portable_math.TERMS + 3])
def test_products_are_near_and_in_no_order(terms):
    a, b = RANDOM.standard_normal((2, 3, terms)), RANDOM.standard_normal((terms, 4))
    result = product(a, b)
    largest = np.abs(a).max(-1, initial=0)[..., None] * np.abs(b).max(0, initial=0)
    assert (np.abs(result - a @ b) <= (terms * 2.0**-38 + 1e-15) * largest).all()
    assert product(a[1:, 2], b).tobytes() == result[1:, 2].tobytes()
    if terms <= portable_math.TERMS:
        order = RANDOM.permutation(terms)
        assert product(a[..., order], b[order]).tobytes() == result.tobytes()
    assert product(a[0], b[:, 0]).tobytes() == np.ascontiguousarray(result[0, :, 0]).tobytes()
    assert product(a[0, 0], b[:, 0]) == result[0, 0, 0]


def test_what_has_no_value_is_refused():
    with pytest.raises(ValueError, match="from 0 on"):
        power([1.0, -2.0], 0.5)
    with pytest.raises(ValueError, match="67108864 radians"):
        cos_sin([0.0, portable_math.LARGEST_ANGLE * 2])


@pytest.mark.parametrize(
    "function", [exp, expm1, log, log1p, erf, tanh, lambda x: np.stack(cos_sin(x))]
)
def test_an_element_has_the_same_bits_at_every_place(function):
    """Alone, among others, in any order and with any step in memory."""
    points = np.abs(POINTS["exp"])
    whole = function(points)
    assert function(points[::-1])[..., ::-1].tobytes() == whole.tobytes()
    assert function(np.repeat(points, 3)[::3]).tobytes() == whole.tobytes()
    alone = np.stack([function(points[at : at + 1])[..., 0] for at in range(50)], axis=-1)
    assert alone.tobytes() == np.ascontiguousarray(whole[..., :50]).tobytes()


def test_bits_are_those_of_every_machine():
    """Stored once; no processor or library may change them."""
    values = [exp(1.5), expm1(-0.25), log(10.0), log1p(0.3), power(1e4, 0.3), *cos_sin(12345.678)]
    assert [float(value).hex() for value in values] == STORED
