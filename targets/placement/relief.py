"""The one replica that relieves a placement most, judged by the sets of experts that are tight.

A tight set A of experts has w(A) / |N(A)| = T, N(A) the ranks with a replica of one of A. A replica
of one of them on a rank outside N(A) lowers it, if the replica whose slot it takes is not needed by
another tight set. Sizes: S scenarios, E experts, G ranks, P slots, M tight sets.
"""

from __future__ import annotations

import numpy as np

from supertile.ir import portable_math
from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import Floats, Integers

MOST_SETS = 8
EXPERTS_TRIED = 6
"""Of a tight set: those with the largest load per replica."""
SLOTS_TRIED = 16
"""Per tight set: those that carry the least load."""
LEAST_GAIN = 1e-6


def best_replacement(
    expert: Integers, rank: Integers, loads: Floats, tight: np.ndarray, share: Floats
) -> tuple[int, int] | None:
    """(slot, expert that it takes) of a layer of experts [P] on ranks [P]; None where none helps.

    `tight` [S, E] are the tight sets under the loads [S, E], split by `share` [S, P].
    """
    ranks = int(rank[-1]) + 1
    sets = np.array(
        list({inside.tobytes(): inside for inside in tight[~tight.all(axis=1)]}.values())
    )
    if not len(sets):
        return None
    covers = np.array([_covered(expert, rank, inside, ranks) for inside in sets])
    mean = np.maximum(loads.sum(axis=1), 1e-300) / ranks
    weight = portable_math.product(sets, loads.T) / mean
    relative = weight / (covers > 0).sum(axis=1)[:, None]
    worst = np.argsort(-relative.mean(axis=1), kind="stable")[:MOST_SETS]
    slots, experts = _candidates(expert, rank, loads, share, sets[worst], covers[worst])
    if not slots.size:
        return None
    after = _after(expert, rank, sets, covers, slots, experts)
    largest = (weight[:, :, None] / after[:, None, :]).max(axis=0)
    value = (1 / np.maximum(largest, 1.0)).mean(axis=0)
    best = int(np.argmax(value))
    now = (1 / np.maximum(relative.max(axis=0), 1.0)).mean()
    if value[best] <= now + LEAST_GAIN:
        return None
    return int(slots[best]), int(experts[best])


def _covered(expert: Integers, rank: Integers, inside: np.ndarray, ranks: int) -> Integers:
    """[G]: how many slots of each rank hold an expert of the set."""
    of_set = (expert != IDLE) & inside[expert]
    return np.asarray(np.bincount(rank[of_set], minlength=ranks), np.int64)


def _candidates(
    expert: Integers,
    rank: Integers,
    loads: Floats,
    share: Floats,
    sets: np.ndarray,
    covers: Integers,
) -> tuple[Integers, Integers]:
    """(slots, experts) that they may take, [N]: replicas outside a tight set for those inside."""
    held = expert != IDLE
    counts = np.bincount(expert[held], minlength=loads.shape[1])
    free = ~held | (counts[expert] > 1)
    carried = np.where(held, share * loads[:, np.maximum(expert, 0)], 0.0).mean(axis=0)
    part = loads.mean(axis=0) / counts
    slots, experts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for inside, cover in zip(sets, covers, strict=True):
        usable = np.flatnonzero(free & (cover[rank] == 0))
        usable = usable[np.argsort(carried[usable], kind="stable")][:SLOTS_TRIED]
        members = np.flatnonzero(inside)
        members = members[np.argsort(-part[members], kind="stable")][:EXPERTS_TRIED]
        slots.append(np.repeat(usable, len(members)))
        experts.append(np.tile(members, len(usable)))
    return np.concatenate(slots), np.concatenate(experts)


def _after(
    expert: Integers,
    rank: Integers,
    sets: np.ndarray,
    covers: Integers,
    slots: Integers,
    experts: Integers,
) -> Integers:
    """[M, N]: |N(A)| of each set after each replacement."""
    cover, lost = covers[:, rank[slots]], expert[slots]
    takes = sets[:, lost] & (lost != IDLE)
    remaining = cover - takes + sets[:, experts]
    change = (remaining > 0).astype(np.int64) - (cover > 0)
    return np.asarray(np.maximum((covers > 0).sum(axis=1)[:, None] + change, 1), np.int64)
