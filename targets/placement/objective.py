"""Time rather than tokens: what a layer waits for, and replicas that cost more than they save.

A replica reads the weights of its expert whatever its tokens are. With few tokens that takes longer
than their arithmetic (below the ridge), and one replica more makes a rank slower. Dispatch and
combine end for all ranks when the fullest has its rows, the experts when the slowest rank is done:
a layer waits for the largest of each, as in the costs of a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from supertile.ir import portable_math
from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts

GAIN = 1e-9
"""Of the time of a layer, what dropping a replica has to gain."""


@dataclass(frozen=True)
class SlotCosts:
    """Seconds of the experts of one layer, those of a rank in one kernel.

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
        """Of layers, where no rank reads for longer, and none has more tokens."""
        slowest: Floats = np.maximum(read, tokens * self.token) + tokens * self.wire
        return slowest


def layer_seconds(
    map: ExpertMap, load: Floats, costs: SlotCosts, tokens: float | None = None
) -> Floats:
    """[L]: what each layer waits for under loads [L, E] in tokens.

    With `tokens`, the loads are proportions of so many tokens a layer, counted once per expert that
    a token chooses.
    """
    held = map.slot_loads(in_tokens(load, tokens))
    starts = rank_starts(map.slots)
    read, sums = (np.add.reduceat(of, starts, axis=1) for of in (costs.read(held), held))
    return costs.seconds(read.max(axis=1), sums.max(axis=1))


def without_costly_replicas(
    map: ExpertMap, load: Floats, costs: SlotCosts, tokens: float | None = None
) -> ExpertMap:
    """The map with replicas idle of the rank that reads longest, as long as a layer gets faster.

    The tokens of a dropped replica go to the expert's others, in the proportion of their shares.
    """
    expert, share = map.expert.copy(), map.share.copy()
    loads = in_tokens(load, tokens)
    for layer in range(map.layers):
        _Layer(map.rank, map.ranks, expert[layer], share[layer], loads[layer], costs).drop()
    return ExpertMap(map.experts, map.slots, expert, share)


def in_tokens(load: Floats, tokens: float | None) -> Floats:
    """The loads [L, E], or with `tokens` so many of them in each layer in the same proportions."""
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
        """Drops the replica of the rank that reads longest after which the layer is fastest."""
        slowest = int(self.read.argmax())
        best, chosen = self._seconds(self.read, self.tokens) * (1 - GAIN), None
        for slot in np.flatnonzero((self.rank == slowest) & (self.expert != IDLE)):
            others = np.flatnonzero(self.expert == self.expert[slot])
            others = others[others != slot]
            if not len(others):
                continue
            slots = np.append(others, slot)
            share = np.append(self._without(others), 0.0)
            read, tokens = self._after(slots, share)
            after = self._seconds(read, tokens)
            if after < best:
                best, chosen = after, (slots, share, read, tokens)
        if chosen is None:
            return False
        slots, share, self.read, self.tokens = chosen
        self.share[slots], self.expert[slots[-1]] = share, IDLE
        return True

    def _seconds(self, read: Floats, tokens: Floats) -> float:
        return float(self.costs.seconds(read.max(), tokens.max()))

    def _tokens(self, slots: Integers, share: Floats) -> Floats:
        expert = self.expert[slots]
        found: Floats = np.where(expert == IDLE, 0.0, self.load[expert]) * share
        return found

    def _after(self, slots: Integers, share: Floats) -> tuple[Floats, Floats]:
        """Seconds of reading and tokens of all ranks [G], with other shares of one expert."""
        new, old = self._tokens(slots, share), self._tokens(slots, self.share[slots])
        ranks = self.rank[slots]
        read, tokens = self.read.copy(), self.tokens.copy()
        read[ranks] += self.costs.read(new) - self.costs.read(old)
        tokens[ranks] += new - old
        return read, tokens

    def _without(self, others: Integers) -> Floats:
        """The shares of the other replicas, where they are all."""
        total = self.share[others].sum()
        if total > 0:
            found: Floats = self.share[others] / total
            return found
        return np.full(len(others), 1 / len(others))
