"""Idle slots filled with replicas that share their expert's tokens evenly, hurting balance least.

Engines that split evenly know no idle slot. A replica more takes load from the other ranks of its
expert and brings load to its own, so which expert fills a slot matters, and so does the rank.
"""

from __future__ import annotations

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.placement.exchange import GAIN, Bins
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, replicas

STEPS = 200
"""Of exchange between ranks after a layer is filled, and of replicas given to other experts."""
SMALL = 2**16
"""Slots x experts x ranks up to which a layer's replicas are given to other experts, too."""


def full_slots(placement: ExpertMap, load: Floats) -> ExpertMap:
    """The placement with a replica in each idle slot, and even shares; loads are [L, E].

    Layers without idle slots stay as they are. A rank holds an expert once, so a slot stays idle
    only on a rank that holds all of them.
    """
    expert = placement.expert.copy()
    counts = replicas(expert, placement.experts)
    for layer in np.flatnonzero((expert == IDLE).any(axis=1)):
        _fill(expert[layer], placement.rank, load[layer], counts[layer])
        if (expert[layer] != IDLE).all():
            _exchange(expert[layer], placement.rank, placement.slots, load[layer])
            if expert.shape[1] * placement.experts * placement.ranks <= SMALL:
                _replace(expert[layer], placement.rank, load[layer])
    return ExpertMap.equal(placement.experts, placement.slots, expert)


def _fill(expert: Integers, rank: Integers, load: Floats, counts: Integers) -> None:
    """One layer's experts [P] in place, `counts` [E] with them: the least loaded rank first."""
    mean = max(float(load.sum()) / (int(rank[-1]) + 1), np.finfo(float).tiny)
    scaled = load / mean
    held = expert != IDLE
    parts = (scaled / counts)[expert[held]]
    loads = np.bincount(rank[held], parts, int(rank[-1]) + 1).astype(np.float64)
    idle = [np.flatnonzero((rank == place) & ~held).tolist() for place in range(len(loads))]
    open_ranks = {place for place, slots in enumerate(idle) if slots}
    while open_ranks:
        place = min(open_ranks, key=lambda one: (loads[one], one))
        chosen = _best_expert(expert, rank, scaled, counts, loads, place)
        if chosen is None:
            open_ranks.remove(place)
            continue
        old, new = scaled[chosen] / counts[chosen], scaled[chosen] / (counts[chosen] + 1)
        loads[rank[expert == chosen]] -= old - new
        loads[place] += new
        counts[chosen] += 1
        expert[idle[place].pop()] = chosen
        if not idle[place]:
            open_ranks.remove(place)


def _best_expert(
    expert: Integers, rank: Integers, load: Floats, counts: Integers, loads: Floats, place: int
) -> int | None:
    """The expert that the rank lacks and whose further replica there is best for all ranks.

    `loads` [G] are those of the ranks over their mean; the sum of their eighth powers is judged:
    near the largest, but smooth. None where the rank holds every expert.
    """
    slots = np.flatnonzero(expert != IDLE)
    held, ranks = expert[slots], rank[slots]
    part = load / (counts + 1)
    less = load / counts - part
    before, after = loads[ranks], np.maximum(loads[ranks] - less[held], 0.0)
    saved = np.bincount(held, _eighth(before) - _eighth(after), minlength=len(load))
    change = _eighth(loads[place] + part) - _eighth(loads[place : place + 1]) - saved
    change[expert[rank == place][expert[rank == place] != IDLE]] = np.inf
    best = int(change.argmin())
    return None if np.isinf(change[best]) else best


def _eighth(values: Floats) -> Floats:
    """The eighth power, by products alone: a library's `pow` differs between processors."""
    square = values * values
    fourth = square * square
    return fourth * fourth


def _exchange(expert: Integers, rank: Integers, slots: Integers, load: Floats) -> None:
    """Replicas of one layer [P] swapped between ranks, in place, while the fullest gets less."""
    counts = np.bincount(expert, minlength=len(load))
    bins = Bins((load / counts)[expert], rank.copy(), np.ones(len(slots)), slots, expert.copy())
    bins.lower(STEPS)
    assert bins.label is not None
    expert[:] = bins.label[np.argsort(bins.bin, kind="stable")]


def _replace(expert: Integers, rank: Integers, load: Floats) -> None:
    """Replicas of one layer [P] given to other experts, in place, while the fullest rank gets less.

    Of all slots and all experts that the slot's rank lacks, the best: the loads of all ranks are
    computed for each [P, E, G].
    """
    experts, ranks = len(load), int(rank[-1]) + 1
    slots = np.arange(len(expert))
    for _ in range(STEPS):
        holds = np.zeros((experts, ranks), bool)
        holds[expert, rank] = True
        counts = np.bincount(expert, minlength=experts)
        loads = (holds * (load / counts)[:, None]).sum(axis=0)
        fewer, more = load / np.maximum(counts - 1, 1), load / (counts + 1)
        lost = holds * (fewer - load / counts)[:, None]
        gained = holds * (more - load / counts)[:, None]
        after = loads + lost[expert][:, None, :] + gained[None, :, :]
        after[slots, :, rank] += more - fewer[expert][:, None]
        fullest: Floats = after.max(axis=2)
        fullest[counts[expert] == 1] = np.inf
        fullest[holds[:, rank].T] = np.inf
        best = int(fullest.argmin())
        if not fullest.flat[best] < loads.max() * (1 - GAIN):
            return
        expert[best // experts] = best % experts
