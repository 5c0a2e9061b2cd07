from __future__ import annotations

import numpy as np
import pytest
from layer_loads import largest, lognormal

from supertile.targets.placement.bounds import placement_bound
from supertile.targets.placement.check import check_map
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.placement.objective import (
    SlotCosts,
    rank_seconds,
    without_costly_replicas,
)
from supertile.targets.placement.plan_map import Shares, plan_map

COSTS = SlotCosts(weights=10e-6, token=40e-9, wire=1e-9)


@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_one_slot_a_rank_is_at_its_bound(shares: Shares) -> None:
    load = lognormal(2, 10)
    found = plan_map(load, [1] * 24, shares)
    assert largest(found, load) == pytest.approx(placement_bound(load, [1] * 24))


def test_seconds_of_ranks() -> None:
    split = ExpertMap(2, np.array([2, 1]), np.array([[0, 1, 0]]), np.array([[0.25, 1, 0.75]]))
    load = np.array([[400.0, 0]])
    costs = SlotCosts(weights=2.0, token=0.01, wire=0.1)
    # 100 tokens take less than the weights, 300 more; an expert without tokens is not read.
    assert rank_seconds(split, load, costs) == pytest.approx(np.array([[2 + 10, 3 + 30]]))
    assert rank_seconds(split, load / 4, costs, tokens=400) == pytest.approx(np.array([[12, 33]]))


def test_weights_are_read_under_the_arithmetic_of_other_experts() -> None:
    """One kernel takes all experts of a rank: 1 + 1 s of weights under 3 s of 299 and 1 tokens."""
    both = ExpertMap.equal(2, np.array([2]), np.array([[0, 1]]))
    costs = SlotCosts(weights=1.0, token=0.01)
    assert rank_seconds(both, np.array([[299.0, 1]]), costs) == pytest.approx(np.array([[3.0]]))


def test_a_batch_without_a_token_for_a_slot_does_not_read_it() -> None:
    one = ExpertMap.equal(1, np.array([1]), np.array([[0]]))
    expected = 1 - np.exp(-0.5)
    found = rank_seconds(one, np.array([[0.5]]), SlotCosts(weights=1.0, token=0.0))
    assert found == pytest.approx(np.array([[expected]]))


@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_few_tokens_want_no_replicas(shares: Shares) -> None:
    load = lognormal(2, 32)
    timed = plan_map(load, [3] * 16, shares, COSTS, tokens=500)
    assert check_map(timed) == []
    assert ((timed.expert >= 0).sum(axis=1) == 32).all()
    plain = plan_map(load, [3] * 16, shares)
    slowest = [rank_seconds(one, load, COSTS, 500).max() for one in (timed, plain)]
    assert slowest[0] < 0.8 * slowest[1]


@pytest.mark.parametrize("tokens", [1e3, 1e4, 1e5, 1e7])
@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_time_is_never_worse_than_of_the_best_balance(shares: Shares, tokens: float) -> None:
    load = lognormal(3, 24)
    plain, timed = plan_map(load, [3] * 12, shares), plan_map(load, [3] * 12, shares, COSTS, tokens)
    assert check_map(timed) == []
    slowest = [rank_seconds(one, load, COSTS, tokens).max(axis=1) for one in (timed, plain)]
    assert (slowest[0] <= slowest[1] * (1 + 1e-9)).all()
    same = (timed.expert == plain.expert).all(axis=1)
    assert (same | (slowest[0] < slowest[1])).all()


def test_a_dropped_replica_leaves_its_tokens_to_the_others() -> None:
    split = ExpertMap.equal(2, np.array([2, 2]), np.array([[0, 1, 0, -1]]))
    load = np.array([[10.0, 10]])
    found = without_costly_replicas(split, load, SlotCosts(weights=1.0, token=1e-3))
    assert found.expert.tolist() == [[-1, 1, 0, -1]]
    assert found.share.tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_costs_are_finite(wrong: float) -> None:
    with pytest.raises(ValueError, match="token costs"):
        SlotCosts(weights=1.0, token=wrong)
