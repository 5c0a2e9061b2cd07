from __future__ import annotations

import numpy as np
import pytest
from layer_loads import FLASHLB, largest, lognormal, small_layer

from supertile.targets.placement.bounds import equal_bound
from supertile.targets.placement.check import Claim, check_map
from supertile.targets.placement.eplb import eplb_map, heap_packing
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.expert_map import replicas
from supertile.targets.placement.optimum import WITHIN, least_largest_load


def test_flashlb_example() -> None:
    assert largest(equal_map(FLASHLB, [2] * 8), FLASHLB)[0] <= 205


@pytest.mark.parametrize(("experts", "ranks", "slots"), [(32, 8, 5), (64, 48, 2), (24, 24, 3)])
def test_at_least_as_good_as_eplb(experts: int, ranks: int, slots: int) -> None:
    load = lognormal(4, experts)
    found = equal_map(load, [slots] * ranks)
    eplb = eplb_map(load, ranks * slots, ranks, packing=heap_packing)
    assert (largest(found, load) <= largest(eplb, load) * (1 + 1e-9)).all()
    bound = equal_bound(load, [slots] * ranks)
    assert check_map(found, load, Claim(largest(found, load), bound)) == []


def test_replicas_share_evenly_on_uneven_slots() -> None:
    load = lognormal(2, 12)
    found = equal_map(load, [1, 2, 3, 4, 20])
    assert check_map(found, load) == []
    counts = replicas(found.expert, 12)
    for layer, slot in np.argwhere(found.expert >= 0):
        expert = found.expert[layer, slot]
        assert found.share[layer, slot] == pytest.approx(1 / counts[layer, expert])


def test_close_to_the_optimum_of_small_layers() -> None:
    ratios = []
    for seed in range(16):
        load, slots = small_layer(seed)
        found = float(largest(equal_map(load, slots), load)[0])
        ratios.append(found / least_largest_load(load[0], slots, "equal"))
    assert min(ratios) >= 1 - WITHIN
    assert max(ratios) <= 1.07 and np.mean(ratios) <= 1.03
