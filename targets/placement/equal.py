"""Placements whose replicas share the tokens of an expert evenly, as serving engines do today.

Two choices: how many replicas each expert has, and where they go. EPLB's counts make the largest
part smallest; but two smaller parts, or a cold expert's parts as fillers, often fit better. Several
counts are tried, the parts packed (`packing`) and exchanged between ranks (`exchange`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.bounds import equal_bound, fewest_replicas, largest_part
from supertile.targets.placement.exchange import Bins
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts
from supertile.targets.placement.inputs import checked_load, checked_slots
from supertile.targets.placement.one_slot import replica_counts
from supertile.targets.placement.packing import pack

LOOSER = (1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0)
"""Limits of a part, over the least that the slots allow."""
EXCHANGED = 4
"""Of the packed tries, the best, whose replicas are exchanged."""
SMALL, CLIMBED = 20, 12
"""Slots up to which the counts of the best tries, so many, climb on, one replica at a time."""
STEPS = 200
"""Of exchange."""
ENOUGH = 1e-4
"""Over the bound, where a layer's search ends."""
LARGE = 4096
"""Slots from which a layer has EPLB's counts alone, whose many parts fit well, of all slots or of
one a rank."""


def equal_map(load: ArrayLike, slots: ArrayLike) -> ExpertMap:
    """Of loads [L, E] on ranks of slots [G]: the largest load of a rank is as small as found.

    ValueError for loads that are negative or no numbers, or where the experts have too few slots.
    """
    loads = checked_load(load)
    experts = loads.shape[1]
    slots = checked_slots(slots, experts)
    useful = np.minimum(slots, experts)
    bounds = equal_bound(loads, useful)
    greedy = replica_counts(loads, int(useful.sum()))
    expert = np.full((len(loads), int(slots.sum())), IDLE, np.int64)
    starts = rank_starts(slots)
    for layer, (of, bound, counts) in enumerate(zip(loads, bounds, greedy, strict=True)):
        held, rank = equal_layer(of, useful, float(bound), counts)
        order = np.lexsort((held, -of[held], rank))
        ranks = rank[order]
        first = np.searchsorted(ranks, ranks)
        expert[layer, starts[ranks] + np.arange(len(ranks)) - first] = held[order]
    return ExpertMap.equal(experts, slots, expert)


def equal_layer(
    load: Floats, slots: Integers, bound: float, greedy: Integers
) -> tuple[Integers, Integers]:
    """(expert, rank) of each replica [N]: the best found of loads [E], to about `bound`.

    `greedy` are EPLB's counts [E].
    """
    packed = _tries(load, slots, greedy)
    enough = bound * (1 + ENOUGH)
    for bins in packed[:EXCHANGED]:
        bins.lower(STEPS, enough)
        if bins.level.max() <= enough:
            break
    if slots.sum() <= SMALL and _largest(min(packed, key=_largest)) > enough:
        climb = _Climb(load, slots, enough)
        packed = [climb.up(bins) for bins in packed[:CLIMBED]]
    best = min(packed, key=_largest)
    assert best.label is not None
    return best.label, best.bin


def _tries(load: Floats, slots: Integers, greedy: Integers) -> list[Bins]:
    """Packed, best first; no counts whose largest part alone is above what others reach."""
    packed: list[Bins] = []
    level = np.inf
    seen: set[bytes] = set()
    for counts in _counts(load, slots, greedy):
        if counts.tobytes() in seen or (load / counts).max() > level:
            continue
        seen.add(counts.tobytes())
        packed.append(_packed(load, counts, slots))
        level = min(level, _largest(packed[-1]))
    return sorted(packed, key=_largest)


class _Climb:
    """Better counts of a small layer: one replica less of an expert, one more of another."""

    def __init__(self, load: Floats, slots: Integers, enough: float) -> None:
        self.load, self.slots, self.enough = load, slots, enough
        self.tried: dict[bytes, Bins] = {}

    def up(self, best: Bins) -> Bins:
        """From the counts of `best`, as long as it helps."""
        while _largest(best) > self.enough:
            assert best.label is not None
            counts = np.bincount(best.label, minlength=len(self.load))
            tries = [self._try(of) for of in _neighbours(counts, len(self.slots))]
            found = min(tries, key=_largest, default=best)
            if _largest(found) >= _largest(best):
                return best
            best = found
        return best

    def _try(self, counts: Integers) -> Bins:
        key = counts.tobytes()
        if key not in self.tried:
            self.tried[key] = _packed(self.load, counts, self.slots)
            self.tried[key].lower(STEPS, self.enough)
        return self.tried[key]


def _neighbours(counts: Integers, most: int) -> Iterator[Integers]:
    """Counts with one replica less of an expert, and the same with one more of another."""
    steps = np.eye(len(counts), dtype=np.int64)
    for less in np.flatnonzero(counts > 1):
        yield counts - steps[less]
        for more in np.flatnonzero(counts < most):
            if more != less:
                yield counts - steps[less] + steps[more]


def _largest(bins: Bins) -> float:
    return float(bins.level.max())


def _packed(load: Floats, counts: Integers, slots: Integers) -> Bins:
    expert, rank = pack(load, counts, slots)
    found = np.bincount(expert, minlength=len(load))
    return Bins((load / found)[expert], rank, np.ones(len(slots)), slots, expert)


def _counts(load: Floats, slots: Integers, greedy: Integers) -> Iterator[Integers]:
    """[E] each: EPLB's counts; fewer for the hot experts, and what is left to the others."""
    most = len(slots)
    yield np.minimum(greedy, most)
    if len(load) <= most < slots.sum():
        yield replica_counts(load[None], most)[0]  # one for each rank, where few have two slots
    total = int(slots.sum())
    if total >= LARGE:
        return
    least = float(largest_part(load[None], fewest_replicas(load[None], total))[0])
    if least == 0:
        return
    up = np.argsort(load, kind="stable")
    for looser in LOOSER:
        counts = np.minimum(np.maximum(1, np.ceil(load / (least * looser) - 1e-9)), most)
        counts = counts.astype(np.int64)
        for size in (1, 2, 3):  # of the coldest
            left = total - int(counts.sum())
            yield np.minimum(counts + _spread(up, left, size), most)


def _spread(order: Integers, left: int, size: int) -> Integers:
    """[E]: `left` further replicas, to the first of `order`, `size` each."""
    extra = np.zeros(len(order), np.int64)
    extra[order] = np.clip(left - size * np.arange(len(order)), 0, size)
    return extra
