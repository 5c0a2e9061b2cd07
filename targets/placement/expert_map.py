"""A placement of the experts of all layers: the expert of each slot, and its share of the tokens.

Ranks have their slots one after the other: rank 0 the first `slots[0]`, and so on, as in the
physical-to-logical maps of serving engines. Sizes: L layers, E experts, G ranks, P slots in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from supertile.ir.placement import IDLE

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class ExpertMap:
    """`expert` [L, P] in each slot, -1 idle; `share` [L, P] of the expert's tokens that come there.

    The shares of an expert add up to 1 in each layer; an idle slot has none. `check.py` verifies
    that, and that no rank holds an expert twice.
    """

    experts: int
    slots: Integers
    """How many each rank has, [G]."""
    expert: Integers
    share: Floats

    @staticmethod
    def equal(experts: int, slots: Integers, expert: Integers) -> ExpertMap:
        """With the tokens of an expert in equal parts to its replicas."""
        expert = np.asarray(expert, np.int64)
        counts = replicas(expert, experts)
        held = np.where(expert == IDLE, 0, expert)
        each = 1.0 / np.maximum(np.take_along_axis(counts, held, axis=1), 1)
        share = np.where(expert == IDLE, 0.0, each)
        return ExpertMap(experts, np.asarray(slots, np.int64), expert, share)

    @property
    def layers(self) -> int:
        return len(self.expert)

    @property
    def ranks(self) -> int:
        return len(self.slots)

    @cached_property
    def rank(self) -> Integers:
        """The rank of each slot, [P]."""
        return np.repeat(np.arange(self.ranks), self.slots)

    def slot_loads(self, load: Floats) -> Floats:
        """[L, P]: the load of each slot under the loads [L, E] of the experts."""
        held = np.where(self.expert == IDLE, 0, self.expert)
        return np.take_along_axis(np.asarray(load, np.float64), held, axis=1) * self.share

    def loads(self, load: Floats) -> Floats:
        """[L, G]: the load of each rank under the loads [L, E] of the experts."""
        starts = rank_starts(self.slots)
        return np.add.reduceat(self.slot_loads(load), starts, axis=1)

    def balancedness(self, load: Floats) -> Floats:
        """[L]: mean over largest load of a rank; 1 where a layer has no load."""
        loads = self.loads(load)
        largest = loads.max(axis=1)
        return np.where(largest > 0, loads.mean(axis=1) / np.where(largest > 0, largest, 1), 1.0)


def rank_starts(slots: Integers) -> Integers:
    """[G]: the first slot of each rank, of ranks of `slots` [G]."""
    starts: Integers = np.concatenate([[0], np.cumsum(slots)[:-1]])
    return starts


def of_each_layer(candidates: Sequence[ExpertMap], chosen: Integers) -> ExpertMap:
    """In each layer what the candidate of the number `chosen` [L] has there; all have the same
    slots."""
    expert, share = (
        np.take_along_axis(np.stack(values), chosen[None, :, None], axis=0)[0]
        for values in ([one.expert for one in candidates], [one.share for one in candidates])
    )
    return replace(candidates[0], expert=expert, share=share)


def over_mean(loads: Floats) -> Floats:
    """[L, G] over the mean of each layer; ones where a layer has no load."""
    mean = loads.mean(axis=1, keepdims=True)
    return np.where(mean > 0, loads / np.where(mean > 0, mean, 1.0), 1.0)


def replicas(expert: Integers, experts: int) -> Integers:
    """[L, E]: how many slots hold each expert, of the experts [L, P] in the slots."""
    layers = len(expert)
    keys = np.where(expert == IDLE, layers * experts, expert + experts * np.arange(layers)[:, None])
    counts = np.bincount(keys.ravel(), minlength=layers * experts + 1)[:-1]
    return counts.reshape(layers, experts).astype(np.int64)
