"""What groups of ranks show of the least possible load: never too much, and more than before."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from layer_loads import largest, lognormal

from supertile.targets.placement.bounds import placement_bound
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.group_bound import (
    WITHIN,
    LargestExperts,
    most_saved,
    raised_bound,
)
from supertile.targets.placement.optimum import WITHIN as SOLVED, least_largest_load
from supertile.targets.placement.weighted import weighted_map

PRO = 2 + (np.arange(144) < 112).astype(np.int64)
"""400 slots of 144 ranks, for 384 experts."""


def scarce_layer(seed: int) -> tuple[Floats, Integers]:
    """Loads [1, E] of up to 7 experts on up to 4 ranks, which cannot all share."""
    random = np.random.default_rng(seed)
    ranks = int(random.integers(2, 5))
    experts = int(random.integers(ranks, 8))
    slots = experts + int(random.integers(0, ranks - 1))
    each, more = divmod(slots, ranks)
    load = lognormal(1, experts, float(random.choice([0.7, 1, 1.5])), seed)
    return load, each + (np.arange(ranks) < more).astype(np.int64)


@pytest.mark.parametrize("seed", range(24))
def test_it_is_at_most_the_optimum_and_that_at_most_the_plan(seed: int) -> None:
    load, slots = scarce_layer(seed)
    planned = largest(weighted_map(load, slots), load)
    bound = placement_bound(load, slots)
    raised = raised_bound(load, slots, bound, planned)
    optimum = least_largest_load(load[0], slots, "weighted")
    assert bound[0] <= raised[0] <= optimum * (1 + SOLVED)
    assert optimum <= planned[0] * (1 + SOLVED)


def test_a_group_that_costs_too_much_would_be_told() -> None:
    """Were ranks thought to have a slot less than they have, bounds would be above the optimum."""
    told = 0
    for seed in range(24):
        load, slots = scarce_layer(seed)
        fewer = slots - (np.arange(len(slots)) == slots.argmax())
        if fewer.sum() < load.shape[1]:
            continue
        bound = placement_bound(load, slots)
        wrong = raised_bound(load, fewer, bound, np.array([load.sum()]))
        told += wrong[0] > least_largest_load(load[0], slots, "weighted") * (1 + SOLVED)
    assert told >= 3


@pytest.mark.parametrize("law", ["zipf", "lognormal"])
def test_few_spare_slots_of_many_ranks(law: str) -> None:
    """V4-Pro on 144 ranks: hosts and whole experts alone leave a gap of a tenth."""
    load = np.arange(1, 385)[None] ** -0.6 if law == "zipf" else lognormal(3, 384)
    quick = placement_bound(load, PRO)
    for place in (weighted_map, equal_map):
        planned = largest(place(load, PRO), load)
        raised = raised_bound(load, PRO, quick, planned)
        assert (quick <= raised).all() and (raised <= planned).all()
        assert (planned <= raised * 1.04).all()
    if law == "zipf":
        assert (planned > quick * 1.1).all()


def test_known_groups() -> None:
    """Two experts of 6 and four of 1 on four ranks of two slots: 8 slots, two spare.

    Under 4 each large expert needs two ranks, 4 slots, and has room for two of the small: no group
    has a slot to lose, and both cost the spare ones. Under 3.9 that has no room for two.
    """
    load = np.array([6.0, 6, 1, 1, 1, 1])
    layer = LargestExperts(load, np.full(4, 2))
    alone = np.array([1])
    assert layer.costs(load[:1], alone, 4.0).tolist() == [1]
    assert layer.costs(load[:1], alone, 3.9).tolist() == [2]
    assert (layer.least_cost(4.0), layer.least_cost(3.9)) == (2, 3)
    raised = raised_bound(load[None], np.full(4, 2), np.array([3.5]), np.array([4.0]))
    assert 4 / (1 + WITHIN) ** 2 <= raised[0] <= 4


def test_layers_alike_but_for_the_order_have_the_same_bound() -> None:
    load = np.arange(1, 385)[None] ** -0.6
    both = np.concatenate([load, load[:, ::-1]])
    quick = placement_bound(both, PRO)
    raised = raised_bound(both, PRO, quick, quick * 1.2)
    assert raised[0] == raised[1] > quick[0] * 1.05


def test_where_all_ranks_may_share_nothing_is_raised() -> None:
    load = lognormal(2, 8)
    bound = placement_bound(load, [3] * 4)
    assert (raised_bound(load, np.full(4, 3), bound, bound * 2) == bound).all()


@pytest.mark.parametrize("seed", range(12))
def test_no_partition_costs_less(seed: int) -> None:
    """All partitions of the experts, one by one."""
    load, slots = scarce_layer(seed)
    layer = LargestExperts(-np.sort(-load[0]), slots)
    for limit in load.sum() / len(slots) * np.array([1.0, 1.1, 1.3, 1.6]):
        cheapest = min(
            sum(int(_cost(layer, part, limit)) for part in partition)
            for partition in _partitions(list(range(load.shape[1])))
        )
        assert layer.least_cost(limit) <= cheapest


def _cost(layer: LargestExperts, part: list[int], limit: float) -> int:
    chosen = layer.load[part].sum()
    return int(layer.costs(np.array([chosen]), np.array([len(part)]), limit)[0])


def _partitions(items: list[int]) -> Iterator[list[list[int]]]:
    if not items:
        yield []
        return
    first, *rest = items
    for partition in _partitions(rest):
        yield [[first], *partition]
        for index, part in enumerate(partition):
            yield [*partition[:index], [first, *part], *partition[index + 1 :]]


def test_savings_are_bounded_by_prices() -> None:
    """Three experts of which any two save one: one pair is all there is."""
    sets = (np.arange(8)[:, None] >> np.arange(3)) & 1
    saving = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    assert most_saved(sets, saving) == 1
    assert most_saved(sets, np.zeros(8, np.int64)) == 0
    assert most_saved(sets, np.array([0, 0, 0, 2, 0, 0, 0, 3])) == 3
