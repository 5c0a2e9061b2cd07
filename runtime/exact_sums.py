"""Sums and products of matrices that no order of adding changes: the same bits from any library.

A library adds the terms of a product in an order of its own, by its kernels for a processor, by
threads, by the shape of the product and by the place of a row in it; float32 rounds after each
addition, so the last bits follow. Here operands become integers: a row x of the first matrix is
taken relative to a power of two above its largest number, in two slices of 13 bits, a column w of
the second in one of 26. Products of these and sums of up to `TERMS` products are integers below
2^53, exact in float64 in every order. What is rounded is rounded by rules of this file alone:

    x = 2^(e - 13) (high + low 2^-13),  w = 2^(f - 26) whole
    x w = 2^(e + f - 39) (sum high whole + 2^-13 sum low whole), once to float64, once to float32

Longer sums are cut after `TERMS` terms and added in order. The error of a product of K terms is at
most K max|x| max|w| 2^-25.4 and half a unit in the last place: what float32 sums promise as well,
by Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1. The method is that of
Ozaki, Ogita, Oishi and Rump, Numerical Algorithms 59, 2012. Matrices multiply by `multiply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.ir.portable_math import exponents

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

SLICE = 13
WHOLE = 2 * SLICE
TERMS = 1 << (53 - SLICE - WHOLE)
"""So many products of a slice and a whole number add up to at most 2^53."""
BLOCK = 1 << 17
"""Numbers of the second matrix that are taken at once: 1 MiB as float64."""

multiply: Callable[[F64, F64], F64] = np.matmul
"""Any product of matrices in float64: its sums are exact, so that their order does not matter."""


def product(x: Array, w: Array) -> F32:
    """x [.., M, K] times w [.., K, N] -> [.., M, N]; axes in front are the same or 1 in one.

    Where a factor is not finite the result is what the terms say: NaN for inf 0 and inf - inf,
    else the infinity with its sign.
    """
    terms, columns = w.shape[-2:]
    shape = (*np.broadcast_shapes(x.shape[:-2], w.shape[:-2]), x.shape[-2], columns)
    result = np.zeros(shape, np.float32)
    spans = [slice(at, at + TERMS) for at in range(0, terms, TERMS)]
    left = [_Rows(x[..., span]) for span in spans]
    step = max(1, BLOCK // max(1, min(terms, TERMS)))
    for start in range(0, columns, step):
        part = slice(start, start + step)
        total = sum(rows.times(w[..., span, part]) for rows, span in zip(left, spans, strict=True))
        with np.errstate(over="ignore"):
            result[..., part] = total
    return result


def total(x: Array, axis: int = -1) -> F32:
    """The sum of float32 or float64 numbers over an axis, rounded to float32.

    Relative to a power of two above the largest number, in slices of 26 bits and 26 more.
    """
    value = np.asarray(x, np.float64)
    if value.shape[axis] > 1 << (53 - WHOLE):
        raise ValueError(f"exact sums have at most {1 << (53 - WHOLE)} terms")
    exponent, finite = exponents(value, axis)
    high, rest = _slice(_zeroed(value, finite), exponent, WHOLE)
    low = np.rint(rest * 2.0**WHOLE)
    added = np.add.reduce(high, axis) + np.add.reduce(low, axis) * 2.0**-WHOLE
    with np.errstate(over="ignore"):
        result: F32 = np.asarray(added * _two_to(exponent - WHOLE).squeeze(axis), np.float32)
    if not finite.all():
        with np.errstate(invalid="ignore"):
            np.copyto(
                result, _marks(value).sum(axis), where=~finite.squeeze(axis), casting="same_kind"
            )
    return result


class _Rows:
    """A matrix [.., M, K] as slices: [.., 2 M, K] high above low, and the exponent of each row."""

    def __init__(self, x: Array) -> None:
        self.numbers = x
        self.count = x.shape[-2]
        exponent, self.finite = exponents(x, -1)
        high, rest = _slice(_zeroed(x, self.finite), exponent, SLICE)
        self.slices = np.concatenate([high, np.rint(rest * 2.0**SLICE)], axis=-2)
        self.scale = _two_to(exponent - SLICE)

    def times(self, w: Array) -> F64:
        """[.., M, N] for w [.., K, N]."""
        exponent, finite = exponents(w, -2)
        whole = np.multiply(_zeroed(w, finite), _two_to(WHOLE - exponent), dtype=np.float64)
        np.rint(whole, out=whole)
        sums = multiply(self.slices, whole)
        added = sums[..., : self.count, :] + sums[..., self.count :, :] * 2.0**-SLICE
        result: F64 = added * self.scale * _two_to(exponent - WHOLE)
        if not (self.finite.all() and finite.all()):
            self._put_unbounded(result, w, finite)
        return result

    def _put_unbounded(self, result: F64, w: Array, finite: Array) -> None:
        """Results with a factor that is not finite, term by term: libraries may skip zeros."""
        lead = result.shape[:-2]
        x: Any = np.broadcast_to(_marks(self.numbers), (*lead, *self.numbers.shape[-2:]))
        y: Any = np.broadcast_to(_marks(w), (*lead, *w.shape[-2:]))
        rows = ~np.broadcast_to(self.finite, (*lead, result.shape[-2], 1))
        columns = ~np.broadcast_to(finite, (*lead, 1, result.shape[-1]))
        with np.errstate(invalid="ignore"):
            for place in map(tuple, np.argwhere(rows | columns).tolist()):
                *at, row, column = place
                result[place] = (x[*at, row] * y[*at, :, column]).sum()


# ---- slices ------------------------------------------------------------------------------------


def _zeroed(x: Array, finite: Array) -> Array:
    """x with zeros along an axis where something is not finite."""
    return x if finite.all() else np.where(finite, x, x.dtype.type(0))


def _slice(x: Array, exponent: Array, bits: int) -> tuple[F64, F64]:
    """The nearest integers of x 2^(bits - exponent), and what is left; x of float32's range."""
    scaled = np.multiply(x, _two_to(bits - exponent), dtype=np.float64)
    whole = np.rint(scaled)
    scaled -= whole
    return whole, scaled


def _two_to(exponent: Array) -> F64:
    return np.ldexp(1.0, exponent)


def _marks(x: Array) -> F64:
    """Signs for finite numbers, which decide nothing but 0 inf; others as they are."""
    value = x.astype(np.float64)
    return np.where(np.isfinite(value), np.sign(value), value)
