"""Placements whose replicas share the tokens of an expert in any parts: the forecast's best.

Where `fill.is_exact` says so, all ranks have the mean load. Elsewhere there are too few slots to
share between all ranks: they fall into groups that share no expert. A group of g ranks with S slots
has the load mass / g on each of its ranks, if its experts are S - g + 1 or fewer (`fill` again); so
what remains is a partition of experts and ranks into groups, found by search.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.bounds import placement_bound
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts
from supertile.targets.placement.fill import Pieces, fill, is_exact
from supertile.targets.placement.groups import search
from supertile.targets.placement.inputs import checked_load, checked_slots


def weighted_map(load: ArrayLike, slots: ArrayLike) -> ExpertMap:
    """Of loads [L, E] on ranks of slots [G]: the largest load of a rank is as small as found.

    It is the mean load wherever all ranks have s >= 2 slots and R - E >= G - 1, or all but
    G - E + 1 ranks have two or more. Slots that would not lower it are idle.
    ValueError for loads that are negative or no numbers, or where the experts have too few slots.
    """
    loads = checked_load(load)
    experts = loads.shape[1]
    slots = checked_slots(slots, experts)
    useful = np.minimum(slots, experts)
    bounds = placement_bound(loads, useful)
    pieces = [_layer(*of, useful) for of in zip(loads, bounds, strict=True)]
    return map_of_pieces(experts, slots, pieces)


def _layer(load: Floats, bound: float, slots: Integers) -> Pieces:
    mean = float(load.mean()) * len(load) / len(slots)
    if mean == 0:
        return search(load, slots, 0.0)
    load, lowest = load / mean, max(1.0, bound / mean)
    if is_exact(slots, len(load)) or lowest <= 1:
        found = fill(load, slots, 1.0)
        if found is not None:
            return found
    return search(load, slots, lowest)


def map_of_pieces(experts: int, slots: Integers, layers: Sequence[Pieces]) -> ExpertMap:
    """Each layer's pieces in the slots of their ranks, largest share first, idle slots last."""
    starts = rank_starts(slots)
    expert = np.full((len(layers), int(slots.sum())), IDLE, np.int64)
    share = np.zeros(expert.shape)
    for layer, pieces in enumerate(layers):
        total = np.bincount(pieces.expert, pieces.amount, minlength=experts)[pieces.expert]
        part = np.where(total > 0, pieces.amount / np.where(total > 0, total, 1.0), 1.0)
        order = np.lexsort((pieces.expert, -pieces.amount, pieces.rank))
        rank = pieces.rank[order]
        first = np.searchsorted(rank, rank)
        slot = starts[rank] + np.arange(len(rank)) - first
        expert[layer, slot] = pieces.expert[order]
        share[layer, slot] = part[order]
    return ExpertMap(experts, slots, expert, share)
