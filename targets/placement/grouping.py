"""Partitions a layer's ranks and experts into groups that share no expert, under a limit T.

A group of g ranks with S slots has at most S - g + 1 experts of g T load in all: `fill` then places
them with equal loads of its ranks, where all have the same two or more slots.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.fill import CLOSE, Pieces, Pool, ascending

WIDER = 3
"""Ranks more than the largest expert needs that a group may have."""


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


def grouped(load: Floats, slots: Integers, thrift: float, limit: float) -> Groups | None:
    """One group after the other, each from the largest expert left; None where they do not fit.

    Ranks go by ascending slots. A group has as many as cost least: a slot for each cut of an
    expert and for each place that stays empty, and `thrift` for each rank.
    """
    order = np.argsort(slots, kind="stable")
    room = slots[order].tolist()
    pool = ascending(load / limit, np.arange(len(load)))
    group_of_rank = np.empty(len(slots), np.int64)
    group_of_expert = np.empty(len(load), np.int64)
    start, group, spare = 0, 0, int(slots.sum()) - len(load)
    while pool:
        width, others = _shape(pool, room, start, spare, thrift)
        if not width:
            return None
        end = start + width
        spare -= sum(room[start:end]) - 1 - others
        group_of_rank[order[start:end]] = group
        largest = pool.pop()
        members = [largest, *_take(pool, others, width - largest[0])]
        group_of_expert[[-key for _, key in members]] = group
        start, group = end, group + 1
    group_of_rank[order[start:]] = np.arange(group, group + len(room) - start)
    return Groups(group_of_rank, group_of_expert)


def _shape(pool: Pool, room: list[int], start: int, spare: int, thrift: float) -> tuple[int, int]:
    """(ranks, experts besides the largest) of the group that costs least; (0, 0) where none is."""
    size = pool[-1][0]
    least = max(1, int(np.ceil(size - CLOSE)))
    best, shape = np.inf, (0, 0)
    small, count = 0.0, 0
    slots = sum(room[start : start + least - 1])
    for width in range(least, min(least + WIDER, len(room) - start) + 1):
        slots += room[start + width - 1]
        places = min(slots - width, len(pool) - 1)
        while count < places and small + pool[count][0] <= width - size + CLOSE:
            small += pool[count][0]
            count += 1
        used = slots - 1 - count  # cuts and empty places
        if used <= spare and used + thrift * width < best:
            best, shape = used + thrift * width, (width, count)
    return shape


def _take(pool: Pool, count: int, room: float) -> Pool:
    """The largest that leave room for the smallest in the other places."""
    small = sum(size for size, _ in pool[:count])
    chosen: list[int] = []
    for others in range(count - 1, -1, -1):
        small -= pool[others][0]
        end = chosen[-1] if chosen else len(pool)
        fits = bisect_right(pool, (room - small + CLOSE, 1), 0, end) - 1
        chosen.append(max(fits, others))
        room -= pool[chosen[-1]][0]
    return [pool.pop(index) for index in chosen]
