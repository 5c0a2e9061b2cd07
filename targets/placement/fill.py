"""Fills ranks one after the other to a limit, cutting experts between them: one layer's placement.

Walker's and Vose's alias tables, for any number of slots. A rank of s slots takes the j largest and
the s - 1 - j smallest loads whole, and of the next largest as much as fills it exactly, with the
least j that can. What is left of a cut expert is an expert like others. Sizes: E experts, G ranks,
R slots, K = R - E, W the sum of the loads, T the limit.

It always succeeds at T = W / G where
- all ranks have s >= 2 slots and K >= G - 1. With n experts left for D ranks, n <= D (s - 1) + 1
  holds throughout: s - 1 go whole, or, where some of the smallest had no room, all that are left
  are over T / (s - 1), so they are fewer than (D - 1) (s - 1). The j exists: else the s largest are
  under T, hence all n under n T / s <= D T, which is what they have;
- E <= G and E - 1 ranks or more have s >= 2 slots. The other G - E + 1 ranks are filled by one
  expert each first: sum(floor(w / T)) > sum(w / T - 1) = G - E, so there are enough. That leaves
  E - 1 ranks and at most E experts: the case above, as if all had two slots.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

from supertile.targets.placement.expert_map import Floats, Integers

CLOSE = 1e-11
"""Of the limit: what counts as exactly full. Rounding of 10,000 ranks' loads is ten times less."""

Pool = list[tuple[float, int]]
"""(load / limit, -expert), ascending: of equal loads, the smaller index is the larger item."""


@dataclass(frozen=True)
class Pieces:
    """What goes where: `amount` of the expert's load, in any unit, to the rank. All [N]."""

    rank: Integers
    expert: Integers
    amount: Floats


def is_exact(slots: Integers, experts: int) -> bool:
    """Whether every load is placed with equal loads of all ranks; `slots` are at most `experts`."""
    ranks = len(slots)
    if experts <= ranks:
        return int((slots >= 2).sum()) >= experts - 1
    least = int(slots.min())
    return least >= 2 and experts <= ranks * (least - 1) + 1


def fill(
    loads: Floats, slots: Integers, limit: float, patience: Floats | None = None
) -> Pieces | None:
    """The pieces of the loads [E], at most `limit` a rank; None where it finds none.

    Ranks go by ascending slots, first those that get one expert. Where K is too small to cut an
    expert at each rank, ranks with little room left are closed without a cut: up to `patience` [G]
    times what they may leave on average (default 1).
    """
    experts, ranks = len(loads), len(slots)
    order = np.argsort(slots, kind="stable")
    single = max(int((slots == 1).sum()), ranks - experts + 1)
    held, cut, pool = _single(loads / limit, single)
    rank, expert, amount = order[: len(held)].tolist(), held, cut
    rest = order[single:].tolist()
    room = int(slots[rest].sum())
    free = len(rest) - sum(size for size, _ in pool)
    for place, index in enumerate(rest):
        several, ranks_left, spare = int(slots[index]), len(rest) - place, room - len(pool)
        if spare < 0:
            return None
        taken = None
        if spare < ranks_left - 1:
            allowed = free / (ranks_left - spare) * (1 if patience is None else patience[place])
            taken = _closed(pool, several, allowed if spare else ranks_left)
            if taken is None and not spare:
                return None
        if taken is None:
            taken = _cut(pool, several)
        room -= several
        free -= 1 - sum(size for size, _ in taken)
        rank += [index] * len(taken)
        amount += [size for size, _ in taken]
        expert += [-key for _, key in taken]
    if pool:
        return None
    return Pieces(np.array(rank, np.int64), np.array(expert, np.int64), np.array(amount))


def _single(loads: Floats, ranks: int) -> tuple[list[int], list[float], Pool]:
    """(expert, amount) of each of `ranks` ranks that get one, and what is left, ascending.

    Full ranks first, of the largest experts; where there are no more, the largest of what is left.
    """
    down = np.argsort(-loads, kind="stable")
    size = loads[down]
    if ranks <= 0:
        return [], [], ascending(size, down)
    full = np.floor(size + CLOSE)
    full = np.minimum(full, np.maximum(0, ranks - (np.cumsum(full) - full))).astype(np.int64)
    expert = np.repeat(down, full).tolist()
    amount = [1.0] * len(expert)
    size = np.where(full > 0, np.maximum(size - full, 0.0), size)
    kept = (full == 0) | (size > CLOSE)
    left = ascending(size[kept], down[kept])
    while len(expert) < ranks and left:
        last, key = left.pop()
        expert.append(-key)
        amount.append(last)
    return expert, amount, left


def ascending(size: Floats, expert: Integers) -> Pool:
    order = np.lexsort((-expert, size))
    return list(zip(size[order].tolist(), (-expert[order]).tolist(), strict=True))


def _cut(pool: Pool, several: int) -> Pool:
    """Takes up to `several` pieces from the pool that fill a rank exactly, if any do."""
    several = min(several, len(pool))
    small = sum(size for size, _ in pool[: several - 1])
    large = 0.0
    for whole in range(several):
        largest = pool[-1 - whole][0]
        if large + largest + small >= 1 - CLOSE:
            return _take(pool, whole, several - 1 - whole)
        large += largest
        small -= pool[several - 2 - whole][0] if whole < several - 1 else 0.0
    taken = pool[len(pool) - several :]
    del pool[len(pool) - several :]
    return taken


def _take(pool: Pool, largest: int, smallest: int) -> Pool:
    """The largest and the smallest, as many as have room, and the part of the next largest."""
    room, count = 1.0, 0
    taken = [pool.pop() for _ in range(largest)]
    for size, _ in taken:
        room -= size
    while count < smallest and pool[count][0] <= room + CLOSE:
        room -= pool[count][0]
        count += 1
    taken += pool[:count]
    del pool[:count]
    if room <= CLOSE:
        return taken
    size, key = pool.pop()
    taken.append((min(size, room), key))
    if size > room + CLOSE:
        insort(pool, (size - room, key))
    elif size > room:
        taken[-1] = (size, key)
    return taken


def _closed(pool: Pool, several: int, allowed: float) -> Pool | None:
    """Takes whole experts from the pool for one rank; None where more than `allowed` is left.

    The largest; then the largest that leaves room for the smallest in the other slots.
    """
    several = min(several, len(pool))
    if not several:
        return []
    small = sum(size for size, _ in pool[: several - 1])
    room = 1.0 - pool[-1][0]
    if small > room + CLOSE:
        return None
    chosen = [len(pool) - 1]
    for others in range(several - 2, -1, -1):
        small -= pool[others][0]
        fits = bisect_right(pool, (room - small + CLOSE, 1), 0, chosen[-1]) - 1
        chosen.append(max(fits, others))
        room -= pool[chosen[-1]][0]
    if room > allowed:
        return None
    return [pool.pop(index) for index in chosen]
