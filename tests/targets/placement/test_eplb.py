from __future__ import annotations

import numpy as np
import pytest
from layer_loads import lognormal

from supertile.targets.placement.eplb import eplb_map, heap_packing, rebalance_experts

README = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
]
README_SLOTS = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


def plain(load: list[float], replicas: int, gpus: int) -> list[int]:
    """EPLB's global policy of one layer, written down once more from its description."""
    counts, expert = [1] * len(load), list(range(len(load)))
    while len(expert) < replicas:
        hottest = max(range(len(load)), key=lambda e: load[e] / counts[e])
        counts[hottest] += 1
        expert.append(hottest)
    if replicas == gpus:
        return expert
    packs: list[list[int]] = [[] for _ in range(gpus)]
    loads = [0.0] * gpus
    for replica in sorted(range(replicas), key=lambda r: -load[expert[r]] / counts[expert[r]]):
        free = [g for g in range(gpus) if len(packs[g]) < replicas // gpus]
        pack = min(free, key=lambda g: loads[g])
        packs[pack].append(expert[replica])
        loads[pack] += load[expert[replica]] / counts[expert[replica]]
    return [expert for pack in packs for expert in pack]


def test_example_of_its_readme() -> None:
    expert, replicas, counts = rebalance_experts(README, 16, 4, 2, 8)
    assert expert.tolist() == README_SLOTS
    for layer in range(2):
        for number, slots in enumerate(replicas[layer]):
            held = [slot for slot in slots if slot >= 0]
            assert held and all(README_SLOTS[layer][slot] == number for slot in held)
            assert len(held) == counts[layer, number]


@pytest.mark.parametrize("seed", range(100))
def test_equals_its_description(seed: int) -> None:
    random = np.random.default_rng(seed)
    gpus, each, experts = random.integers(1, 7), random.integers(1, 5), random.integers(1, 9)
    replicas = int(gpus * max(each, -(-experts // gpus)))
    load = random.integers(0, 9, (2, experts)).astype(float)  # many ties
    expert, _, _ = rebalance_experts(load, replicas, 1, 1, int(gpus))
    assert expert.tolist() == [plain(row, replicas, int(gpus)) for row in load.tolist()]


def test_packing_by_heap_is_the_same() -> None:
    for seed in range(5):
        load = np.round(lognormal(3, 16, seed=seed), 1)
        slow = rebalance_experts(load, 24, 4, 2, 4)
        fast = rebalance_experts(load, 24, 4, 2, 4, heap_packing)
        assert all((a == b).all() for a, b in zip(slow, fast, strict=True))


def test_flashlb_example() -> None:
    load = [[600, 560, 120, 120, 20, 10, 10, 10]]
    assert eplb_map(load, 16, 8).loads(np.array(load)).max() == pytest.approx(232, abs=0.5)


@pytest.mark.parametrize("sizes", [(15, 1, 1, 4), (8, 1, 1, 4), (16, 5, 5, 4), (16, 4, 4, 2)])
def test_sizes_that_do_not_divide(sizes: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="EPLB needs"):
        rebalance_experts(README, *sizes)
