"""Search of a layer's weighted placement where too few slots are spare to share between all ranks.

Starts: ranks filled one by one under about the least limit that works, and the best placement of
equal shares. Ranks that share no expert with others fall into groups of a start: experts are
exchanged between those, and each group is filled evenly. Loads in units of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from supertile.targets.placement.equal import equal_layer
from supertile.targets.placement.exchange import Bins
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.fill import Pieces, fill
from supertile.targets.placement.one_slot import replica_counts

BISECTIONS = 7
PATIENCE = (2.0, 1.0)
STEPS = 300
"""Of exchange between groups."""
STEP_UP = 1.02
"""From a limit that did not work to the next."""
MOST = 1e12
"""Times the mean load of a rank: more than all loads together."""
ENOUGH = 2e-4
"""Over the bound, where a layer's search ends."""


@dataclass(frozen=True)
class Groups:
    """The group of each rank [G] and of each expert [E]."""

    rank: Integers
    expert: Integers


def connected(pieces: Pieces, ranks: int, experts: int) -> Groups:
    """The groups of a placement: ranks that hold an expert in common are in the same."""
    parent = list(range(ranks))

    def root(rank: int) -> int:
        while parent[rank] != rank:
            parent[rank] = rank = parent[parent[rank]]
        return rank

    first = [-1] * experts
    for rank, expert in zip(pieces.rank.tolist(), pieces.expert.tolist(), strict=True):
        if first[expert] < 0:
            first[expert] = rank
        a, b = sorted((root(first[expert]), root(rank)))
        parent[b] = a
    _, group = np.unique([root(rank) for rank in range(ranks)], return_inverse=True)
    return Groups(group, group[first])


def search(load: Floats, slots: Integers, lowest: float) -> Pieces:
    """The best found, of loads [E], slots [G]; no largest load of a rank is below `lowest`."""
    best, level = None, np.inf
    for start in _starts(load, slots, lowest):
        parted = connected(start, len(slots), len(load))
        for pieces in (start, _exchanged(load, slots, parted, lowest)):
            if largest(pieces, len(slots)) < level:
                best, level = pieces, largest(pieces, len(slots))
        if level <= lowest * (1 + ENOUGH):
            break
    assert best is not None
    return best


def largest(pieces: Pieces, ranks: int) -> float:
    """The largest load of a rank."""
    return float(np.bincount(pieces.rank, pieces.amount, minlength=ranks).max())


def _starts(load: Floats, slots: Integers, lowest: float) -> Iterator[Pieces]:
    """Those first that take least time."""
    for patience in PATIENCE:
        yield _filled(load, slots, lowest, np.full(len(slots), patience))
    yield _equal(load, slots, lowest)


def _filled(load: Floats, slots: Integers, lowest: float, patience: Floats) -> Pieces:
    """Under about the least limit from `lowest` on that works."""

    def at(limit: float) -> Pieces | None:
        pieces = fill(load, slots, limit, patience)
        return pieces and Pieces(pieces.rank, pieces.expert, pieces.amount * limit)

    low = high = lowest or 1.0
    step, filled = STEP_UP, at(low)
    if filled is not None:
        return filled
    while filled is None:
        low, high, step = high, high * step, step * STEP_UP
        filled = at(high)
        assert filled is not None or high < MOST, "any loads fit under a limit far above their sum"
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tighter = at(middle)
        if tighter is None:
            low = middle
        else:
            filled, high = tighter, middle
    return filled


def _equal(load: Floats, slots: Integers, lowest: float) -> Pieces:
    counts = replica_counts(load[None], int(slots.sum()))[0]
    expert, rank = equal_layer(load, slots, lowest, counts)
    amount = (load / np.bincount(expert, minlength=len(load)))[expert]
    return Pieces(rank, expert, amount)


def _exchanged(load: Floats, slots: Integers, start: Groups, lowest: float) -> Pieces:
    """Experts exchanged between groups, then each group filled evenly."""
    count = int(start.rank.max()) + 1
    width = np.bincount(start.rank, minlength=count)
    room = np.bincount(start.rank, slots, minlength=count).astype(np.int64)
    bins = Bins(load, start.expert.copy(), width.astype(np.float64), room - width + 1)
    bins.lower(STEPS, lowest)
    several = width[start.rank] > 1
    alone = np.flatnonzero(width[bins.bin] == 1)
    rank_of = np.empty(count, np.int64)
    rank_of[start.rank] = np.arange(len(slots))
    parts = [Pieces(rank_of[bins.bin[alone]], alone, load[alone])]
    for group in np.unique(start.rank[several]):
        experts = np.flatnonzero(bins.bin == group)
        ranks = np.flatnonzero(start.rank == group)
        parts.append(_even(load, slots, ranks, experts, float(bins.level[group])))
    return Pieces(
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.expert for part in parts]),
        np.concatenate([part.amount for part in parts]),
    )


def _even(
    load: Floats, slots: Integers, ranks: Integers, experts: Integers, level: float
) -> Pieces:
    """A group's experts on its ranks, equal loads where its slots allow."""
    if not len(experts):
        return Pieces(experts, experts, load[experts])
    useful = np.minimum(slots[ranks], len(experts))
    found = _filled(load[experts], useful, level, np.ones(len(ranks)))
    return Pieces(ranks[found.rank], experts[found.expert], found.amount)
