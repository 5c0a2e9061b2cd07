"""Search of a layer's weighted placement where too few slots are spare to share between all ranks.

Fills ranks to the least limit that works, with several degrees of patience; then exchanges experts
between the groups of ranks that came out, and fills each group evenly. Loads in units of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from supertile.targets.placement.exchange import Bins
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.fill import CLOSE, Pieces, fill

BISECTIONS = 8
PATIENCE = (1.0, 0.5, 2.0, 4.0)
NOISY = 6
"""Further tries, with random patience from rank to rank, of large layers."""
SMALL, SMALL_NOISY = 64, 40
"""Slots of a small layer, and its further tries."""
STEPS = 300
"""Of exchange between groups."""
STEP_UP = 1.03
"""From a limit that did not work to the next."""


def search(load: Floats, slots: Integers, lowest: float) -> Pieces:
    """The best found, the largest load of a rank at `lowest` or more, of loads [E], slots [G]."""
    best, level = None, np.inf
    for patience in _patiences(len(slots), int(slots.sum())):
        found = _tightest(load, slots, lowest, level, patience)
        if found is None:
            continue
        for pieces in (found, _exchanged(load, slots, found, lowest)):
            if largest(pieces, len(slots)) < level:
                best, level = pieces, largest(pieces, len(slots))
        if level <= lowest * (1 + CLOSE):
            break
    assert best is not None  # the first try is never bounded from above
    return best


def largest(pieces: Pieces, ranks: int) -> float:
    return float(np.bincount(pieces.rank, pieces.amount, minlength=ranks).max())


def _patiences(ranks: int, slots: int) -> Iterator[Floats]:
    for patience in PATIENCE:
        yield np.full(ranks, patience)
    random = np.random.default_rng(slots)
    for _ in range(SMALL_NOISY if slots <= SMALL else NOISY):
        yield random.exponential(size=ranks) * random.choice(PATIENCE)


def _filled(load: Floats, slots: Integers, limit: float, patience: Floats) -> Pieces | None:
    found = fill(load, slots, limit, patience)
    return found and Pieces(found.rank, found.expert, found.amount * limit)


def _tightest(
    load: Floats, slots: Integers, low: float, high: float, patience: Floats
) -> Pieces | None:
    """Filled to about the least limit from `low` on that works; None where none under `high`."""
    limit = low if low > 0 else 1.0
    found = _filled(load, slots, limit, patience)
    if found is not None:
        return found
    step = STEP_UP
    while found is None:
        low, limit, step = limit, limit * step, step * STEP_UP
        if limit >= high:
            return None
        found = _filled(load, slots, limit, patience)
    top = min(limit, largest(found, len(slots)))
    for _ in range(BISECTIONS):
        limit = (low + top) / 2
        tighter = _filled(load, slots, limit, patience)
        if tighter is None:
            low = limit
            continue
        found, top = tighter, min(limit, largest(tighter, len(slots)))
    return found


def _exchanged(load: Floats, slots: Integers, pieces: Pieces, lowest: float) -> Pieces:
    """Experts exchanged between groups, then each group filled evenly."""
    group_of_rank, group = groups(pieces, len(slots), len(load))
    count = int(group_of_rank.max()) + 1
    width = np.bincount(group_of_rank, minlength=count)
    room = np.bincount(group_of_rank, slots, minlength=count).astype(np.int64)
    bins = Bins(load, group, width.astype(np.float64), room - width + 1)
    bins.lower(STEPS, lowest)
    parts = []
    by_rank, by_expert = _members(group_of_rank, count), _members(bins.bin, count)
    for ranks, experts, level in zip(by_rank, by_expert, bins.level, strict=True):
        parts.append(_even(load, slots, ranks, experts, float(level)))
    return Pieces(
        np.concatenate([part.rank for part in parts]),
        np.concatenate([part.expert for part in parts]),
        np.concatenate([part.amount for part in parts]),
    )


def _members(group: Integers, count: int) -> list[Integers]:
    order = np.argsort(group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=count))[:-1])


def _even(
    load: Floats, slots: Integers, ranks: Integers, experts: Integers, level: float
) -> Pieces:
    """A group's experts on its ranks, equal loads where its slots allow."""
    if len(ranks) == 1 or not len(experts):
        return Pieces(np.repeat(ranks, len(experts)), experts, load[experts])
    useful = np.minimum(slots[ranks], len(experts))
    found = _tightest(load[experts], useful, level, np.inf, np.ones(len(ranks)))
    assert found is not None
    return Pieces(ranks[found.rank], experts[found.expert], found.amount)


def groups(pieces: Pieces, ranks: int, experts: int) -> tuple[Integers, Integers]:
    """The group of each rank [G] and of each expert [E], numbered by the smallest rank."""
    parent = list(range(ranks))

    def root(rank: int) -> int:
        while parent[rank] != rank:
            parent[rank] = rank = parent[parent[rank]]
        return rank

    first = np.full(experts, -1)
    for rank, expert in zip(pieces.rank.tolist(), pieces.expert.tolist(), strict=True):
        if first[expert] < 0:
            first[expert] = rank
        a, b = sorted((root(first[expert]), root(rank)))
        parent[b] = a
    _, group = np.unique([root(rank) for rank in range(ranks)], return_inverse=True)
    return group, group[first]
