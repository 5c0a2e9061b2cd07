"""Rotary embeddings against complex multiplication, and their frequencies against known values."""

import math
from typing import Any

import numpy as np
import pytest
from xdsl.utils.exceptions import VerifyException

from supertile.ir.types import RopeAttr
from supertile.runtime.numerics import F32
from supertile.runtime.rope import frequencies, rope


def rule(**changes: Any) -> dict[str, str | float]:
    """The fields of a rope; DeepSeek-V4's base and YaRN numbers, unless changed."""
    fields: dict[str, Any] = {
        "pairs": "interleaved", "scaling": "default", "dims": 8, "theta": 160000.0, "factor": 16.0,
        "original": 65536.0, "beta_fast": 32.0, "beta_slow": 1.0, "low_frequency": 1.0,
        "high_frequency": 4.0, "magnitude": 1.0,
    }  # fmt: skip
    return RopeAttr.of(**(fields | changes)).fields()


def frequencies_of(**changes: Any) -> F32:
    fields: dict[str, Any] = rule(**changes)
    return frequencies(**{k: v for k, v in fields.items() if k not in ("pairs", "magnitude")})


def normal(*shape: int) -> F32:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# ---- turning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 12), (5, 8)])
def test_a_pair_turns_as_a_complex_number(pairs: str, shape: tuple[int, ...]) -> None:
    x, position = normal(*shape), np.array([0, 1, 7, 100, 3])
    got = rope(x, position, rule(pairs=pairs, magnitude=1.5))
    kept = shape[-1] - 8
    assert np.array_equal(got[..., :kept], x[..., :kept])
    turning = np.arange(kept, shape[-1])
    firsts, seconds = (
        (turning[::2], turning[1::2]) if pairs == "interleaved" else turning.reshape(2, 4)
    )
    for i, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        turn = 1.5 * np.exp(1j * position * 160000.0 ** (-2 * i / 8))
        turned = (x[..., first] + 1j * x[..., second]).T * turn
        np.testing.assert_allclose(got[..., first].T, turned.real, atol=2e-5)
        np.testing.assert_allclose(got[..., second].T, turned.imag, atol=2e-5)


@pytest.mark.parametrize("pairs", ["interleaved", "halves"])
def test_the_inverse_turns_back(pairs: str) -> None:
    x, position = normal(4, 2, 16), np.array([0, 9, 500, 1_000_000])
    there = rope(x, position, rule(pairs=pairs))
    np.testing.assert_allclose(rope(there, position, rule(pairs=pairs), inverse=True), x, atol=1e-6)


def test_products_of_turned_vectors_depend_on_the_distance_alone() -> None:
    q, k = normal(1, 8), normal(1, 8)[:, ::-1]
    pairs = [(3, 1), (50, 48), (702, 700)]
    products = [
        float(rope(q, np.array([a]), rule())[0] @ rope(k, np.array([b]), rule())[0])
        for a, b in pairs
    ]
    assert products == pytest.approx([products[0]] * 3, abs=1e-3)


def test_angles_are_products_of_float32() -> None:
    """At a position of a million the angle is a float32: its error is not that of a float64."""
    position, f = np.float32(1_000_003), frequencies_of()[1]
    x = np.zeros((1, 8), dtype=np.float32)
    x[0, 2] = 1
    got = rope(x, np.array([1_000_003]), rule())
    assert got[0, 2] == pytest.approx(math.cos(float(position * f)), abs=1e-6)


def test_an_empty_call() -> None:
    assert rope(normal(0, 2, 8), np.zeros(0, dtype=np.int32), rule()).shape == (0, 2, 8)


def test_pairs_have_two_forms() -> None:
    with pytest.raises(ValueError, match="diagonal"):
        rope(normal(1, 8), np.array([1]), rule() | {"pairs": "diagonal"})


# ---- frequencies ---------------------------------------------------------------------------------


def test_default_frequencies_are_powers_of_the_base() -> None:
    got = frequencies_of(dims=64, theta=10000.0)
    np.testing.assert_allclose(got, [10000.0 ** (-2 * i / 64) for i in range(32)], rtol=3e-7)
    assert got.dtype == np.float32


def test_linear_scaling_divides() -> None:
    np.testing.assert_allclose(
        frequencies_of(scaling="linear", factor=4.0), frequencies_of() / 4, rtol=1e-7
    )


def test_yarn_slows_pairs_between_two_rotation_counts() -> None:
    """The released numbers of DeepSeek-V4: pairs up to 15 keep, pairs from 25 on are divided."""
    plain, got = frequencies_of(dims=64), frequencies_of(dims=64, scaling="yarn")
    ramp = np.clip((np.arange(32) - 15) / (25 - 15), 0, 1)
    np.testing.assert_allclose(got, plain * (1 - ramp) + plain / 16 * ramp, rtol=1e-6)


def test_yarn_with_both_bounds_at_one_pair_is_a_step() -> None:
    got = frequencies_of(scaling="yarn", original=2.0) / frequencies_of()
    np.testing.assert_allclose(got, [1, 1 / 16, 1 / 16, 1 / 16], rtol=1e-6)


def test_llama3_slows_long_waves() -> None:
    """As transformers computes it: by wave length against two bounds, smooth in between."""
    numbers = {"dims": 128, "theta": 500000.0, "factor": 8.0, "original": 8192.0}
    got = frequencies_of(scaling="llama3", **numbers)
    for i, f in enumerate(frequencies_of(**numbers).tolist()):
        wave = 2 * math.pi / f
        if wave < 8192 / 4:
            expected = f
        elif wave > 8192 / 1:
            expected = f / 8
        else:
            smooth = (8192 / wave - 1) / (4 - 1)
            expected = (1 - smooth) * f / 8 + smooth * f
        assert got[i] == pytest.approx(expected, rel=1e-5)


def test_frequencies_are_kept_and_cannot_be_changed() -> None:
    assert frequencies_of() is frequencies_of()
    with pytest.raises(ValueError, match="read-only"):
        frequencies_of()[0] = 1


def test_scaling_rules_have_names() -> None:
    with pytest.raises(VerifyException, match="default, linear, yarn, llama3"):
        frequencies_of(scaling="cubic")


@pytest.mark.parametrize("original", [4096.0, 1e9])
def test_the_ramp_of_yarn_ends_at_the_last_channel_at_most(original: float) -> None:
    """Where even slow turns are beyond all pairs the slope is that to the last channel."""
    dims, theta, factor, fast, slow = 8, 100.0, 4.0, 32.0, 1e-3

    def pair(rotations: float) -> float:
        return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(pair(fast)), 0), min(math.ceil(pair(slow)), dims - 1)
    ramp = np.clip((np.arange(4) - low) / max(high - low, 0.001), 0, 1)
    base = theta ** (-np.arange(0, dims, 2) / dims)
    expected = base * (1 - ramp) + base / factor * ramp
    rule = {"original": original, "beta_fast": fast, "beta_slow": slow}
    found = frequencies_of(dims=dims, theta=theta, scaling="yarn", factor=factor, **rule)
    assert np.allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("magnitude", [0.0, 0.25, 1.0, 3.0])
def test_what_turns_has_the_magnitude(magnitude: float) -> None:
    x, position = normal(4, 12), np.array([0, 1, 7, 100])
    plain, found = rope(x, position, rule()), rope(x, position, rule(magnitude=magnitude))
    np.testing.assert_allclose(found[:, 4:], magnitude * plain[:, 4:], rtol=1e-6)
    assert np.array_equal(found[:, :4], x[:, :4])
