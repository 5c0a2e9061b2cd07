"""Loads and slots that the tests of placements share."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers

FLASHLB = np.array([[600.0, 560, 120, 120, 20, 10, 10, 10]])
"""The published example of FlashLB, for 8 ranks of 2 slots: mean 181.25."""


def lognormal(layers: int, experts: int, sigma: float = 1.0, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    found: Floats = np.exp(sigma * random.standard_normal((layers, experts)))
    return found


def largest(map: ExpertMap, load: Floats) -> Floats:
    found: Floats = map.loads(load).max(axis=1)
    return found


def small_layer(seed: int) -> tuple[Floats, Integers]:
    """Loads [1, E] of up to 6 experts on up to 4 ranks of 1 to 3 slots, as many on odd seeds."""
    random = np.random.default_rng(seed)
    experts, ranks = int(random.integers(3, 7)), int(random.integers(2, 5))
    while True:
        each = random.integers(1, 4, ranks)
        slots = np.full(ranks, each[0]) if seed % 2 else each
        if np.minimum(slots, experts).sum() >= experts:
            return lognormal(1, experts, float(random.choice([0.5, 1, 1.5])), seed), slots


def skewed_loads(law: str, experts: int, random: np.random.Generator) -> Floats:
    """[1, E]: "hot" has one to three experts with most of the load, "zeros" many without any."""
    load = np.exp(random.standard_normal(experts))
    if law == "hot":
        load[: random.integers(1, 4)] *= experts * 4
    elif law == "zipf":
        load = np.arange(1, experts + 1) ** -random.uniform(0.3, 1.5)
    elif law == "zeros":
        load[random.random(experts) < 0.6] = 0.0
    return random.permutation(load)[None]


loads = st.one_of(
    st.just(0.0),
    st.integers(1, 5).map(float),  # ties
    st.floats(1e-6, 1e6),
    st.floats(1e-300, 1e300),
)
