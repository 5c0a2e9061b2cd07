"""Elementary functions with the same bits on every machine, from +, -, *, / and rounding alone.

NumPy and the C library have several versions of `exp`, `log`, `sin` and their like, and pick one by
the processor (AVX2, AVX-512, FMA) or by how an array lies in memory; their last digits differ.
IEEE 754 fixes the results of the four operations, of rounding to an integer and of scaling by a
power of two, and NumPy rounds each of them before the next. So what is computed here from those
has the same bits everywhere, whatever the shape and the neighbours of an element.

All functions take arrays or numbers and return float64; `product` multiplies matrices. Errors are
those of float64 arithmetic: within 4 units in the last place of the result, `erf` within 16,
`power` within 4 units times the size of its exponent, `sin` and `cos` within 1e-15 up to angles of
2^26. Sources of the reductions: Cody and Waite, Software Manual for the Elementary Functions, 1980;
the splits of ln 2 and pi / 2 are those of fdlibm.
"""

from __future__ import annotations

from math import factorial, prod
from typing import Any

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

LN2_HIGH = float.fromhex("0x1.62e42feep-1")
"""The upper 32 bits of ln 2: its products with the exponents of floats are exact."""
LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
PER_LN2 = float.fromhex("0x1.71547652b82fep+0")
HALF_PI = (
    float.fromhex("0x1.921fb544p+0"),
    float.fromhex("0x1.0b4611a6p-34"),
    float.fromhex("0x1.3198a2e037073p-69"),
)
"""pi / 2 in parts; products of the first two with numbers of up to 20 bits are exact."""
LARGEST_ANGLE = 2.0**26
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
HALF_LOG_TWO_PI = float.fromhex("0x1.d67f1c864beb5p-1")
LAST_PRODUCT = 16
SLICE = 20
TERMS = 1 << (52 - 2 * SLICE)
"""So many products of two slices, and their sum with another such, are below 2^53."""
OVERFLOW = 1100.0  # e to the power of this, and 2 as well, is beyond float64

LAST_ERF = 6.0  # from here on the error function is 1 to 17 digits
ERF_TERMS = 140  # of its series; those behind are below 1e-17 of the sum at `LAST_ERF`
TWO_PER_ROOT_PI = float.fromhex("0x1.20dd750429b6dp+0")

_EXP = tuple(1 / factorial(n) for n in range(14, -1, -1))
_EXPM1 = tuple(1 / factorial(n) for n in range(15, 0, -1))
_ATANH = tuple(1 / n for n in range(23, 0, -2))
_STIRLING = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
_ERF = tuple(
    2.0**n / prod(range(1, 2 * n + 2, 2)) for n in range(ERF_TERMS, -1, -1)
)  # 2^n / (1 3 5 .. (2n + 1))
_SIN = tuple((-1) ** n / factorial(2 * n + 1) for n in range(8, -1, -1))
_COS = tuple((-1) ** n / factorial(2 * n) for n in range(9, -1, -1))


def exp(x: npt.ArrayLike) -> F64:
    """e^x; 0 for -inf, inf for inf, NaN for NaN."""
    value = np.clip(np.asarray(x, np.float64), -OVERFLOW, OVERFLOW)
    exponent = np.rint(value * PER_LN2)
    rest = (value - exponent * LN2_HIGH) - exponent * LN2_LOW
    return _scaled(_polynomial(rest, _EXP), exponent)


def expm1(x: npt.ArrayLike) -> F64:
    """e^x - 1, without the loss of digits near 0."""
    value = np.asarray(x, np.float64)
    near = np.abs(value) < 0.35
    small = np.where(near, value, 0.0)
    result: F64 = np.where(near, small * _polynomial(small, _EXPM1), exp(value) - 1)
    return result


def tanh(x: npt.ArrayLike) -> F64:
    """The hyperbolic tangent; NaN for NaN."""
    value = np.asarray(x, np.float64)
    less = expm1(-2 * np.abs(value))
    return np.copysign(-less / (2 + less), value)


def erf(x: npt.ArrayLike) -> F64:
    """The error function, 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x; NaN for NaN.

    Its series of positive terms, whose sum loses no digits; 1 beyond `LAST_ERF`, to 2^-53.
    """
    value = np.asarray(x, np.float64)
    size = np.minimum(np.abs(value), LAST_ERF)
    square = size * size
    near = TWO_PER_ROOT_PI * size * exp(-square) * _polynomial(square, _ERF)
    return np.copysign(np.where(size < LAST_ERF, near, size / LAST_ERF), value)


def log(x: npt.ArrayLike) -> F64:
    """The natural logarithm: -inf for 0, NaN for negative numbers."""
    value = np.asarray(x, np.float64)
    usual = (value > 0) & (value < np.inf)
    result: F64 = _log(np.where(usual, value, 1.0))
    beyond = np.where(value == 0, -np.inf, np.where(value > 0, value, np.nan))
    return np.where(usual, result, beyond)


def log1p(x: npt.ArrayLike) -> F64:
    """log(1 + x), without the loss of digits near 0: -inf for -1, NaN below."""
    value = np.asarray(x, np.float64)
    total = 1 + value
    usual = (total > 0) & (total < np.inf)
    safe = np.where(usual, total, 1.0)
    # What the sum 1 + x rounded off: exact by subtraction, as in fdlibm.
    lost = np.where(usual, value - (safe - 1), 0.0)
    result: F64 = np.where(usual, _log(safe) + lost / safe, log(total))
    return result


def power(base: npt.ArrayLike, exponent: npt.ArrayLike) -> F64:
    """base^exponent for bases from 0 on, 0^0 = 1; ValueError for negative bases."""
    if np.any(np.asarray(base) < 0):
        raise ValueError(f"powers are of numbers from 0 on, got {base!r}")
    exponents = np.asarray(exponent, np.float64)
    with np.errstate(invalid="ignore"):
        result: F64 = np.where(exponents == 0, 1.0, exp(exponents * log(base)))
    return result


