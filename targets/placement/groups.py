"""Search of a layer's weighted placement where too few slots are spare to share between all ranks.

Starts: groups built one by one under the least limit that works; ranks filled one by one, likewise;
the best placement of equal shares. Then experts are exchanged between the groups of each start, and
each group is filled evenly. Loads in units of the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np

from supertile.targets.placement.equal import equal_layer
from supertile.targets.placement.exchange import Bins
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.fill import Pieces, fill
from supertile.targets.placement.grouping import Groups, connected, grouped
from supertile.targets.placement.one_slot import replica_counts

BISECTIONS = 8
THRIFT = (0.0, 0.5, 1.0, 2.0)
PATIENCE = (1.0, 2.0, 0.5)
STEPS = 300
"""Of exchange between groups."""
STEP_UP = 1.02
"""From a limit that did not work to the next."""
ENOUGH = 2e-4
"""Over the bound, where a layer's search ends."""

Found = TypeVar("Found")


def search(load: Floats, slots: Integers, lowest: float) -> Pieces:
    """The best found, of loads [E], slots [G]; no largest load of a rank is below `lowest`."""
    best, level = None, np.inf
    for start in _starts(load, slots, lowest):
        pieces = _exchanged(load, slots, start, lowest) if isinstance(start, Groups) else start
        if largest(pieces, len(slots)) < level:
            best, level = pieces, largest(pieces, len(slots))
        if level <= lowest * (1 + ENOUGH):
            break
    assert best is not None
    return best


def largest(pieces: Pieces, ranks: int) -> float:
    """The largest load of a rank."""
    return float(np.bincount(pieces.rank, pieces.amount, minlength=ranks).max())


def _starts(load: Floats, slots: Integers, lowest: float) -> Iterator[Groups | Pieces]:
    for thrift in THRIFT:
        found = _least(partial(grouped, load, slots, thrift), lowest)
        if found is not None:
            yield found
    for patience in PATIENCE:
        pieces = _filled(load, slots, lowest, np.full(len(slots), patience))
        yield pieces
        yield connected(pieces, len(slots), len(load))
    pieces = _equal(load, slots, lowest)
    yield pieces
    yield connected(pieces, len(slots), len(load))


def _filled(load: Floats, slots: Integers, lowest: float, patience: Floats) -> Pieces:
    def at(limit: float) -> Pieces | None:
        found = fill(load, slots, limit, patience)
        return found and Pieces(found.rank, found.expert, found.amount * limit)

    found = _least(at, lowest)
    assert found is not None  # any load fits under the sum of all
    return found


def _equal(load: Floats, slots: Integers, lowest: float) -> Pieces:
    counts = replica_counts(load[None], int(slots.sum()))[0]
    expert, rank = equal_layer(load, slots, lowest, counts)
    amount = (load / np.bincount(expert, minlength=len(load)))[expert]
    return Pieces(rank, expert, amount)


def _least(at: Callable[[float], Found | None], lowest: float) -> Found | None:
    """What `at` finds for about the least limit from `lowest` on where it finds something."""
    low = high = lowest or 1.0
    step, found = STEP_UP, at(low)
    if found is not None:
        return found
    while found is None and step < 1e9:
        low, high, step = high, high * step, step * STEP_UP
        found = at(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tighter = at(middle)
        if tighter is None:
            low = middle
        else:
            found, high = tighter, middle
    return found


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
