"""The largest of ranks' loads: against draws, against the sum over all counts, at all sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from supertile.targets.cost.chance import poisson, tail_factor
from supertile.targets.cost.largest import expected_largest

# Mean received tokens are 6 a token of the batch: ranks -> E[max] / mean for each batch.
BATCHES = (1, 8, 32, 64, 128, 256, 1024)
TAILS = {
    32: (1.93, 1.31, 1.15, 1.11, 1.08, 1.05, 1.03),
    384: (2.40, 1.45, 1.22, 1.15, 1.11, 1.08, 1.04),
    8192: (2.89, 1.59, 1.29, 1.20, 1.14, 1.10, 1.05),
}


@pytest.mark.parametrize("ranks, wanted", TAILS.items())
def test_tail_of_a_finite_batch(ranks, wanted):
    found = [expected_largest(np.full(ranks, 6.0 * batch)) / (6 * batch) for batch in BATCHES]
    assert found == pytest.approx(wanted, abs=0.0051)


@pytest.mark.parametrize("ranks, mean", [(32, 6.0), (384, 48.0)])
def test_largest_load_by_simulation(ranks, mean):
    draws = np.random.default_rng(0).poisson(mean, (4000, ranks)).max(axis=1)
    assert expected_largest(np.full(ranks, mean)) == pytest.approx(draws.mean(), abs=0.15)


def test_largest_of_unequal_loads():
    means = np.array([2.0, 30.0, 30.0, 0.0, 9.0])
    draws = np.random.default_rng(1).poisson(means, (40_000, 5)).max(axis=1)
    assert expected_largest(means) == pytest.approx(draws.mean(), abs=0.1)
    assert expected_largest(np.zeros(3)) == 0


@pytest.mark.parametrize("mean", [1.0, 6e2, 6e6, 6e8])
def test_largest_of_equal_loads_is_the_tail_of_the_cost_model(mean):
    """However large: a prefill of a million tokens brings millions of rows to a rank."""
    assert expected_largest(np.full(384, mean)) / mean == pytest.approx(
        tail_factor(mean, 384), rel=1e-4
    )
    loads = np.array([mean] * 3 + [mean / 2] * 5)
    assert expected_largest(loads) >= expected_largest(np.full(3, mean)) * (1 - 1e-9)


def whole_sum(means: np.ndarray) -> float:
    """E[max] with every rank and every count."""
    counts = np.arange(math.ceil(means.max() + 12 * math.sqrt(means.max())) + 40)
    none_above = np.ones(len(counts))
    for mean in means.tolist():
        known, chances = poisson(mean)
        below = np.zeros(len(counts))
        inside = np.clip(counts - int(known[0]), 0, len(known) - 1)
        below = np.where(counts < known[0], 0.0, np.minimum(np.cumsum(chances), 1.0)[inside])
        none_above *= below
    return float((1 - none_above).sum())


@pytest.mark.parametrize("mean", [0.3, 6.0, 384.0, 1100.0, 20_000.0])
@pytest.mark.parametrize("spread", [0.01, 0.1, 1.0])
def test_unequal_means_are_the_whole_sum(mean: float, spread: float) -> None:
    """Means on both sides of `COUNTED_TO`, of ranks that are all near the top and that are not."""
    means = mean * np.random.default_rng(2).lognormal(0, spread, 96)
    deviation = math.sqrt(means.max())
    assert expected_largest(means) == pytest.approx(whole_sum(means), abs=3e-3 * deviation)
