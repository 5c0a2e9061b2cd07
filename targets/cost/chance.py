"""Expectations over how rows fall on experts and ranks: blocks, experts touched, the fullest rank.

Rows go to groups independently and evenly, so that the rows of a group are close to a Poisson
variable n with the mean rows / groups. Sums are exact to rounding up to means of 1e5, and beyond
within 1e-5 of what chance adds; nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.ir import portable_math
from supertile.targets.cost.values import Value, is_array

UNIFORM = 37.0  # exp(-37) is below 1e-16
NORMAL_FROM = 1e5
"""Mean from which Poisson counts are taken as normal ones with their skewness."""
NORMAL_POINTS = 9601
SPREAD = 12.0  # standard deviations beyond which a Poisson term is below 1e-30


def pointwise(function: Callable[..., float]) -> Callable[..., Value]:
    """The function of numbers on arrays too; equal points are computed once."""
    cached = lru_cache(maxsize=65536)(function)

    @wraps(function)
    def applied(*arguments: Value) -> Value:
        if not any(map(is_array, arguments)):
            return cached(*(float(argument) for argument in arguments))
        columns = np.broadcast_arrays(*arguments)
        points = zip(*(column.ravel().tolist() for column in columns), strict=True)
        results = [cached(*(float(x) for x in point)) for point in points]
        return np.array(results).reshape(columns[0].shape)

    return applied


@pointwise
def expected_blocks(rows: float, groups: float, step: float) -> float:
    """Blocks of `step` rows, none with rows of two groups: groups x E[ceil(n / step)].

    Where n spreads over many steps, n mod step is uniform up to |E exp(2 pi i n / step)|, which is
    exp(-mean (1 - cos(2 pi / step))). Where that is below 1e-16 the sum is closed:
    E[ceil(n / step)] = (mean + (step - 1) / 2) / step.
    """
    if rows <= 0 or groups <= 0:
        return 0.0
    mean = rows / groups
    if step == 1 or mean * 2 * portable_math.cos_sin(math.pi / step)[1] ** 2 > UNIFORM:
        return groups * (mean + (step - 1) / 2) / step
    counts, chances = poisson(mean)
    return groups * float((np.ceil(counts / step) * chances).sum())


@pointwise
def touched_share(rows: float, groups: float) -> float:
    """The expected share of the groups that get a row: 1 - (1 - 1 / groups)^rows."""
    if groups <= 1:
        return 1.0 if rows > 0 else 0.0
    return -float(portable_math.expm1(rows * portable_math.log1p(-1 / groups)))


@pointwise
def tail_factor(mean: float, ranks: float) -> float:
    """E[largest of `ranks` Poisson counts] / mean = sum over x of 1 - F(x)^ranks, over the mean.

    How much more the fullest rank receives than the average one, with perfectly even experts:
    a lower bound of imbalance, as choices of one token are not independent and experts differ.
    """
    if mean <= 0 or ranks <= 1:
        return 1.0
    if mean > NORMAL_FROM:
        return 1 + _largest_deviation(mean, ranks) / mean
    counts, chances = poisson(mean)
    below = np.minimum(np.cumsum(chances), 1.0)
    return float(counts[0] + np.sum(1 - portable_math.power(below, ranks))) / mean


def _largest_deviation(mean: float, ranks: float) -> float:
    """E[largest of `ranks` Poisson counts] - mean for a large mean, in the time of a small one.

    A count is mean + sqrt(mean) w + (w^2 - 1) / 6 of a normal w (Cornish and Fisher); what is left
    out is of the order 1 / sqrt(mean).
    """
    w, below = _normal()
    chances = np.diff(portable_math.power(below, ranks))
    middle = (w[1:] + w[:-1]) / 2
    return float((chances * (math.sqrt(mean) * middle + (middle * middle - 1) / 6)).sum())


@lru_cache(maxsize=1)
def _normal() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Points, and the chance that a normal variable is below each."""
    w, step = np.linspace(-SPREAD, SPREAD, NORMAL_POINTS, retstep=True)
    # Gauss and Legendre's rule of three points between neighbours: within 1e-16.
    middle, aside = (w[1:] + w[:-1]) / 2, step / 2 * math.sqrt(0.6)
    density = [portable_math.exp(-(x * x) / 2) for x in (middle - aside, middle, middle + aside)]
    between = (
        step / math.sqrt(2 * math.pi) * (5 * density[0] + 8 * density[1] + 5 * density[2]) / 18
    )
    return w, np.minimum(np.concatenate([[0.0], np.cumsum(between)]), 1.0)


def normal_below(w: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The chance that a normal variable is below each of the values."""
    points, below = _normal()
    found: npt.NDArray[Any] = np.interp(w, points, below)
    return found


def poisson(mean: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The counts with a chance worth adding, and their chances."""
    spread = SPREAD * math.sqrt(mean)
    low = max(0, math.floor(mean - spread))
    counts = np.arange(low, math.ceil(mean + spread) + 40, dtype=np.float64)
    logarithm = float(portable_math.log(mean))
    first = low * logarithm - mean - float(portable_math.log_factorial(low))
    steps = logarithm - portable_math.log(counts[1:])
    return counts, portable_math.exp(first + np.concatenate([[0.0], np.cumsum(steps)]))
