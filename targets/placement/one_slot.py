"""One slot a rank: each rank serves one expert, and how many ranks each gets is all there is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from supertile.targets.placement.bounds import fewest_replicas
from supertile.targets.placement.counts import more_replicas
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.inputs import checked_load, checked_slots


def one_slot_map(load: ArrayLike, ranks: int) -> ExpertMap:
    """The least largest load, for both kinds of shares: `bounds.replica_bound` is attained.

    Ranks beyond those needed for it go, one at a time, to the largest load per replica.
    """
    loads = checked_load(load)
    slots = checked_slots(np.ones(ranks, np.int64), loads.shape[1])
    counts = replica_counts(loads, ranks)
    experts = np.tile(np.arange(loads.shape[1]), len(loads))
    expert = np.repeat(experts, counts.ravel()).reshape(len(loads), ranks)
    return ExpertMap.equal(loads.shape[1], slots, expert)


def replica_counts(load: Floats, replicas: int) -> Integers:
    """[L, E], `replicas` in all: as one at a time to the largest load per replica would give.

    That ends with all loads per replica within the bound or at their last replica, so it starts at
    the fewest that the bound needs.
    """
    fewest = fewest_replicas(load, replicas)
    rows = zip(load, fewest, strict=True)
    return np.stack([more_replicas(of, counts, replicas, replicas) for of, counts in rows])
