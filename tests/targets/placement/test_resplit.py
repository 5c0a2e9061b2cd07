"""The best split of a batch: against the linear programme, Hall's condition, and its own bounds."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import linprog

from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.resplit import Resplit, best_shares, resplit


def random_map(seed: int, layers: int, experts: int, slots: list[int]) -> ExpertMap:
    """Every expert once, other slots any expert that the rank lacks, or idle."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(layers):
        free = random.permutation(np.repeat(np.arange(len(slots)), slots))
        held: list[list[int]] = [[] for _ in slots]
        for index, rank in enumerate(free):
            held[rank].append(index if index < experts else int(random.integers(-1, experts)))
        rows.append([e if e not in of[:i] else -1 for of in held for i, e in enumerate(of)])
    return ExpertMap.equal(experts, np.array(slots), np.array(rows))


def by_linear_programme(map: ExpertMap, load: Floats) -> float:
    """The least largest rank load of the first layer: a variable per slot, and the largest load."""
    slots = len(map.rank)
    held = map.expert[0] >= 0
    per_expert = np.array([held & (map.expert[0] == e) for e in range(map.experts)], float)
    per_rank = np.array([map.rank == g for g in range(map.ranks)], float)
    found = linprog(
        np.r_[np.zeros(slots), 1],
        A_ub=np.c_[per_rank, -np.ones(map.ranks)],
        b_ub=np.zeros(map.ranks),
        A_eq=np.c_[per_expert, np.zeros(map.experts)],
        b_eq=load,
        bounds=[(0, None if free else 0) for free in held] + [(0, None)],
    )
    assert found.status == 0
    return float(found.fun)


def assert_certified(map: ExpertMap, loads: Floats, found: Resplit) -> None:
    """The shares make `upper`; the tight experts and the ranks they are on make `lower`."""
    for at in np.ndindex(found.upper.shape):
        layer, load = map.expert[at[1]], loads[at]
        share, inside = found.share[at], found.tight[at]
        held = layer >= 0
        sums = np.bincount(layer[held], share[held], map.experts)
        assert (share >= 0).all() and not share[~held].any() and np.allclose(sums, 1, atol=1e-12)
        ranked = np.bincount(map.rank[held], (load[layer] * share)[held], map.ranks)
        assert found.upper[at] == pytest.approx(ranked.max(), rel=1e-12)
        covered = np.unique(map.rank[held & inside[layer]])
        assert found.lower[at] <= load[inside].sum() / len(covered) * (1 + 1e-12)


SIZES = st.tuples(st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**32))


@given(SIZES)
@settings(max_examples=30, deadline=None)
def test_bounds_enclose_the_linear_programme_and_flows_meet_it(sizes: tuple[int, int, int]) -> None:
    experts, ranks, seed = sizes
    random = np.random.default_rng(seed)
    slots = random.integers(1, 5, ranks)
    slots[0] += max(0, experts - slots.sum())
    map = random_map(seed, 1, experts, slots.tolist())
    loads = np.exp(random.standard_normal((3, 1, experts))) * random.integers(0, 3, experts)
    scaled, exact = resplit(map, loads, exact=False), resplit(map, loads, within=0)
    for found in (scaled, exact):
        assert_certified(map, loads, found)
    for scenario, load in enumerate(loads[:, 0]):
        least = by_linear_programme(map, load)
        for found in (scaled, exact):
            assert found.lower[scenario, 0] <= least * (1 + 1e-9)
            assert found.upper[scenario, 0] >= least * (1 - 1e-9)
        assert exact.upper[scenario, 0] == pytest.approx(least, rel=1e-6)


def test_halls_condition() -> None:
    """T is the largest w(A) / |N(A)| of all sets of experts A."""
    map = random_map(1, 1, 7, [2, 2, 2, 3, 2])
    load = np.random.default_rng(1).lognormal(0, 1, 7)
    ratios = [
        load[list(inside)].sum() / len(np.unique(map.rank[np.isin(map.expert[0], inside)]))
        for size in range(1, 8)
        for inside in combinations(range(7), size)
    ]
    assert resplit(map, load[None, None], within=0).upper[0, 0] == pytest.approx(max(ratios))


def test_scaling_alone_comes_close_on_a_well_connected_graph() -> None:
    random = np.random.default_rng(0)
    map = random_map(0, 4, 32, [4] * 32)
    found = resplit(map, random.lognormal(0, 0.3, (8, 4, 32)), exact=False)
    assert found.gap.max() < 2e-2 and np.median(found.gap) < 2e-3


def test_best_shares_are_those_of_the_mean_load() -> None:
    """Expert 0 is on both ranks and fills up what expert 1 leaves."""
    map = ExpertMap.equal(2, np.array([2, 1]), np.array([[0, 1, 0]]))
    found = best_shares(map, np.array([[3.0, 1.0]]))
    assert found.share[0] == pytest.approx([1 / 3, 1, 2 / 3], abs=1e-5)


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        (np.ones((1, 1, 3)), "1 layers of 2 experts"),
        (np.full((1, 1, 2), np.nan), "negative or no number"),
        (-np.ones((1, 1, 2)), "negative or no number"),
    ],
)
def test_loads_that_do_not_fit(loads: Floats, expected: str) -> None:
    map = ExpertMap.equal(2, np.array([1, 1]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match=expected):
        resplit(map, loads)


def test_an_expert_without_slot() -> None:
    map = ExpertMap.equal(3, np.array([1, 1]), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="expert 2 of layer 0 is in no slot"):
        resplit(map, np.ones((1, 1, 3)))
