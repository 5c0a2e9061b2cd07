"""Robust placements: better than packing on scenarios they were not chosen on; valid everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.targets.placement.check import check_map
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.resplit import resplit
from supertile.targets.placement.rings import CountRule, ring_counts, ring_layer
from supertile.targets.placement.robust import robust_map
from supertile.targets.placement.scenarios import forecast_scenarios
from supertile.targets.placement.starts import packed_layer


def forecast_of(layers: int, experts: int, sigma: float = 0.5) -> Floats:
    return np.random.default_rng(7).lognormal(0, sigma, (layers, experts))


@pytest.mark.parametrize(("ranks", "each"), [(64, 2), (64, 3), (16, 5)])
def test_beats_packing_on_hold_out_scenarios(ranks: int, each: int) -> None:
    forecast, slots = forecast_of(3, 64), np.full(ranks, each)
    planning, hold_out = (
        forecast_scenarios(forecast, 12, drift=0.2, pairs=384 * ranks, stream=stream)
        for stream in ("planning", "hold-out")
    )
    plan = robust_map(forecast, slots, planning, variations=2)
    packed = ExpertMap.equal(64, slots, np.stack([packed_layer(of, slots) for of in forecast]))
    robust, baseline = (resplit(map, hold_out).expected for map in (plan.map, packed))
    assert not check_map(plan.map)
    assert robust.mean() > baseline.mean() + 0.02
    assert plan.expected == pytest.approx(robust, abs=0.05)
    assert plan.forecast == pytest.approx(plan.map.balancedness(forecast))


@given(st.integers(2, 20), st.integers(2, 8), st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_any_sizes_and_loads_make_a_placement(experts: int, ranks: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    slots = random.integers(1, 6, ranks)
    slots[0] += max(0, experts - int(slots.sum()))
    slots[0] = min(slots[0], experts)
    slots[1] += max(0, experts - int(np.minimum(slots, experts).sum()))
    load = random.lognormal(0, 1, (2, experts)) * random.integers(0, 3, (2, experts))
    plan = robust_map(load, slots, load[None], variations=1)
    assert not check_map(plan.map)
    assert ((plan.expected > 0) & (plan.expected <= 1 + 1e-9)).all()


def test_given_candidates_are_kept_where_they_are_best() -> None:
    """Two experts on both of two ranks: any loads are balanced."""
    load, slots = np.array([[3.0, 1.0]]), np.array([2, 2])
    given_map = ExpertMap.equal(2, slots, np.array([[0, 1, 1, 0]]))
    plan = robust_map(load, slots, load[None], candidates=[given_map])
    assert plan.start == ("given",) and plan.expected[0] == pytest.approx(1)


def test_same_seed_same_placement() -> None:
    forecast, slots = forecast_of(1, 32), np.full(32, 2)
    scenarios = forecast_scenarios(forecast, 4, drift=0.3)
    first, second = (robust_map(forecast, slots, scenarios, seed=3, variations=2) for _ in range(2))
    assert (first.map.expert == second.map.expert).all()


def test_rings_connect_all_ranks_and_balance_their_forecast_nearly() -> None:
    load, slots = forecast_of(1, 48)[0], np.array([3] * 16 + [2] * 32)
    rule = CountRule(1.0, 1.0)
    expert = ring_layer(load, slots, rule, np.random.default_rng(0), 0)
    assert expert is not None
    map = ExpertMap.equal(48, slots, expert[None])
    assert not check_map(map)
    reached, edges = {0}, list(zip(map.rank.tolist(), expert.tolist(), strict=True))
    for _ in range(48):
        known = {e for g, e in edges if g in reached}
        reached |= {g for g, e in edges if e in known}
    assert len(reached) == 48
    assert resplit(map, load[None, None]).expected[0] > 0.97


def test_no_ring_without_the_slots_for_it() -> None:
    rule, random = CountRule(1.0, 1.0), np.random.default_rng(0)
    assert ring_layer(np.ones(4), np.array([2, 2, 2]), rule, random, 0) is None
    assert ring_layer(np.zeros(3), np.array([2, 2, 2]), rule, random, 0) is None


def test_replicas_are_counted_up_to_the_ranks() -> None:
    counts = ring_counts(np.array([5.0, 0.5, 0.5]), 8, CountRule(1.0, 1.3), 4)
    assert counts.tolist() == [4, 2, 2]


def test_scenarios_of_another_shape() -> None:
    with pytest.raises(ValueError, match="scenarios of the shape"):
        robust_map(np.ones((1, 4)), [2, 2], np.ones((1, 4)))
