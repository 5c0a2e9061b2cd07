"""Where an engine has the experts before it loads or computes any placement: slots in order.

    expert = STARTS["in_order"](experts, ranks, each)           # [P]

E experts, G ranks of the same number of slots, P slots in all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from supertile.targets.placement.expert_map import Integers

Start = Callable[[int, int, int], Integers]


def in_order(experts: int, ranks: int, each: int) -> Integers:
    """Slot s holds expert s mod E: replicas, on the last ranks, are of the first experts."""
    return np.arange(ranks * each) % experts


def by_rank(experts: int, ranks: int, each: int) -> Integers:
    """Slot i of rank r holds expert (r E // G + i) mod E: replicas are of the next rank's."""
    first = np.arange(ranks) * experts // ranks
    return ((first[:, None] + np.arange(each)) % experts).reshape(-1)


STARTS: Mapping[str, Start] = {"in_order": in_order, "by_rank": by_rank}
