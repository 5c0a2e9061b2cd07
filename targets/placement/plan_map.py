"""One entry to the placements for expected loads: the right algorithm for the slots and shares."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.inputs import checked_load, checked_slots
from supertile.targets.placement.objective import (
    SlotCosts,
    rank_seconds,
    without_costly_replicas,
)
from supertile.targets.placement.one_slot import one_slot_map
from supertile.targets.placement.weighted import weighted_map

Shares = Literal["weighted", "equal"]
MATTERS = 1.01
"""A placement that is faster by less is not worth the balance that it gives up."""


def plan_map(
    load: ArrayLike,
    slots: ArrayLike,
    shares: Shares,
    objective: SlotCosts | None = None,
    tokens: float | None = None,
) -> ExpertMap:
    """A placement of loads [L, E] on ranks of slots [G]: the smallest largest load found.

    With `objective`, the smallest time of the slowest rank found, the loads in tokens or, with
    `tokens`, in proportions of so many a layer: with all slots or as few as the experts need, and
    without replicas that cost more than they save; the balanced one where that gains hardly any.
    ValueError for loads that are negative or no numbers, or where the experts have too few slots.
    """
    loads = checked_load(load)
    held = checked_slots(slots, loads.shape[1])
    full = _placed(loads, held, shares)
    if objective is None:
        return full
    tries = [full]
    few = np.minimum(held, _fewest(held, loads.shape[1]))
    if (few < held).any():
        tries.append(_in_slots(_placed(loads, few, shares), held))
    tries = [full, *(without_costly_replicas(one, loads, objective, tokens) for one in tries)]
    slowest = np.stack([rank_seconds(one, loads, objective, tokens).max(axis=1) for one in tries])
    best = np.argmax(slowest <= slowest.min(axis=0) * MATTERS, axis=0)[None, :, None]
    expert, share = (
        np.take_along_axis(np.stack(of), best, axis=0)[0]
        for of in ([one.expert for one in tries], [one.share for one in tries])
    )
    return ExpertMap(loads.shape[1], held, expert, share)


def _placed(load: Floats, slots: Integers, shares: Shares) -> ExpertMap:
    if (slots == 1).all():
        return one_slot_map(load, len(slots))
    return weighted_map(load, slots) if shares == "weighted" else equal_map(load, slots)


def _fewest(slots: Integers, experts: int) -> int:
    """The least limit of a rank's slots under which all experts still have one."""
    limit = 1
    while np.minimum(slots, limit).sum() < experts:
        limit += 1
    return limit


def _in_slots(map: ExpertMap, slots: Integers) -> ExpertMap:
    """The same placement on ranks with more slots, idle ones last."""
    starts = np.concatenate([[0], np.cumsum(slots)[:-1]])
    own = np.concatenate([[0], np.cumsum(map.slots)[:-1]])
    slot = starts[map.rank] + np.arange(len(map.rank)) - own[map.rank]
    expert = np.full((map.layers, int(slots.sum())), IDLE, np.int64)
    share = np.zeros(expert.shape)
    expert[:, slot], share[:, slot] = map.expert, map.share
    return ExpertMap(map.experts, slots, expert, share)
