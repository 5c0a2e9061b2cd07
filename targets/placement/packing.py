"""Longest processing time first: replicas of equal shares onto ranks, one layer.

As EPLB packs, but for any slots, and never two replicas of an expert onto a rank.
"""

from __future__ import annotations

import heapq

import numpy as np

from supertile.targets.placement.expert_map import Floats, Integers


def pack(load: Floats, counts: Integers, slots: Integers) -> tuple[Integers, Integers]:
    """(expert, rank) of each replica [N], of loads [E] in `counts` [E] equal parts.

    The largest parts first, each to the ranks with the least load that have room, of equal loads to
    that of fewer slots: less comes on top there. A replica that finds none is left out, so N may be
    less than the sum of the counts; every expert keeps one.
    """
    room = slots.tolist()
    heap = [(0.0, several, rank) for rank, several in enumerate(room)]
    heapq.heapify(heap)
    expert: list[int] = []
    rank: list[int] = []
    part = load / counts
    order = np.argsort(-part, kind="stable")
    items = zip(order.tolist(), part[order].tolist(), counts[order].tolist(), strict=True)
    for item, size, count in items:
        for filled, several, index in [heapq.heappop(heap) for _ in range(min(count, len(heap)))]:
            expert.append(item)
            rank.append(index)
            room[index] -= 1
            if room[index]:
                heapq.heappush(heap, (filled + size, several, index))
    return np.array(expert, np.int64), np.array(rank, np.int64)
