"""Rotary position embedding: the frequencies of each scaling rule, and the turning of pairs.

Angles are float32 products of a float32 position and a float32 frequency: at a position of a
million this rounds by hundredths of a radian, and models are trained and served with it.
Sources: RoPE arXiv 2104.09864; YaRN arXiv 2309.00071; transformers `modeling_rope_utils`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from supertile.ir import portable_math
from supertile.runtime.arithmetic import LIBRARY, Arithmetic
from supertile.runtime.numerics import F32

Index = npt.NDArray[np.integer[Any]]


def rope(
    x: F32,
    position: Index,
    rope: dict[str, str | float],
    inverse: bool = False,
    arithmetic: Arithmetic = LIBRARY,
) -> npt.NDArray[Any]:
    """x [T, .., C] with pair i of the last `dims` channels turned by position[t] * f_i; same shape.

    (a, b) -> (a cos - b sin, a sin + b cos); cos and sin carry the factor `magnitude`. Pairs are
    neighbours (interleaved) or lie half of `dims` apart (halves). `inverse` negates the angle.
    """
    dims = int(rope["dims"])
    first, second = _pair_channels(str(rope["pairs"]), x.shape[-1], dims)
    cos, sin = _turns(rope, position, arithmetic)
    shape = (len(position), *(1,) * (x.ndim - 2), dims // 2)
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    if inverse:
        sin = -sin
    a, b = x[..., first], x[..., second]
    turned = np.empty_like(x)
    turned[..., :-dims] = x[..., :-dims]
    turned[..., first] = a * cos - b * sin
    turned[..., second] = a * sin + b * cos
    return turned


def _pair_channels(pairs: str, channels: int, dims: int) -> tuple[slice, slice]:
    """Which channels hold the first and the second members of the pairs."""
    start, half = channels - dims, channels - dims // 2
    if pairs == "interleaved":
        return slice(start, None, 2), slice(start + 1, None, 2)
    if pairs == "halves":
        return slice(start, half), slice(half, None)
    raise ValueError(f"pairs are interleaved or halves, got {pairs!r}")


def _turns(
    rope: dict[str, str | float], position: Index, arithmetic: Arithmetic
) -> tuple[F32, F32]:
    """cos and sin [T, dims / 2] of the angles, times the magnitude."""
    rule = {key: value for key, value in rope.items() if key not in ("pairs", "magnitude")}
    angle = position.astype(np.float32)[:, None] * frequencies(**rule)
    cos, sin = arithmetic.cos_sin(angle)
    magnitude = np.float32(rope["magnitude"])
    if magnitude != 1:
        cos *= magnitude
        sin *= magnitude
    return cos, sin


@lru_cache(maxsize=64)  # a model has a few ropes
def frequencies(
    scaling: str,
    dims: float,
    theta: float,
    factor: float,
    original: float,
    beta_fast: float,
    beta_slow: float,
    low_frequency: float,
    high_frequency: float,
) -> F32:
    """f_i [dims / 2]: theta^(-2i/dims), changed by the scaling rule; read-only.

    default   f_i
    linear    f_i / factor
    yarn      from f_i to f_i / factor between the pairs that turn `beta_fast` and `beta_slow`
              times over `original` positions
    llama3    from f_i to f_i / factor between the pairs that turn `high_frequency` and
              `low_frequency` times over `original` positions
    """
    exponent = np.arange(0, int(dims), 2, dtype=np.float32) / np.float32(dims)
    # The power in float64 rounded once: what a float32 power function aims at.
    base: F32 = np.float32(1) / portable_math.power(theta, exponent).astype(np.float32)
    slow = base / np.float32(factor)
    if scaling == "default":
        result = base
    elif scaling == "linear":
        result = slow
    elif scaling == "yarn":
        ramp = _yarn_ramp(int(dims), theta, original, beta_fast, beta_slow)
        result = slow * ramp + base * (1 - ramp)
    elif scaling == "llama3":
        keep = _llama3_share(base, original, low_frequency, high_frequency)
        result = slow * (1 - keep) + base * keep
    else:
        raise ValueError(f"scaling is default, linear, yarn or llama3, got {scaling!r}")
    result.flags.writeable = False
    return result


def _yarn_ramp(dims: int, theta: float, original: float, fast: float, slow: float) -> F32:
    """How far each pair is slowed: 0 up to the pair of `fast` rotations, 1 from that of `slow`."""

    def pair(rotations: float) -> float:
        turns = portable_math.log(original / (rotations * 2 * math.pi))
        return float(dims * turns / (2 * portable_math.log(theta)))

    low = max(math.floor(pair(fast)), 0)
    high = min(math.ceil(pair(slow)), dims - 1)
    width = np.float32(max(high - low, 0.001))  # a step where both are one pair
    pairs = np.arange(dims // 2, dtype=np.float32)
    ramp: F32 = np.clip((pairs - np.float32(low)) / width, 0, 1)
    return ramp


def _llama3_share(base: F32, original: float, low: float, high: float) -> F32:
    """How much of each frequency stays: 0 below `low` turns in `original` positions, 1 above."""
    turns = np.float32(original) * base / np.float32(2 * math.pi)
    share: F32 = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    return share
