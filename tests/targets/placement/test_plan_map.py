from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from layer_loads import largest, lognormal, skewed_loads, small_layer

import supertile.targets.placement.seconds_bound as seconds_bound_of
from supertile.targets.placement.bounds import equal_bound, placement_bound
from supertile.targets.placement.check import check_map
from supertile.targets.placement.eplb import eplb_map, heap_packing, without_twins
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.placement.objective import (
    SlotCosts,
    layer_seconds,
    without_costly_replicas,
)
from supertile.targets.placement.plan_map import Shares, plan_map
from supertile.targets.placement.seconds_bound import seconds_bound

COSTS = SlotCosts(weights=10e-6, token=40e-9, wire=1e-9)


@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_one_slot_a_rank_is_at_its_bound(shares: Shares) -> None:
    load = lognormal(2, 10)
    found = plan_map(load, [1] * 24, shares)
    assert largest(found, load) == pytest.approx(placement_bound(load, [1] * 24))


def test_seconds_of_layers() -> None:
    split = ExpertMap(2, np.array([2, 1]), np.array([[0, 1, 0]]), np.array([[0.25, 1, 0.75]]))
    load = np.array([[400.0, 0]])
    costs = SlotCosts(weights=2.0, token=0.01, wire=0.1)
    # 300 tokens take longer than the weights, 75 do not; an expert without tokens is not read.
    assert layer_seconds(split, load, costs) == pytest.approx([3 + 30])
    assert layer_seconds(split, load / 4, costs) == pytest.approx([2 + 7.5])
    assert layer_seconds(split, load / 4, costs, tokens=400) == pytest.approx([33])


def test_a_layer_waits_for_the_rank_that_reads_and_for_the_one_that_is_full() -> None:
    """Rank 0 reads two experts of 10 tokens, rank 1 one of 50: 2 s of weights, 50 tokens sent."""
    map = ExpertMap.equal(3, np.array([2, 1]), np.array([[0, 1, 2]]))
    costs = SlotCosts(weights=1.0, token=0.0, wire=0.1)
    found = layer_seconds(map, np.array([[10.0, 10, 50]]), costs)
    assert found == pytest.approx([2 * (1 - np.exp(-10)) + 5])


def test_weights_are_read_under_the_arithmetic_of_other_experts() -> None:
    """One kernel takes all experts of a rank: 1 + 1 s of weights under 3 s of 299 and 1 tokens."""
    both = ExpertMap.equal(2, np.array([2]), np.array([[0, 1]]))
    costs = SlotCosts(weights=1.0, token=0.01)
    assert layer_seconds(both, np.array([[299.0, 1]]), costs) == pytest.approx([3.0])


def test_a_batch_without_a_token_for_a_slot_does_not_read_it() -> None:
    one = ExpertMap.equal(1, np.array([1]), np.array([[0]]))
    expected = 1 - np.exp(-0.5)
    found = layer_seconds(one, np.array([[0.5]]), SlotCosts(weights=1.0, token=0.0))
    assert found == pytest.approx([expected])


@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_few_tokens_want_no_replicas(shares: Shares) -> None:
    load = lognormal(2, 32)
    timed = plan_map(load, [3] * 16, shares, COSTS, tokens=500)
    assert check_map(timed) == []
    assert ((timed.expert >= 0).sum(axis=1) == 32).all()
    plain = plan_map(load, [3] * 16, shares)
    slowest = [layer_seconds(one, load, COSTS, 500).max() for one in (timed, plain)]
    assert slowest[0] < 0.8 * slowest[1]


@pytest.mark.parametrize("tokens", [1e3, 1e4, 1e5, 1e7])
@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_time_is_never_worse_than_of_the_best_balance(shares: Shares, tokens: float) -> None:
    load = lognormal(3, 24)
    plain, timed = plan_map(load, [3] * 12, shares), plan_map(load, [3] * 12, shares, COSTS, tokens)
    assert check_map(timed) == []
    slowest = [layer_seconds(one, load, COSTS, tokens) for one in (timed, plain)]
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


