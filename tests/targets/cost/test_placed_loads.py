"""What ranks have under loads: by hand, and as without loads where all are alike."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.cost.chance import tail_factor, touched_share
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.placement.expert_map import ExpertMap

FOUR_ON_TWO = ExpertMap.equal(4, np.array([2, 2]), np.array([[0, 1, 2, 3]]))


def placed(load: list[list[float]], map: ExpertMap = FOUR_ON_TWO) -> PlacedLoads:
    return PlacedLoads.of(map, np.array(load), "counts.json", "experts somewhere")


@pytest.mark.parametrize("rows", [0.5, 6.0, 384.0, 2e6])
def test_even_loads_are_what_balanced_routing_is(rows: float) -> None:
    fullest = placed([[7.0, 7, 7, 7]]).fullest(rows)
    tail = tail_factor(rows, 2)
    assert fullest.rows == pytest.approx(tail, rel=1e-12)
    assert fullest.touched == pytest.approx(touched_share(rows * tail, 2), rel=1e-12)


def test_one_expert_alone_leaves_no_more_than_its_own_chance() -> None:
    """All rows go to one rank: twice the mean, nothing for chance to add, one of two slots read."""
    fullest = placed([[5.0, 0, 0, 0]]).fullest(100.0)
    assert fullest.rows == pytest.approx(2, rel=1e-9)
    assert fullest.touched == pytest.approx(0.5)


def test_rows_and_weights_may_be_those_of_two_ranks() -> None:
    """The first rank has most rows, on one expert; the other few, but on both of its experts."""
    fullest = placed([[80.0, 0, 10, 10]]).fullest(50.0)
    assert fullest.rows == pytest.approx(1.6, rel=1e-6)
    assert fullest.touched == pytest.approx(1.0, abs=1e-2)


def test_layers_count_alike() -> None:
    both = ExpertMap.equal(4, np.array([2, 2]), np.array([[0, 1, 2, 3]] * 2))
    fullest = placed([[5.0, 0, 0, 0], [1.0, 1, 1, 1]], both).fullest(1e4)
    assert fullest.rows == pytest.approx((2 + tail_factor(1e4, 2)) / 2, rel=1e-9)
    assert fullest.touched == pytest.approx((0.5 + 1) / 2)


def test_a_layer_without_loads_is_balanced() -> None:
    assert placed([[0.0, 0, 0, 0]]).ranks.tolist() == [[1, 1]]


def test_replicas_share_by_their_shares() -> None:
    """Three quarters of the one loaded expert here, a quarter there: 1.5 and 0.5 of the mean."""
    shared = ExpertMap(2, np.array([2, 2]), np.array([[0, 1, 0, 1]]), np.array([[3, 4, 1, 0]]) / 4)
    assert placed([[8.0, 0]], shared).ranks.tolist() == [[1.5, 0.5]]
