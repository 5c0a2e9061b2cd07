"""The expected largest of ranks' loads, each of them Poisson with a mean of its own.

    E[max] = sum over counts x of 1 - product over ranks of F_r(x)

Ranks that are never the fullest are left out, and means that lie together count as one, so that a
layer of thousands of ranks takes a few milliseconds. Against the whole sum that is within three
thousandths of the standard deviation of the fullest rank's load.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supertile.ir import portable_math
from supertile.targets.cost.chance import normal_below, tail_factor

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EQUAL = 1e-9
"""Relative: means that differ by less differ by rounding alone."""
FAR = 9.0
"""Standard deviations beyond which a load is not met: 1e-19."""
STEPS = 16
"""Groups of means within a standard deviation of the largest load; each has the mean of its own."""
COUNTED_TO = 1e3
"""Mean from which Poisson counts are taken as normal ones with their skewness."""
POINTS = 512
"""Points of the integral over those."""


def expected_largest(means: ArrayLike) -> float:
    """E[max] of independent Poisson loads with these means, [ranks]: one for each rank."""
    loads = np.asarray(means, np.float64)
    top = float(loads.max())
    if top == 0:
        return 0.0
    near = loads[loads + FAR * np.sqrt(loads) >= top - FAR * math.sqrt(top)]
    if (near >= top * (1 - EQUAL)).all():
        return top * float(tail_factor(top, float(len(near))))
    values, ranks = _grouped(near, math.sqrt(top) / STEPS)
    return _counted(values, ranks) if top < COUNTED_TO else _integrated(values, ranks)


def _grouped(means: Floats, step: float) -> tuple[Floats, Integers]:
    """Means within a step of each other as their mean, ascending, and how many each stands for."""
    _, group, ranks = np.unique(np.rint(means / step), return_inverse=True, return_counts=True)
    return np.bincount(group, means) / ranks, ranks


def _counted(means: Floats, ranks: Integers) -> float:
    """The sum over all counts that are met, for means below `COUNTED_TO`."""
    top = float(means[-1])
    low = max(0, math.floor(top - FAR * math.sqrt(top)))
    # FAR deviations of a Poisson variable with a small mean are less far than those of a normal.
    counts = np.arange(low, math.ceil(top + FAR * math.sqrt(top)) + 40, dtype=np.float64)
    factorials = portable_math.log_factorial(counts)
    logs = np.maximum(portable_math.log(means), -1e3)
    chances = portable_math.exp(logs[:, None] * counts - means[:, None] - factorials)
    # Added from the largest count on: what is above a count, without the rounding of 1 - F.
    above = np.cumsum(chances[:, ::-1], axis=1)[:, ::-1] - chances
    return low + float((1 - _all_below(1 - above, ranks)).sum())


def _integrated(means: Floats, ranks: Integers) -> float:
    """The same as an integral over normal variables with the skewness of Poisson ones."""
    top = float(means[-1])
    points = top + np.linspace(-FAR, FAR, POINTS) * math.sqrt(top)
    # x = m + sqrt(m) w + (w^2 - 1) / 6 (Cornish and Fisher), solved for w.
    roots = np.sqrt(means)[:, None]
    w = 3 * (np.sqrt(roots * roots + 2 / 3 * (points - means[:, None] + 1 / 6)) - roots)
    missed = 1 - _all_below(normal_below(w), ranks)
    return float(points[0] + np.sum((missed[1:] + missed[:-1]) / 2 * np.diff(points)))


def _all_below(below: Floats, ranks: Integers) -> Floats:
    """The chance that all ranks are below: the product of `below` [values, x], each so often."""
    found: Floats = np.prod(portable_math.power(np.clip(below, 0.0, 1.0), ranks[:, None]), axis=0)
    return found
