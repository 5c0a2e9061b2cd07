"""Ranks dealt to domains like cards, so that replicas of an expert get into different ones.

Placements fill ranks one after the other and cut an expert where a rank is full, so its replicas
are neighbours. Dealing puts neighbours apart in every domain at once, without a search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from supertile.targets.placement.expert_map import ExpertMap, Integers, rank_starts


def deal_ranks(map: ExpertMap, domains: Sequence[int]) -> ExpertMap:
    """`map` with its ranks in another order, the same in all layers; balance does not change.

    `domains`: how many ranks each domain has, from the inside: rank r is in the domain r // size.
    Ranks of different slots keep their places among each other.
    """
    place = np.empty(map.ranks, np.int64)
    order = _dealt(np.arange(map.ranks), sorted(domains, reverse=True))
    for slots in np.unique(map.slots):
        alike = np.flatnonzero(map.slots == slots)
        place[alike] = order[map.slots[order] == slots]
    source = np.empty(map.ranks, np.int64)
    source[place] = np.arange(map.ranks)
    starts = rank_starts(map.slots)
    inner = np.arange(len(map.rank)) - starts[map.rank]
    slot = starts[source][map.rank] + inner
    return ExpertMap(map.experts, map.slots, map.expert[:, slot], map.share[:, slot])


def _dealt(ranks: Integers, sizes: Sequence[int]) -> Integers:
    """The ranks so that those next to each other are in different domains, the outermost first."""
    if not sizes:
        return ranks
    domain = ranks // sizes[0]
    groups = [_dealt(ranks[domain == one], sizes[1:]) for one in np.unique(domain)]
    turn = np.concatenate([np.arange(len(group)) for group in groups])
    number = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    dealt: Integers = np.concatenate(groups)[np.lexsort((number, turn))]
    return dealt
