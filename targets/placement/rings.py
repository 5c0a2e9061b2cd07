"""Placements on a ring: every rank shares experts with two neighbours, so load can flow both ways.

A tree of shared experts is enough to balance a forecast exactly (`weighted.py`), but each of its
edges is a bottleneck as soon as loads drift: a side of the tree passes on at most what its one edge
lets through. Closed to a ring, with the same number of replicas and one more, any part of it passes
load on at two ends. E experts and G ranks need E + G slots for it:

- experts with two replicas and more alternate with ranks round the ring; those with c replicas have
  c - 2 ranks of their own besides (`pendants`), which share with nobody else;
- experts with one replica fill up ranks, so that what is left of each rank suits its neighbours;
- the order round the ring keeps the load of every part of it near what its ranks can take;
- slots beyond E + G take further replicas, on the ranks with the least load so far.
"""

from __future__ import annotations

import heapq
from bisect import bisect
from dataclasses import dataclass

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.placement.counts import more_replicas
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.packing import pack


@dataclass(frozen=True)
class CountRule:
    """How replicas are counted: at least ceil(`margin` * load / mean rank load) for heavy experts,
    others one at a time to the largest load ** `exponent` per replica."""

    exponent: float
    margin: float


def ring_counts(load: Floats, replicas: int, rule: CountRule, most: int) -> Integers:
    """[E], `replicas` in all, `most` of an expert, of loads [E] in units of the mean rank load."""
    counts = np.where(load > 1, np.ceil(rule.margin * load), 1).astype(np.int64)
    counts = np.clip(counts, 1, most)
    while counts.sum() > replicas:
        counts[np.argmin(np.where(counts > 1, load / counts, np.inf))] -= 1
    return more_replicas(load**rule.exponent, counts, replicas, most)


def ring_layer(
    load: Floats, slots: Integers, rule: CountRule, random: np.random.Generator, noise: int
) -> Integers | None:
    """[P]: the expert of each slot, -1 idle, of loads [E]; None where no ring fits.

    It fits where there are E + G slots, two on each rank of the ring. `noise`: how many places the
    next expert round the ring may be off the most suitable one.
    """
    experts, ranks = len(load), len(slots)
    mean = load.sum() / ranks
    useful = np.minimum(slots, experts)
    if useful.sum() < experts + ranks or mean == 0:
        return None
    load = load / mean
    counts = ring_counts(load, experts + ranks, rule, ranks)
    shared = np.flatnonzero(counts > 1)
    by_slots = np.argsort(-useful, kind="stable")
    if len(shared) < 2 or counts.sum() < experts + ranks or useful[by_slots[len(shared) - 1]] < 2:
        return None
    ring, pendants = np.split(by_slots, [len(shared)])
    filling = _Filling(load, useful)
    filling.spread(np.flatnonzero(counts == 1), np.where(np.isin(np.arange(ranks), ring), 2, 1))
    net = _take_pendants(filling, shared, counts[shared] - 2, pendants)
    ring = random.permutation(ring)
    filling.close(ring, shared[_order(net, 1 - filling.filled[ring], random, noise)])
    filling.add_replicas(counts)
    return filling.by_slot(slots)


class _Filling:
    """Ranks while experts are put on them; `load` [E] is in units of the mean rank load."""

    def __init__(self, load: Floats, slots: Integers) -> None:
        self.load, self.room = load, slots.copy()
        self.held: list[list[int]] = [[] for _ in slots]
        self.filled = np.zeros(len(slots))
        """[G]: load of the experts that a rank has alone."""

    def put(self, expert: int, rank: int) -> None:
        self.held[rank].append(expert)
        self.room[rank] -= 1

    def spread(self, single: Integers, reserved: Integers) -> None:
        """The experts `single` onto the ranks, evenly, but for `reserved` [G] slots of each."""
        usable = np.flatnonzero(self.room > reserved)
        if not len(single):
            return
        room = (self.room - reserved)[usable]
        item, place = pack(self.load[single], np.ones(len(single), np.int64), room)
        for expert, rank in zip(single[item].tolist(), usable[place].tolist(), strict=True):
            self.put(expert, rank)
            self.filled[rank] += self.load[expert]

    def close(self, ring: Integers, around: Integers) -> None:
        """The experts `around` onto the ranks before and after them on the ring."""
        for rank, before, after in zip(ring, around, np.roll(around, -1), strict=True):
            self.put(int(before), int(rank))
            self.put(int(after), int(rank))

    def add_replicas(self, counts: Integers) -> None:
        """Into the room that is left: largest parts first, to the ranks with the least load that
        lack the expert."""
        most = len(self.room)
        final = more_replicas(self.load, counts, int(counts.sum() + self.room.sum()), most)
        part = self.load / final
        heap = [(float(part[held].sum()), rank) for rank, held in enumerate(self.held)]
        heap = [of for of in heap if self.room[of[1]]]
        heapq.heapify(heap)
        items = np.repeat(np.arange(len(part)), final - counts)
        for expert in items[np.argsort(-part[items], kind="stable")].tolist():
            passed = []
            while heap and expert in self.held[heap[0][1]]:
                passed.append(heapq.heappop(heap))
            if heap:
                filled, rank = heapq.heappop(heap)
                self.put(expert, rank)
                if self.room[rank]:
                    passed.append((filled + float(part[expert]), rank))
            for of in passed:
                heapq.heappush(heap, of)

    def by_slot(self, slots: Integers) -> Integers:
        rows = zip(self.held, slots.tolist(), strict=True)
        return np.array([e for held, count in rows for e in _padded(held, count)], np.int64)


def _padded(held: list[int], count: int) -> list[int]:
    return held + [IDLE] * (count - len(held))


def _take_pendants(
    filling: _Filling, shared: Integers, wanted: Integers, pendants: Integers
) -> Floats:
    """Gives each expert in `shared` as many `pendants` as are `wanted`; what it brings to the ring.

    Fullest pendants first, to the expert that brings the least so far.
    """
    net = filling.load[shared] - wanted
    heap = [(net[i], i) for i in range(len(shared)) if wanted[i]]
    heapq.heapify(heap)
    left = wanted.copy()
    for rank in pendants[np.argsort(-filling.filled[pendants], kind="stable")].tolist():
        brought, owner = heapq.heappop(heap)
        filling.put(int(shared[owner]), rank)
        net[owner] = brought + filling.filled[rank]
        left[owner] -= 1
        if left[owner]:
            heapq.heappush(heap, (net[owner], owner))
    return np.asarray(net)


def _order(net: Floats, room: Floats, random: np.random.Generator, noise: int) -> Integers:
    """The order of experts round the ring: before each rank of `room`, the one of `net` load that
    brings what they have together closest to the room so far."""
    rest = [(float(net[i]), i) for i in np.argsort(net, kind="stable").tolist()]
    offsets = random.integers(-noise, noise + 1, len(room)).tolist()
    ahead, order = 0.0, []
    for free, offset in zip(room.tolist(), offsets, strict=True):
        wanted = bisect(rest, (free - ahead, -1)) + offset
        brought, index = rest.pop(min(max(wanted, 0), len(rest) - 1))
        order.append(index)
        ahead += brought - free
    return np.array(order, np.int64)
