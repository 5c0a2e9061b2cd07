"""Idle slots filled: each slot has an expert, no rank one twice, and balance hardly suffers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from layer_loads import largest, lognormal

from supertile.ir.placement import IDLE
from supertile.targets.placement.check import check_map
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.placement.full_slots import full_slots
from supertile.targets.placement.spare import fill_idle


def in_few_slots(load: np.ndarray, ranks: int, few: int, slots: int) -> ExpertMap:
    """The best placement in few slots a rank, on ranks that have more: the others are idle."""
    placed = equal_map(load, np.full(ranks, few))
    expert = np.full((len(load), ranks, slots), IDLE)
    expert[:, :, :few] = placed.expert.reshape(len(load), ranks, few)
    return ExpertMap.equal(load.shape[1], np.full(ranks, slots), expert.reshape(len(load), -1))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.data())
def test_every_slot_has_an_expert_that_its_rank_has_once(data: st.DataObject) -> None:
    ranks, experts = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    few = -(-experts // ranks)
    slots = data.draw(st.integers(few, experts))
    load = lognormal(2, experts, 1.5, data.draw(st.integers(0, 999)))
    if data.draw(st.booleans()):
        load[:, data.draw(st.integers(0, experts - 1)) :] = 0
    idle = in_few_slots(load, ranks, few, slots)
    full = full_slots(idle, load)
    assert (full.expert != IDLE).all() and check_map(full, load) == []


@pytest.mark.parametrize(("ranks", "few", "slots", "experts"), [(16, 16, 18, 256), (32, 8, 9, 256)])
def test_balance_stays_where_there_are_many_experts(
    ranks: int, few: int, slots: int, experts: int
) -> None:
    load = lognormal(2, experts, 0.5)
    full = full_slots(in_few_slots(load, ranks, few, slots), load)
    mean = load.sum(axis=1) / ranks
    assert (largest(full, load) < mean * 1.001).all()


def test_the_hottest_expert_is_no_good_filler() -> None:
    """Another replica of it would not lower the fullest rank, and raise the one it comes to."""
    load = lognormal(3, 64, 0.5)
    idle = in_few_slots(load, 16, 4, 5)
    hottest_first = fill_idle(idle, load)
    evenly = ExpertMap.equal(64, idle.slots, hottest_first.expert)
    assert (largest(full_slots(idle, load), load) < largest(evenly, load)).all()


def test_layers_without_idle_slots_stay_as_they_are() -> None:
    load = lognormal(2, 8)
    full = equal_map(load, np.full(4, 2))
    assert full_slots(full, load).expert.tolist() == full.expert.tolist()


def test_a_rank_that_holds_every_expert_keeps_its_slot_idle() -> None:
    idle = ExpertMap.equal(2, np.array([3, 1]), np.array([[0, 1, IDLE, 0]]))
    assert full_slots(idle, np.ones((1, 2))).expert.tolist() == [[0, 1, IDLE, 0]]


def test_a_layer_without_load_is_filled_too() -> None:
    idle = ExpertMap.equal(4, np.full(2, 3), np.array([[0, 1, IDLE, 2, 3, IDLE]]))
    assert (full_slots(idle, np.zeros((1, 4))).expert != IDLE).all()
