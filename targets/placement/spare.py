"""Idle slots are filled with replicas that get no tokens yet: the memory is there anyway.

A batch that is split anew may use them, and engines that know no idle slots load such a plan. A
replica without tokens is not read, so nothing gets slower.
"""

from __future__ import annotations

import heapq

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, replicas


def fill_idle(map: ExpertMap, load: Floats) -> ExpertMap:
    """The map with a replica in each idle slot, of share 0.

    Slot by slot the expert with the largest load [L, E] per replica that the rank does not hold,
    first on ties; idle stays what a rank with every expert has no use for.
    """
    expert = map.expert.copy()
    counts = replicas(expert, map.experts)
    starts = np.concatenate([[0], np.cumsum(map.slots)])
    for layer in np.flatnonzero((expert == IDLE).any(axis=1)):
        _fill(expert[layer], load[layer], counts[layer], map.rank, starts)
    return ExpertMap(map.experts, map.slots, expert, map.share)


def _fill(
    expert: Integers, load: Floats, counts: Integers, rank: Integers, starts: Integers
) -> None:
    """One layer's experts [P], in place."""
    queue = [(-load[e] / counts[e], e) for e in range(len(load))]
    heapq.heapify(queue)
    for slot in np.flatnonzero(expert == IDLE).tolist():
        held = set(expert[starts[rank[slot]] : starts[rank[slot] + 1]].tolist())
        passed = []
        while queue and queue[0][1] in held:
            passed.append(heapq.heappop(queue))
        if queue:
            chosen = queue[0][1]
            counts[chosen] += 1
            heapq.heapreplace(queue, (-load[chosen] / counts[chosen], chosen))
            expert[slot] = chosen
        for one in passed:
            heapq.heappush(queue, one)
