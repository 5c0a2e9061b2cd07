"""Placements of all layers as planners make them, and what the IR holds of each."""

import numpy as np
import pytest

from supertile.ir.placement import IDLE, WHOLE, Placement
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.placement.layer_placements import expert_plan_of, placements_of

SLOTS = np.array([3, 2])
EXPERT = np.array([[0, IDLE, 1, 2, 0], [2, 0, 1, 1, 2]])


def test_shares_add_up_and_idle_slots_come_last():
    share = np.array([[1 / 3, 0, 1, 1, 2 / 3], [0.25, 1, 0.1, 0.9, 0.75]])
    found = placements_of(ExpertMap(3, SLOTS, EXPERT, share), [4, 7])
    third = WHOLE // 3
    assert found[4] == Placement(
        3, ((0, 1, IDLE), (2, 0)), ((third + 1, WHOLE, 0), (WHOLE, WHOLE - third - 1))
    )
    assert found[7].slots == ((2, 0, 1), (1, 2))
    assert found[7].shares is not None
    for number, layer in found.items():
        assert layer.shares is not None
        row = [4, 7].index(number)
        wanted = share[row][[0, 2, 1, 3, 4]] if row == 0 else share[row]
        held = np.concatenate([np.array(own) for own in layer.shares])
        assert np.abs(held - wanted * WHOLE).max() <= 2


def test_equal_shares_take_turns_by_source():
    found = placements_of(ExpertMap.equal(3, SLOTS, EXPERT), [0, 1])
    assert all(layer.shares is None for layer in found.values())


def test_layers_that_the_map_lacks_have_the_same_slots():
    plan = expert_plan_of(ExpertMap.equal(3, SLOTS, EXPERT), [1, 2])
    assert plan.at(0).slots == ((0, 2, 1), (1, 0))
    assert plan.at(2).slots == ((2, 0, 1), (1, 2))


@pytest.mark.parametrize(
    "expert, share, told",
    [
        ([[0, 0, 1, 2, 0]], None, "rank 0 holds an expert twice"),
        ([[0, 1, IDLE, 1, 0]], None, "1 of 3 experts have no slot"),
        ([[0, 1, 2, 1, 0]], [[0.5, 0.5, 1, 0.25, 0.5]], "do not add up to 1"),
        ([[0, 1, 2, 1, 0]], [[1.5, 0.5, 1, 0.5, -0.5]], "a share is 0 to"),
    ],
)
def test_maps_that_are_no_placement(expert, share, told):
    held = ExpertMap.equal(3, SLOTS, np.array(expert))
    if share is not None:
        held = ExpertMap(3, SLOTS, np.array(expert), np.array(share))
    with pytest.raises(ValueError, match=told):
        placements_of(held, [0])


def test_layers_need_numbers():
    with pytest.raises(ValueError, match="2 layers, 1 numbers"):
        placements_of(ExpertMap.equal(3, SLOTS, EXPERT), [0])
