"""Migration: within its limits, better with larger ones, from shares alone to the whole plan."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from supertile.targets.placement.check import check_map
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.migrate import Migration, migrate, relabelled
from supertile.targets.placement.resplit import resplit
from supertile.targets.placement.robust import robust_map
from supertile.targets.placement.scenarios import forecast_scenarios
from supertile.targets.placement.starts import packed_layer

SLOTS = np.array([3] * 8 + [2] * 8)
BYTES = 1000


def case() -> tuple[ExpertMap, ExpertMap, Floats]:
    """Packed for one load; wanted for another."""
    random = np.random.default_rng(2)
    old = random.lognormal(0, 0.5, (2, 24))
    new = old * random.lognormal(0, 0.6, (2, 24))
    current = ExpertMap.equal(24, SLOTS, np.stack([packed_layer(of, SLOTS) for of in old]))
    scenarios = forecast_scenarios(new, 4, drift=0.1)
    return current, robust_map(new, SLOTS, scenarios, variations=0).map, scenarios


CURRENT, WANTED, SCENARIOS = case()


def migrated(**limits: int) -> Migration:
    found = migrate(CURRENT, WANTED, SCENARIOS, expert_bytes=BYTES, **limits)
    assert not check_map(found.map)
    assert found.moved_bytes == BYTES * len(found.moves)
    return found


def applied(found: Migration) -> np.ndarray:
    """The current experts after the moves, each from a slot that holds what it says."""
    starts = np.concatenate([[0], np.cumsum(SLOTS)[:-1]])
    expert = CURRENT.expert.copy()
    for move in found.moves:
        source = starts[move.from_rank] + move.from_slot
        assert CURRENT.expert[move.layer, source] == move.expert
        expert[move.layer, starts[move.to_rank] + move.to_slot] = move.expert
    return expert


def test_no_moves_change_shares_alone() -> None:
    found = migrated(most_per_layer=0)
    assert not found.moves and (found.map.expert == CURRENT.expert).all()
    assert found.expected == pytest.approx(resplit(CURRENT, SCENARIOS).expected)
    mean = SCENARIOS.mean(axis=0)
    assert (found.map.balancedness(mean) >= CURRENT.balancedness(mean) - 1e-6).all()


def test_more_moves_are_better_and_within_the_limit() -> None:
    limits = (0, 2, 6, 40)
    per_layer = [migrated(most_per_layer=limit) for limit in limits]
    in_all = [migrated(most=limit) for limit in limits]
    for limit, each, total in zip(limits, per_layer, in_all, strict=True):
        assert len(total.moves) <= limit
        assert np.bincount([of.layer for of in each.moves], minlength=2).max() <= limit
        assert (applied(each) == each.map.expert)[each.map.expert >= 0].all()
    for less, more in pairwise(per_layer):
        assert (more.expected >= less.expected - 2e-3).all()
    for less, more in pairwise(in_all):
        assert more.expected.mean() >= less.expected.mean() - 2e-3
    assert per_layer[2].expected.mean() > per_layer[0].expected.mean() + 0.02


def test_without_limit_it_is_the_wanted_plan_with_other_labels() -> None:
    found = migrated()
    for layer in range(2):
        plans = []
        for map in (found.map, WANTED):
            pieces = zip(map.rank, map.expert[layer], map.share[layer], strict=True)
            ranks: list[list[tuple[int, float]]] = [[] for _ in SLOTS]
            for rank, expert, share in pieces:
                ranks[rank].append((int(expert), float(share)))
            plans.append(sorted(sorted(of) for of in ranks))
        assert plans[0] == plans[1]
    assert (applied(found) == found.map.expert)[found.map.expert >= 0].all()


def test_a_plan_with_other_labels_costs_no_move() -> None:
    order = np.r_[np.arange(7, -1, -1), np.arange(15, 7, -1)]
    parts = [np.split(row, np.cumsum(SLOTS)[:-1]) for row in CURRENT.expert]
    expert = np.stack([np.concatenate([part[g][::-1] for g in order]) for part in parts])
    shuffled = ExpertMap.equal(24, SLOTS, expert)
    assert (relabelled(CURRENT, shuffled).expert == CURRENT.expert).all()


def test_what_does_not_fit() -> None:
    other = ExpertMap.equal(24, SLOTS[::-1].copy(), CURRENT.expert)
    with pytest.raises(ValueError, match="differ in the slots"):
        migrate(CURRENT, other, SCENARIOS, expert_bytes=1)
    with pytest.raises(ValueError, match="a limit of -1 moves"):
        migrate(CURRENT, WANTED, SCENARIOS, expert_bytes=1, most=-1)
