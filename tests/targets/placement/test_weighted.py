from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from layer_loads import FLASHLB, largest, loads, lognormal, small_layer

from supertile.targets.placement.bounds import placement_bound
from supertile.targets.placement.check import Claim, check_map
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.optimum import WITHIN, least_largest_load
from supertile.targets.placement.weighted import weighted_map


@st.composite
def exact_layers(draw: st.DrawFn) -> tuple[np.ndarray, list[int]]:
    """Loads [1, E] and slots for which the theorem promises the mean load."""
    ranks, each = draw(st.integers(1, 8)), draw(st.integers(2, 5))
    if draw(st.booleans()):  # R - E >= G - 1, slots alike
        experts = draw(st.integers(each, ranks * (each - 1) + 1)) if ranks > 1 else each
        slots = [each] * ranks
    else:  # at most as many experts as ranks, all but one of them with two slots and more
        experts = draw(st.integers(1, ranks))
        slots = draw(st.permutations([each] * max(experts - 1, 0) + [1] * (ranks - experts + 1)))
    return np.array([draw(st.lists(loads, min_size=experts, max_size=experts))]), slots


@settings(max_examples=200, deadline=None)
@given(exact_layers())
def test_theorem_all_ranks_have_the_mean_load(layer: tuple[np.ndarray, list[int]]) -> None:
    load, slots = layer
    found = weighted_map(load, slots)
    mean = load.sum(axis=1) / len(slots)
    assert check_map(found, load, Claim(mean, mean)) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(loads, min_size=1, max_size=9), st.lists(st.integers(1, 4), min_size=1, max_size=7))
def test_any_layer_passes_the_check(row: list[float], slots: list[int]) -> None:
    slots = slots + [1] * max(0, len(row) - sum(min(of, len(row)) for of in slots))
    load = np.array([row])
    bound = placement_bound(load, slots)
    found = weighted_map(load, slots)
    assert check_map(found, load, Claim(largest(found, load), bound)) == []


def test_flashlb_example() -> None:
    assert largest(weighted_map(FLASHLB, [2] * 8), FLASHLB) == pytest.approx([181.25], rel=1e-12)


def test_thousands_of_ranks_of_one_slot_and_some_of_two() -> None:
    load = lognormal(2, 96)
    slots = np.where(np.arange(2048) % 21 == 0, 2, 1)  # 98 of two
    found = weighted_map(load, slots)
    assert largest(found, load) == pytest.approx(load.sum(axis=1) / 2048, rel=1e-9)
    assert check_map(found, load) == []


def test_close_to_the_optimum_of_small_layers() -> None:
    ratios = []
    for seed in range(24):
        load, slots = small_layer(seed)
        found = float(largest(weighted_map(load, slots), load)[0])
        ratios.append(found / least_largest_load(load[0], slots, "weighted"))
    assert min(ratios) >= 1 - WITHIN
    assert max(ratios) <= 1.07 and np.mean(ratios) <= 1.03


@pytest.mark.parametrize("seed", range(6))
def test_one_slot_more_never_raises_the_load(seed: int) -> None:
    load, slots = small_layer(seed)
    before = largest(weighted_map(load, slots), load)
    for rank in range(len(slots)):
        more = slots + np.eye(len(slots), dtype=np.int64)[rank]
        assert (largest(weighted_map(load, more), load) <= before * (1 + 1e-9)).all()


def test_scaled_and_permuted_loads_have_the_same_balance() -> None:
    load = lognormal(2, 24)
    for slots in ([2] * 16, [3] * 16):
        found = largest(weighted_map(load, slots), load)
        assert largest(weighted_map(1e3 * load, slots), 1e3 * load) == pytest.approx(1e3 * found)
        order = np.random.default_rng(0).permutation(24)
        assert largest(weighted_map(load[:, order], slots), load[:, order]) == pytest.approx(found)


def test_never_worse_than_equal_shares() -> None:
    load = lognormal(3, 40)
    for slots in ([2] * 24, [2] * 22, [3] * 20 + [1] * 4):
        weighted, equal = weighted_map(load, slots), equal_map(load, slots)
        assert (largest(weighted, load) <= largest(equal, load) * (1 + 1e-9)).all()


def test_experts_without_load_have_one_slot() -> None:
    load = np.array([[8.0, 0, 0, 4, 0, 1], [0.0] * 6])
    found = weighted_map(load, [3] * 4)
    assert check_map(found, load) == []
    assert all((found.expert[0] == expert).sum() == 1 for expert in (1, 2, 4))


@pytest.mark.parametrize("place", [weighted_map, equal_map])
@pytest.mark.parametrize(
    ("load", "slots", "text"),
    [
        ([[1.0, float("nan")]], [2, 2], "expert 1 of layer 0 is nan"),
        ([[1.0, 2], [-1, 2]], [2, 2], "expert 0 of layer 1 is -1.0"),
        ([[float("inf"), 1]], [2, 2], "is inf"),
        ([[1e308, 1e308]], [2, 2], "add up"),
        ([1.0, 2], [2, 2], "shape"),
        ([[1.0, 2]], [1], "1 slots are too few for 2 experts"),
        ([[1.0, 2]], [5, 0], "rank 1 has 0 slots"),
        ([[1.0, 2]], [1.5, 2], "whole numbers"),
    ],
)
def test_bad_input_is_refused(place, load, slots, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=text):
        place(load, slots)
