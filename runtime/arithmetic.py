"""How the ops of a run add, multiply matrices and take elementary functions: two ways.

    LIBRARY    as NumPy and its BLAS do: fast; the last bits follow the processor, the library, the
               shape of a call and the place of a row in it
    EXACT      sums of `exact_sums` and functions of `portable_math`: a row has the same bits on
               every machine and beside any others

All else that ops do is elementwise arithmetic, which IEEE 754 fixes, or moves and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.ir import portable_math
from supertile.runtime import exact_sums

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Arithmetic:
    """Functions of float32 arrays; results are float32."""

    product: Callable[[F32, F32], F32]
    """x [.., M, K] times w [.., K, N] -> [.., M, N]; axes in front broadcast."""
    linear: Callable[[F32, F32], F32]
    """x [M, K] times the transpose of w [N, K] -> [M, N]."""
    total: Callable[[F32, int], F32]
    """The sum over an axis."""
    short_total: Callable[[F32, int], F32]
    """The same of a few terms, as many in every call."""
    square_sum: Callable[[F32], F32]
    """The sum of the squares over the last axis."""
    exp: Callable[[F32], F32]
    """e^x; may use x up for the result."""
    log1p: Callable[[F32], F32]
    erf: Callable[[F32], F32]
    tanh: Callable[[F32], F32]
    cos_sin: Callable[[F32], tuple[F32, F32]]
    order_matters: bool
    """Whether terms of zero, or their number, can change the bits of a sum."""


# ---- as the libraries do -----------------------------------------------------------------------


def _exp(x: F32) -> F32:
    result: F32 = np.exp(x, out=x if isinstance(x, np.ndarray) else None)
    return result


def _erf(x: F32) -> F32:
    from scipy.special import erf  # takes a while to import, and few models need it

    result: F32 = erf(x)
    return result


def _linear(x: F32, w: F32) -> F32:
    if 2 < len(x) <= 32:  # BLAS is twice as fast with few columns as with few rows
        return np.ascontiguousarray(np.matmul(w, x.T).T)
    product: F32 = np.matmul(x, w.T)
    return product


LIBRARY = Arithmetic(
    product=np.matmul,
    linear=_linear,
    total=np.add.reduce,
    short_total=np.add.reduce,
    square_sum=lambda x: np.vecdot(x, x),
    exp=_exp,
    log1p=np.log1p,
    erf=_erf,
    tanh=np.tanh,
    cos_sin=lambda x: (np.cos(x), np.sin(x)),
    order_matters=True,
)

# ---- the same bits everywhere ------------------------------------------------------------------


def _rounded(function: Callable[[Any], Any]) -> Callable[[F32], F32]:
    """A function of float64 for float32, rounded once more."""

    def rounded(x: F32) -> F32:
        with np.errstate(over="ignore"):
            return np.asarray(function(x), np.float32)

    return rounded


def _one_by_one(x: F32, axis: int) -> F32:
    """Terms added in order, in float32."""
    terms: list[Any] = [x.take(n, axis) for n in range(x.shape[axis])]
    return np.asarray(reduce(np.add, terms))


def _cos_sin(x: F32) -> tuple[F32, F32]:
    cosine, sine = portable_math.cos_sin(x)
    return cosine.astype(np.float32), sine.astype(np.float32)


EXACT = Arithmetic(
    product=exact_sums.product,
    linear=lambda x, w: exact_sums.product(x, w.T),
    total=exact_sums.total,
    short_total=_one_by_one,
    # Squares of float32 numbers have 48 bits: float64 holds them as they are.
    square_sum=lambda x: exact_sums.total(np.square(x, dtype=np.float64)),
    exp=_rounded(portable_math.exp),
    log1p=_rounded(portable_math.log1p),
    erf=_rounded(portable_math.erf),
    tanh=_rounded(portable_math.tanh),
    cos_sin=_cos_sin,
    order_matters=False,
)
