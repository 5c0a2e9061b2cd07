from __future__ import annotations

from itertools import islice, product

import numpy as np
import pytest
from layer_loads import FLASHLB, lognormal, small_layer

from supertile.targets.placement.bounds import equal_bound, placement_bound, replica_bound
from supertile.targets.placement.counts import more_replicas, raises
from supertile.targets.placement.eplb import replicate_experts
from supertile.targets.placement.one_slot import one_slot_map, replica_counts
from supertile.targets.placement.optimum import WITHIN, least_largest_load


@pytest.mark.parametrize("seed", range(20))
def test_one_slot_a_rank_attains_the_bound_and_nothing_less_is_possible(seed: int) -> None:
    random = np.random.default_rng(seed)
    experts, ranks = int(random.integers(1, 7)), int(random.integers(6, 11))
    load = np.round(lognormal(1, experts, seed=seed), seed % 2 + 1)
    counts = (c for c in product(range(1, ranks + 1), repeat=experts) if sum(c) <= ranks)
    best = min(max(w / c for w, c in zip(load[0], count, strict=True)) for count in counts)
    assert replica_bound(load, ranks) == pytest.approx(best, rel=1e-12)
    assert one_slot_map(load, ranks).loads(load).max() == pytest.approx(best, rel=1e-12)


def test_counts_are_those_of_one_replica_at_a_time() -> None:
    load = lognormal(5, 20)
    assert (replica_counts(load, 70) == replicate_experts(load, 70)[2]).all()


def test_a_raise_goes_to_the_largest_load_per_replica_first_on_ties() -> None:
    raised = list(islice(raises(np.array([4.0, 4, 3, 0]), np.ones(4, np.int64), 2), 9))
    assert raised == [0, 1, 2, 3]  # no expert has more than two
    assert more_replicas(np.array([6.0, 1]), np.array([1, 1]), 5, 9).tolist() == [4, 1]
    assert more_replicas(np.array([6.0, 1]), np.array([3, 1]), 2, 9).tolist() == [3, 1]


@pytest.mark.parametrize("seed", range(12))
def test_bounds_are_at_most_the_optimum(seed: int) -> None:
    load, slots = small_layer(seed)
    for bound, shares in ((placement_bound, "weighted"), (equal_bound, "equal")):
        assert bound(load, slots)[0] <= least_largest_load(load[0], slots, shares) * (1 + WITHIN)


def test_more_slots_lower_them_and_loads_scale_them() -> None:
    load = lognormal(3, 24)
    for bound in (placement_bound, equal_bound):
        last = np.full(3, np.inf)
        for slots in ([4] * 6, [5] + [4] * 5, [5] * 6, [6] * 6):
            found = bound(load, slots)
            assert (found <= last * (1 + 1e-12)).all()
            assert bound(8 * load, slots) == pytest.approx(8 * found, rel=1e-12)
            last = found


def test_known_bounds() -> None:
    assert placement_bound(FLASHLB, [2] * 8) == pytest.approx([181.25])
    # Three experts on two ranks of two slots: one is cut, so any loads balance.
    assert placement_bound([[4.0, 4, 4]], [2, 2]) == pytest.approx([6])
    # Equal shares cut an expert in halves: two of four on some rank.
    assert placement_bound([[4.0, 4, 4]], [2, 1]) == pytest.approx([8])
    # Seven whole experts on three ranks: three on one of them.
    assert placement_bound([[1.0] * 7], [3, 2, 2]) == pytest.approx([3])
    assert placement_bound([[0.0, 0]], [1, 1]) == pytest.approx([0])
