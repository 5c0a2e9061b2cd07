"""How many replicas experts have: one more at a time, to the largest load per replica."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

import numpy as np

from supertile.targets.placement.expert_map import Floats, Integers


def raises(weight: Floats, counts: Integers, most: int) -> Iterator[int]:
    """The experts that get one more replica, in turn, from `counts` [E] on, `most` each.

    Each is the one with the largest weight [E] per replica, the first on ties.
    """
    replicas = counts.tolist()
    weights = weight.tolist()
    heap = [(-weights[e] / replicas[e], e) for e in range(len(replicas)) if replicas[e] < most]
    heapq.heapify(heap)
    while heap:
        expert = heap[0][1]
        replicas[expert] += 1
        if replicas[expert] < most:
            heapq.heapreplace(heap, (-weights[expert] / replicas[expert], expert))
        else:
            heapq.heappop(heap)
        yield expert


def more_replicas(weight: Floats, counts: Integers, replicas: int, most: int) -> Integers:
    """`counts` [E] raised to `replicas` in all, or to `most` each."""
    more = list(islice(raises(weight, counts, most), max(0, replicas - int(counts.sum()))))
    return counts + np.bincount(more, minlength=len(counts)) if more else counts.copy()
