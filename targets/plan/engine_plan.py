"""Plans for an engine that wants every slot full and splits tokens by a rule of its own.

A placement that is good under even or planned shares need not be so under the engine's: candidates
are filled, split by the engine, and the best of each layer is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from supertile.targets.placement.eplb import without_twins
from supertile.targets.placement.exchange import Bins
from supertile.targets.placement.expert_map import ExpertMap, Floats, of_each_layer, replicas
from supertile.targets.placement.full_slots import full_slots

STEPS = 200
"""Exchanges in a layer."""


def filled(candidates: Sequence[ExpertMap], load: Floats) -> list[ExpertMap]:
    """The candidates with every slot full and no expert twice on a rank, each once."""
    full = [full_slots(without_twins(one), load) for one in candidates]
    different: list[ExpertMap] = []
    for one in full:
        if not any(np.array_equal(one.expert, other.expert) for other in different):
            different.append(one)
    return different


def best_of_each_layer(
    candidates: Sequence[ExpertMap], cost: Callable[[ExpertMap], Floats]
) -> ExpertMap:
    """Of each layer the first candidate whose cost [L] is least."""
    if len(candidates) == 1:
        return candidates[0]
    costs = np.stack([cost(one) for one in candidates])
    return of_each_layer(candidates, np.argmin(costs, axis=0))


def settled(
    placement: ExpertMap, load: Floats, split: Callable[[ExpertMap], ExpertMap]
) -> ExpertMap:
    """The placement with experts of one slot exchanged between ranks, for loads [L, E], until the
    fullest rank gets no less.

    Whatever the engine's rule is, such an expert takes all its tokens with it, and how the tokens
    of the others are split does not change: so every exchange is counted exactly.
    """
    expert, loads = placement.expert.copy(), split(placement).slot_loads(load)
    alone = np.take_along_axis(replicas(expert, placement.experts), expert, axis=1) == 1
    ones = np.ones(placement.ranks)
    for layer in range(placement.layers):
        slots = np.flatnonzero(alone[layer])
        if not len(slots):
            continue
        rank = placement.rank[slots]
        fixed = np.where(alone[layer], 0.0, loads[layer])
        room = np.bincount(rank, minlength=placement.ranks)
        bins = Bins(loads[layer, slots], rank.copy(), ones, room, expert[layer, slots])
        bins.load += np.bincount(placement.rank, fixed, placement.ranks)
        bins.lower(STEPS)
        expert[layer, slots] = expert[layer, slots[np.argsort(bins.bin, kind="stable")]]
    return ExpertMap.equal(placement.experts, placement.slots, expert)