@settings(max_examples=100, deadline=None)
@given(
    law=st.sampled_from(["hot", "zipf", "lognormal", "zeros"]),
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5)),
    more=st.integers(0, 3),
    shares=st.sampled_from(["weighted", "equal"]),
    tokens=st.sampled_from([None, 1e2, 1e4, 1e6]),
)
def test_no_layer_is_worse_than_eplbs(
    law: str,
    seed: int,
    sizes: tuple[int, int, int],
    more: int,
    shares: Shares,
    tokens: float | None,
) -> None:
    """By time of so many tokens, or by load, under each policy of EPLB."""
    nodes, of_node, held = sizes
    ranks, experts = nodes * of_node, nodes * of_node * held
    load = skewed_loads(law, experts, np.random.default_rng(seed))
    slots = np.full(ranks, held + more)
    policies = [(1, 1), (nodes * held, nodes)]
    baselines = [
        eplb_map(load, int(slots.sum()), ranks, *policy, packing=heap_packing)
        for policy in policies
    ]
    costs = None if tokens is None else COSTS
    found = plan_map(load, slots, shares, costs, tokens, baselines)
    assert check_map(found) == []

    def value(map: ExpertMap) -> np.ndarray:
        return largest(map, load) if costs is None else layer_seconds(map, load, costs, tokens)

    for baseline in baselines:
        if shares == "equal":  # an expert twice on a rank is one share for it there
            single = without_twins(baseline)
            baseline = ExpertMap.equal(experts, slots, single.expert)
        assert (value(found) <= value(baseline) * (1 + 1e-9)).all()
    bound = (placement_bound if shares == "weighted" else equal_bound)(load, slots)
    if costs is not None:
        bound = seconds_bound(load, slots, costs, bound, tokens)
    assert (value(found) >= bound * (1 - 1e-9)).all()


def test_a_baseline_is_taken_where_it_is_better() -> None:
    """Six hot experts, and many that bring hardly a token: exact balance reads every slot."""
    costs = SlotCosts(weights=3.5e-6, token=2.9e-8, wire=2.7e-7)
    load = lognormal(1, 256, 2.0)
    load[0, :6] = 0.07 * load[0, 6:].sum()
    slots, tokens = np.full(16, 18), 6144
    eplb = eplb_map(load, 288, 16, packing=heap_packing)
    alone = plan_map(load, slots, "weighted", costs, tokens)
    beside = plan_map(load, slots, "weighted", costs, tokens, [eplb])
    times = [layer_seconds(one, load, costs, tokens).max() for one in (alone, eplb, beside)]
    assert times[2] <= times[1] < times[0]


@pytest.mark.parametrize("seed", range(8))
def test_no_placement_is_faster_than_the_bound_of_time(seed: int) -> None:
    """Random placements and shares of small layers, some of whose experts are hardly read."""
    load, slots = small_layer(seed)
    random = np.random.default_rng(seed)
    experts = load.shape[1]
    for tokens in (5.0, 50.0, 5e3):
        bound = seconds_bound(load, slots, COSTS, placement_bound(load, slots), tokens)[0]
        fastest = np.inf
        for _ in range(60):
            held = _random_placement(experts, slots, random)
            share = np.where(held >= 0, random.exponential(1.0, len(held)) ** 2, 0.0)
            share = np.divide(share, np.bincount(held[held >= 0], share[held >= 0], experts)[held])
            map = ExpertMap(experts, slots, held[None], np.where(held >= 0, share, 0.0)[None])
            assert check_map(map) == []
            fastest = min(fastest, layer_seconds(map, load, COSTS, tokens).max())
        assert 0 < bound <= fastest * (1 + 1e-9)


@pytest.mark.parametrize("law", ["zipf", "lognormal"])
def test_less_to_read_leaves_more_to_one_rank(law: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """V4-Pro on 64 dies: 6 experts a die are all, so a seventh is read or a hot one is whole."""
    costs = SlotCosts(weights=49.2e-6, token=0.251e-6, wire=0.165e-6)
    load = np.arange(1, 385)[None] ** -0.6 if law == "zipf" else lognormal(1, 384)
    slots, tokens = np.full(64, 7), 64 * 6 * 64
    found = plan_map(load, slots, "weighted", costs, tokens)
    planned = layer_seconds(found, load, costs, tokens)
    least = placement_bound(load, slots)
    bound = seconds_bound(load, slots, costs, least, tokens)
    apart = costs.seconds(np.array([6 * costs.weights]), least * tokens / load.sum())
    assert (bound <= planned).all()
    if law == "zipf":
        assert planned <= 1.02 * bound and bound > 1.1 * apart
    # Were two replicas less on each rank all it can read, the plan would beat the bound.
    whole = seconds_bound_of._whole
    monkeypatch.setattr(seconds_bound_of, "_whole", lambda read, unit: whole(read, unit) - 2)
    assert seconds_bound(load, slots, costs, least, tokens) > planned


def _random_placement(experts: int, slots: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """[P]: random experts on each rank, each expert somewhere; slots past the experts are idle."""
    while True:
        rows = [
            np.pad(
                random.permutation(experts)[:count],
                (0, max(0, count - experts)),
                constant_values=-1,
            )
            for count in slots
        ]
        held = np.concatenate(rows)
        if len(np.unique(held[held >= 0])) == experts:
            return held
