from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.placement.check import Claim, check_map
from supertile.targets.placement.expert_map import ExpertMap

GOOD = [[0, 1, 1, -1]], [[1.0, 0.5, 0.5, 0]]


def map_of(expert: list[list[int]], share: list[list[float]], experts: int = 2) -> ExpertMap:
    return ExpertMap(experts, np.array([2, 2]), np.array(expert), np.array(share))


def test_a_good_map_has_no_violation() -> None:
    load = np.array([[2.0, 4]])
    assert check_map(map_of(*GOOD), load, Claim(np.array([4.0]), np.array([3.0]))) == []


@pytest.mark.parametrize(
    ("expert", "share", "text"),
    [
        ([0, 1, -1, -1], [1.0, 0.5, 0, 0], "expert 1 add up to 0.5"),
        ([0, 0, 1, -1], [0.5, 0.5, 1, 0], "rank 0 holds expert 0 2 times"),
        ([0, 0, -1, -1], [0.5, 0.5, 0, 0], "expert 1 has no slot"),
        ([0, 1, -1, -1], [1.0, 1, 0.1, 0], "idle slot of rank 1"),
        ([0, 1, 0, -1], [1.5, 1, -0.5, 0], "rank 0 has a share of 1.5"),
        ([0, 7, -1, -1], [1.0, 1, 0, 0], "none of 0 to 1"),
        ([0, 1, -1], [1.0, 1, 0], "4 slots, but experts of the shape"),
        ([0, 1, -1, -1], [float("nan"), 1, 0, 0], "no number"),
    ],
)
def test_violations(expert: list[int], share: list[float], text: str) -> None:
    assert any(text in one for one in check_map(map_of([expert], [share])))


@pytest.mark.parametrize(
    ("load", "said", "bound", "text"),
    [
        ([2.0, 4], 3.5, 3.0, "the largest load is 4.0, not 3.5"),
        ([2.0, 4], 4.0, 4.5, "under the bound of 4.5"),
        ([2.0, 4], 4.0, 2.5, "under the mean load"),
        ([12.0, 0], 12.0, 0.5, "needs more than 4 slots"),
    ],
)
def test_false_claims(load: list[float], said: float, bound: float, text: str) -> None:
    found = check_map(map_of(*GOOD), np.array([load]), Claim(np.array([said]), np.array([bound])))
    assert any(text in one for one in found)


def test_many_violations_are_counted() -> None:
    found = check_map(map_of([[0, 0, 1, 1]] * 50, [[0.5] * 4] * 50))
    assert len(found) == 21 and found[-1] == "and 80 more"
