"""Time rather than tokens: what a rank's slots cost in a layer, and replicas that cost more than
they save.

A replica reads the weights of its expert whatever its tokens are. With few tokens that takes longer
than their arithmetic (below the ridge), and one replica more makes a rank slower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers

GAIN = 1e-9
"""Of the slowest rank's time, what dropping a replica has to gain."""


@dataclass(frozen=True)
class SlotCosts:
    """Seconds of one slot of one layer."""

    weights: float
    """To read the weights of an expert: bytes / memory bandwidth. A batch that brings the slot no
    token does not: with n tokens on average that is exp(-n) of the batches."""
    token: float
    """Arithmetic of one token: 6 h d operations / achieved rate."""
    wire: float = 0.0
    """Of one token on the wire, dispatch and combine: bytes / bandwidth."""
    overlapped: bool = True
    """Whether weights are read under arithmetic: the longer of the two counts, not their sum."""

    def __post_init__(self) -> None:
        for name in ("weights", "token", "wire"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} costs {value} seconds, not 0 or more")

    def seconds(self, tokens: Floats) -> Floats:
        """Of slots with so many tokens each, in the same shape."""
        arithmetic = tokens * self.token
        read = -np.expm1(-tokens) * self.weights
        inside = np.maximum(arithmetic, read) if self.overlapped else arithmetic + read
        found: Floats = inside + tokens * self.wire
        return found


def rank_seconds(
    map: ExpertMap, load: Floats, costs: SlotCosts, tokens: float | None = None
) -> Floats:
    """[L, G]: the time of each rank under loads [L, E] in tokens.

    With `tokens`, the loads are proportions of so many tokens a layer, counted once per expert that
    a token chooses.
    """
    slot_seconds = costs.seconds(map.slot_loads(_in_tokens(load, tokens)))
    starts = np.concatenate([[0], np.cumsum(map.slots)[:-1]])
    found: Floats = np.add.reduceat(slot_seconds, starts, axis=1)
    return found


def without_costly_replicas(
    map: ExpertMap, load: Floats, costs: SlotCosts, tokens: float | None = None
) -> ExpertMap:
    """The map with replicas of slowest ranks idle, as long as that makes the slowest rank faster.

    The tokens of a dropped replica go to the expert's others, in the proportion of their shares.
    """
    expert, share = map.expert.copy(), map.share.copy()
    loads = _in_tokens(load, tokens)
    for layer in range(map.layers):
        _Layer(map.rank, map.ranks, expert[layer], share[layer], loads[layer], costs).drop()
    return ExpertMap(map.experts, map.slots, expert, share)


def _in_tokens(load: Floats, tokens: float | None) -> Floats:
    loads = np.asarray(load, np.float64)
    if tokens is None:
        return loads
    total = loads.sum(axis=1, keepdims=True)
    return loads * (tokens / np.where(total > 0, total, 1.0))


@dataclass
class _Layer:
    """One layer's slots [P], changed in place."""

    rank: Integers
    ranks: int
    expert: Integers
    share: Floats
    load: Floats
    costs: SlotCosts

    def drop(self) -> None:
        held = np.where(self.expert == IDLE, 0, self.expert)
        seconds = self.costs.seconds(self.load[held] * self.share)
        time = np.bincount(self.rank, seconds, minlength=self.ranks).astype(np.float64)
        while self._step(time, int(time.argmax())):
            pass

    def _step(self, time: Floats, slowest: int) -> bool:
        """Drops the replica of the rank whose ranks are fastest afterwards, and updates `time`."""
        best, chosen = time[slowest] * (1 - GAIN), None
        for slot in np.flatnonzero((self.rank == slowest) & (self.expert != IDLE)).tolist():
            others = np.flatnonzero(self.expert == self.expert[slot])
            others = others[others != slot]
            if not len(others):
                continue
            new = self._without(others)
            change = self._seconds(others, new) - self._seconds(others, self.share[others])
            after = float((time[self.rank[others]] + change).max())
            after = max(after, time[slowest] - float(self._seconds(slot, self.share[slot])))
            if after < best:
                best, chosen = after, (slot, others, new, change)
        if chosen is None:
            return False
        slot, others, new, change = chosen
        time[slowest] -= float(self._seconds(slot, self.share[slot]))
        time[self.rank[others]] += change
        self.share[others] = new
        self.share[slot], self.expert[slot] = 0.0, IDLE
        return True

    def _seconds(self, slots: int | Integers, share: Floats) -> Floats:
        return self.costs.seconds(np.asarray(self.load[self.expert[slots]] * share))

    def _without(self, others: Integers) -> Floats:
        """The shares of the other replicas, where they are all."""
        total = self.share[others].sum()
        if total > 0:
            found: Floats = self.share[others] / total
            return found
        return np.full(len(others), 1 / len(others))
