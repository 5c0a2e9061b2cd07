"""One entry to the placements for expected loads: the right algorithm for the slots and shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.eplb import without_twins
from supertile.targets.placement.equal import equal_map
from supertile.targets.placement.expert_map import (
    ExpertMap,
    Floats,
    Integers,
    of_each_layer,
    rank_starts,
)
from supertile.targets.placement.inputs import checked_load, checked_slots
from supertile.targets.placement.objective import (
    SlotCosts,
    layer_seconds,
    without_costly_replicas,
)
from supertile.targets.placement.one_slot import one_slot_map
from supertile.targets.placement.weighted import weighted_map

Shares = Literal["weighted", "equal"]
FEWER = 2
"""Limits of a rank's slots that are tried where time counts."""
MATTERS = 1.01
"""A placement that is faster by less is not worth the balance that it gives up."""


def plan_map(
    load: ArrayLike,
    slots: ArrayLike,
    shares: Shares,
    objective: SlotCosts | None = None,
    tokens: float | None = None,
    baselines: Sequence[ExpertMap] = (),
) -> ExpertMap:
    """A placement of loads [L, E] on ranks of slots [G]: the smallest largest load found.

    With `objective`, the smallest time of a layer found, the loads in tokens or, with `tokens`, in
    proportions of so many a layer: with all slots or fewer, down to what the experts need, and
    without replicas that cost more than they save; the balanced one where that gains hardly any.
    No layer is worse than in one of the `baselines`, others' placements for these slots and shares.
    With equal shares that is true of what is left of them with no expert twice on a rank.
    ValueError for loads that are negative or no numbers, or where the experts have too few slots.
    """
    loads = checked_load(load)
    held = checked_slots(slots, loads.shape[1])
    full = _placed(loads, held, shares)
    others = [_without_twins(one, shares) for one in baselines]
    if objective is None:
        return _first_good([full, *others], lambda one: one.loads(loads).max(axis=1), len(others))
    tries = [full]
    for limit in _limits(held, loads.shape[1]):
        tries.append(_in_slots(_placed(loads, np.minimum(held, limit), shares), held))
    thrifty = [without_costly_replicas(one, loads, objective, tokens) for one in (*tries, *others)]
    return _first_good(
        [full, *thrifty, *others],
        lambda one: layer_seconds(one, loads, objective, tokens),
        len(others),
        MATTERS,
    )


def _first_good(
    tries: list[ExpertMap],
    value: Callable[[ExpertMap], Floats],
    never_worse: int,
    matters: float = 1.0,
) -> ExpertMap:
    """Of each layer the first whose value is least, but for a factor of `matters`, and at most
    that of the last `never_worse` tries."""
    if len(tries) == 1:
        return tries[0]
    values = np.stack([value(one) for one in tries])
    most = np.minimum(
        values.min(axis=0) * matters, values[len(tries) - never_worse :].min(axis=0, initial=np.inf)
    )
    return of_each_layer(tries, np.argmax(values <= most, axis=0))


def _without_twins(map: ExpertMap, shares: Shares) -> ExpertMap:
    single = without_twins(map)
    if shares == "weighted":
        return single
    return ExpertMap.equal(single.experts, single.slots, single.expert)


def _placed(load: Floats, slots: Integers, shares: Shares) -> ExpertMap:
    if (slots == 1).all():
        return one_slot_map(load, len(slots))
    return weighted_map(load, slots) if shares == "weighted" else equal_map(load, slots)


def _limits(slots: Integers, experts: int) -> list[int]:
    """Fewer slots of a rank to try: the fewest that hold all experts, and up to so many more."""
    fewest = 1
    while np.minimum(slots, fewest).sum() < experts:
        fewest += 1
    return list(range(fewest, min(int(slots.max()), fewest + FEWER)))


def _in_slots(map: ExpertMap, slots: Integers) -> ExpertMap:
    """The same placement on ranks with more slots, idle ones last."""
    starts = rank_starts(slots)
    own = rank_starts(map.slots)
    slot = starts[map.rank] + np.arange(len(map.rank)) - own[map.rank]
    expert = np.full((map.layers, int(slots.sum())), IDLE, np.int64)
    share = np.zeros(expert.shape)
    expert[:, slot], share[:, slot] = map.expert, map.share
    return ExpertMap(map.experts, slots, expert, share)