def log_factorial(n: npt.ArrayLike) -> F64:
    """log(n!) of whole numbers from 0 on, by Stirling's series and from 16 down by products."""
    value = np.asarray(n, np.float64)
    small = _FACTORIALS[np.minimum(value, LAST_PRODUCT).astype(np.int64)]
    x = np.maximum(value, LAST_PRODUCT) + 1
    series = _polynomial(1 / (x * x), _STIRLING) / x
    result: F64 = (x - 0.5) * log(x) - x + HALF_LOG_TWO_PI + series
    return np.where(value <= LAST_PRODUCT, small, result)


def cos_sin(x: npt.ArrayLike) -> tuple[F64, F64]:
    """Cosine and sine of angles in radians; ValueError beyond `LARGEST_ANGLE`, NaN for NaN."""
    angle = np.asarray(x, np.float64)
    if np.any(np.abs(angle) > LARGEST_ANGLE):
        raise ValueError(f"angles are at most {LARGEST_ANGLE:.0f} radians")
    known = ~np.isnan(angle)
    value = np.where(known, angle, 0.0)
    quarter = np.rint(value / (HALF_PI[0] + HALF_PI[1]))
    rest = value
    for part in _fine_parts(quarter):
        rest = rest - part
    square = rest * rest
    sine, cosine = rest * _polynomial(square, _SIN), _polynomial(square, _COS)
    turns = quarter.astype(np.int64) & 3
    swapped = turns % 2 == 1
    first, second = np.where(swapped, sine, cosine), np.where(swapped, cosine, sine)
    first = np.where((turns == 1) | (turns == 2), -first, first)
    second = np.where(turns >= 2, -second, second)
    return np.where(known, first, np.nan), np.where(known, second, np.nan)


def product(a: npt.ArrayLike, b: npt.ArrayLike) -> F64:
    """The matrix product of a [.., M, K] and b [.., K, N], or of vectors [K]; finite numbers.

    Each error is at most K 2^-38 times the largest of the row and of the column. Rows and columns
    become integers of 20 bits and 20 more, whose products a BLAS adds exactly in whatever order.
    """
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    rows = left if left.ndim > 1 else left[None]
    columns = right if right.ndim > 1 else right[:, None]
    total: Any = np.zeros((*rows.shape[:-1], columns.shape[-1]))
    for start in range(0, rows.shape[-1], TERMS):
        part = slice(start, start + TERMS)
        total = total + _exact_product(rows[..., part], columns[..., part, :])
    total = total if right.ndim > 1 else total[..., 0]
    result: F64 = total if left.ndim > 1 else total[0]
    return result


def _exact_product(rows: F64, columns: F64) -> F64:
    (high, low, up), (top, rest, right) = _slices(rows, -1), _slices(columns, -2)
    fine = (high @ rest + low @ top) * 2.0**-SLICE  # exact, and so is the other product
    result: F64 = (high @ top + fine) * up * right
    return result


def _slices(x: F64, axis: int) -> tuple[F64, F64, F64]:
    """Two integers for each number, and what the first is a multiple of: a power of two."""
    exponent, _ = exponents(x, axis)
    scaled = np.ldexp(x, SLICE - exponent)
    high = np.rint(scaled)
    return high, np.rint((scaled - high) * 2.0**SLICE), np.ldexp(1.0, exponent - SLICE)


def exponents(x: Any, axis: int) -> tuple[Any, Any]:
    """The exponents e of powers of two above all |x| along an axis, kept with size 1.

    And whether all numbers there are finite; e is 0 where they are not, and where all are zero.
    """
    top = np.abs(x).max(axis=axis, keepdims=True, initial=0)
    finite = np.isfinite(top)
    if not finite.all():
        top = np.where(finite, top, 0)
    return np.frexp(top)[1], finite


def _fine_parts(quarter: F64) -> tuple[F64, ...]:
    """quarter * pi / 2 in parts, the large ones exact: quarter in two halves below 2^12 each."""
    high = np.rint(quarter / 4096) * 4096
    low = quarter - high
    return tuple(half * part for part in HALF_PI for half in (high, low))


def _log(value: F64) -> F64:
    """Of finite numbers above 0: e ln 2 + 2 atanh((m - 1) / (m + 1)), m from 0.7 to 1.4."""
    mantissa, exponent = np.frexp(value)
    small = mantissa < ROOT_HALF
    mantissa = np.where(small, mantissa * 2, mantissa)
    whole = exponent.astype(np.float64) - small
    ratio = (mantissa - 1) / (mantissa + 1)
    fraction = 2 * ratio * _polynomial(ratio * ratio, _ATANH)
    result: F64 = whole * LN2_HIGH + (fraction + whole * LN2_LOW)
    return result


def _polynomial(x: F64, coefficients: tuple[float, ...]) -> F64:
    """Horner's rule, the highest power first."""
    result: Any = np.full(x.shape, coefficients[0])
    for coefficient in coefficients[1:]:
        result = result * x + coefficient
    return np.asarray(result, np.float64)


def _scaled(value: F64, exponent: F64) -> F64:
    """value * 2^exponent, rounded once; NaN stays NaN."""
    known = np.isfinite(exponent)
    with np.errstate(over="ignore", under="ignore"):
        scaled: F64 = np.ldexp(value, np.where(known, exponent, 0).astype(np.int32))
    return np.where(known, scaled, np.nan)


_FACTORIALS = _log(np.array([float(factorial(n)) for n in range(LAST_PRODUCT + 1)]))
