"""Time rather than tokens: what a rank's slots cost in a layer, and replicas that cost more than
they save.

A replica reads the weights of its expert whatever its tokens are. With few tokens that takes longer
than their arithmetic (below the ridge), and one replica more makes a rank slower.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from supertile.ir import portable_math
from supertile.ir.placement import IDLE
from supertile.targets.placement.bounds import worth_bound
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers

GAIN = 1e-9
"""Of the slowest rank's time, what dropping a replica has to gain."""


@dataclass(frozen=True)
class SlotCosts:
    """Seconds of the experts of one layer on a rank, all of them in one kernel.

    Weights are read under arithmetic, those of one expert under that of another too: the longer of
    the two sums counts. `targets/comm/layer_time.py` and the grouped kernels are costed alike.
    """

    weights: float
    """To read the weights of an expert: bytes / memory bandwidth. A batch that brings the slot no
    token does not: with n tokens on average that is exp(-n) of the batches."""
    token: float
    """Arithmetic of one token: 6 h d operations / achieved rate."""
    wire: float = 0.0
    """Of one token on the wire, dispatch and combine: bytes / bandwidth."""

    def __post_init__(self) -> None:
        for name in ("weights", "token", "wire"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} costs {value} seconds, not 0 or more")

    def read(self, tokens: Floats) -> Floats:
        """Seconds to read the weights of slots with so many tokens each, in the same shape."""
        found: Floats = -portable_math.expm1(-tokens) * self.weights
        return found

    def seconds(self, read: Floats, tokens: Floats) -> Floats:
        """Of ranks that read for so long, with so many tokens."""
        found: Floats = np.maximum(read, tokens * self.token) + tokens * self.wire
        return found


def rank_seconds(
    map: ExpertMap, load: Floats, costs: SlotCosts, tokens: float | None = None
) -> Floats:
    """[L, G]: the time of each rank under loads [L, E] in tokens.

    With `tokens`, the loads are proportions of so many tokens a layer, counted once per expert that
    a token chooses.
    """
    held = map.slot_loads(_in_tokens(load, tokens))
    starts = np.concatenate([[0], np.cumsum(map.slots)[:-1]])
    read, sums = (np.add.reduceat(of, starts, axis=1) for of in (costs.read(held), held))
    return costs.seconds(read, sums)


def seconds_bound(
    load: Floats,
    slots: Integers,
    costs: SlotCosts,
    least: Floats,
    tokens: float | None = None,
) -> Floats:
    """[L]: no placement on slots [G] has a faster slowest rank; `least` [L] bounds its load.

    The rank with the largest load, `least` or more, has its arithmetic and its wire. And a rank
    takes at least its reading and its wire. In those an expert in parts has as much as a whole one
    or more: wire is linear, and reading is concave from 0 up. So `worth_bound` holds for them.
    """
    loads = _in_tokens(load, tokens)
    total = load.sum(axis=1)
    scale = np.divide(loads.sum(axis=1), total, out=np.zeros(len(load)), where=total > 0)
    useful = np.minimum(slots, load.shape[1])
    by_reading = worth_bound(costs.read(loads) + loads * costs.wire, useful)
    found: Floats = np.maximum(least * scale * (costs.token + costs.wire), by_reading)
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
    read: Floats = field(init=False)
    """Seconds that each rank reads, [G]."""
    tokens: Floats = field(init=False)
    """Of each rank, [G]."""

    def drop(self) -> None:
        tokens = self._tokens(np.arange(len(self.share)), self.share)
        self.read, self.tokens = (
            np.bincount(self.rank, of, minlength=self.ranks).astype(np.float64)
            for of in (self.costs.read(tokens), tokens)
        )
        while self._step():
            pass

    def _step(self) -> bool:
        """Drops the replica of the slowest rank after which the ranks it touches are fastest."""
        time = self.costs.seconds(self.read, self.tokens)
        slowest = int(time.argmax())
        best, chosen = time[slowest] * (1 - GAIN), None
        for slot in np.flatnonzero((self.rank == slowest) & (self.expert != IDLE)):
            others = np.flatnonzero(self.expert == self.expert[slot])
            others = others[others != slot]
            if not len(others):
                continue
            slots = np.append(others, slot)
            share = np.append(self._without(others), 0.0)
            read, tokens = self._after(slots, share)
            after = float(self.costs.seconds(read, tokens).max())
            if after < best:
                best, chosen = after, (slots, share, read, tokens)
        if chosen is None:
            return False
        slots, share, read, tokens = chosen
        self.read[self.rank[slots]], self.tokens[self.rank[slots]] = read, tokens
        self.share[slots], self.expert[slots[-1]] = share, IDLE
        return True

    def _tokens(self, slots: Integers, share: Floats) -> Floats:
        expert = self.expert[slots]
        found: Floats = np.where(expert == IDLE, 0.0, self.load[expert]) * share
        return found

    def _after(self, slots: Integers, share: Floats) -> tuple[Floats, Floats]:
        """Seconds of reading and tokens of the ranks of slots, of one expert, with other shares."""
        new, old = self._tokens(slots, share), self._tokens(slots, self.share[slots])
        ranks = self.rank[slots]
        read = self.read[ranks] + self.costs.read(new) - self.costs.read(old)
        return read, self.tokens[ranks] + new - old

    def _without(self, others: Integers) -> Floats:
        """The shares of the other replicas, where they are all."""
        total = self.share[others].sum()
        if total > 0:
            found: Floats = self.share[others] / total
            return found
        return np.full(len(others), 1 / len(others))
