"""How good a placement can be where few slots are spare: what the largest experts cost in groups.

Sizes: E experts with loads w_e, G ranks with s_g slots, R slots in all, K = R - E slots that are
spare; T is the largest load of a rank.

Call ranks that hold an expert in common, directly or over others, a group. Of a group with g ranks,
S slots and n experts let c = S - n be its cost. All costs are 0 or more and add up to K:

- the group is connected, so it has at least g + n - 1 replicas; as many slots: c >= g - 1;
- its experts have g T load or less in all.

Take any experts A of the group. Besides them it has n - |A| = S - c - |A| others, whose load is at
least that of as many smallest experts, and S is at least that of the g ranks with fewest slots.
So c >= c(A), the least c for which some g has

    c >= g - 1  and  w(A) + smallest(S(g) - c - |A|) <= g T.

Fix a set B of large experts. Any placement parts them into the groups they are in, so its costs
are at least those of the cheapest partition of B; where these are above K, no placement has T.

How much a partition is cheaper than one with each expert of B alone is bounded by duality: with
z_e >= 0 and z(A) >= sum of c({e}) over A - c(A) for all A in B, no partition saves more than z(B).
All sets A are looked at, so B has few experts; T is found by bisection, as c(A) falls when T rises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from supertile.targets.placement.expert_map import Floats, Integers

LARGEST = 13
"""Experts in B: 2 ** 13 sets of them."""
WITHIN = 5e-4
"""How near the bound comes to what groups can show."""
LEAST_PRICE = 1e-12
SAFE = 1e-9
"""Of a load, by which rounding never makes a group dearer than it is."""


def raised_bound(load: Floats, slots: Integers, bound: Floats, largest: Floats) -> Floats:
    """The lower bounds [L] raised as far as groups show, to at most `largest` [L], that of a plan.

    Holds for weighted shares, hence for equal ones. Of loads [L, E] on ranks of slots [G]. Layers
    whose loads differ by their order alone are looked at once.
    """
    raised = bound.copy()
    slots = np.minimum(slots, load.shape[1])
    if slots.sum() - load.shape[1] >= len(slots) - 1:
        return raised  # all ranks may be one group
    seen: dict[bytes, float] = {}
    for layer in np.flatnonzero(largest > bound * (1 + WITHIN)):
        down = -np.sort(-load[layer])
        key = np.append(down, (bound[layer], largest[layer])).tobytes()
        if key not in seen:
            seen[key] = _raised(
                LargestExperts(down, slots), float(bound[layer]), float(largest[layer])
            )
        raised[layer] = seen[key]
    return raised


def _raised(layer: LargestExperts, low: float, high: float) -> float:
    while high > low * (1 + WITHIN):
        middle = (low + high) / 2
        if layer.least_cost(middle) > layer.spare:
            low = middle
        else:
            high = middle
    return low


@dataclass(frozen=True)
class LargestExperts:
    """What the largest experts of loads [E], descending, cost on ranks of slots [G]."""

    load: Floats
    slots: Integers

    @property
    def spare(self) -> int:
        return int(self.slots.sum()) - len(self.load)

    @cached_property
    def fewest(self) -> Integers:
        """[G + 1]: the slots of the g ranks that have fewest."""
        return np.concatenate([[0], np.cumsum(np.sort(self.slots))])

    @cached_property
    def smallest(self) -> Floats:
        """[E + 1]: the load of the n smallest experts."""
        return np.concatenate([[0.0], np.cumsum(self.load[::-1])])

    def least_cost(self, limit: float) -> int:
        """What the cheapest partition of the largest experts costs at least under a limit."""
        alone = self.costs(self.load[:LARGEST], np.ones(len(self.load[:LARGEST]), np.int64), limit)
        alone = alone[alone > 0]
        if alone.sum() <= self.spare:
            return int(alone.sum())
        sets = (np.arange(2 ** len(alone))[:, None] >> np.arange(len(alone))) & 1
        loads = (sets * self.load[: len(alone)]).sum(axis=1)
        together = self.costs(loads, sets.sum(axis=1), limit)
        together[0] = 0
        return int(alone.sum()) - most_saved(sets, (sets * alone).sum(axis=1) - together)

    def costs(self, load: Floats, count: Integers, limit: float) -> Integers:
        """c(A) of sets [N] of so much load and so many experts; above `spare` it is one more."""
        least = np.full(len(load), self.spare + 1)
        for ranks in range(1, min(len(self.slots), self.spare + 1) + 1):
            if (least < ranks).all():
                break
            room = ranks * limit * (1 + SAFE) - load
            others = np.searchsorted(self.smallest, room, side="right") - 1
            cost = np.maximum(ranks - 1, self.fewest[ranks] - count - others)
            least = np.where(others >= 0, np.minimum(least, cost), least)
        return least


def most_saved(sets: Integers, saving: Integers) -> int:
    """At most so much in all, by disjoint ones of all `sets` [2^B, B], with savings [2^B].

    Set n has the experts of the bits of n.
    """
    from scipy.optimize import linprog

    number = np.arange(len(sets))
    needed = saving > 0
    for expert in range(sets.shape[1]):  # others follow from a set without the expert
        inside = sets[:, expert] == 1
        needed &= ~inside | (saving > saving[number & ~(1 << expert)])
    if not needed.any():
        return 0
    rows, least = sets[needed], saving[needed]
    solution = linprog(np.ones(sets.shape[1]), A_ub=-rows, b_ub=-least, method="highs")
    if solution.status != 0:
        return int(saving.max()) * int(sets.shape[1])
    price: Floats = np.maximum(solution.x, LEAST_PRICE)
    dearer = max(
        1.0, float((least / (rows * price).sum(axis=1)).max())
    )  # so that no set breaks them
    return math.floor(float(price.sum()) * dearer + SAFE)
