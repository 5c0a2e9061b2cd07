"""The best shares of one layer and batch by maximum flows: exact but for rounding to integers.

Discrete Newton: a flow tells whether the loads fit on ranks of capacity T. If not, its smallest cut
is a set of experts A with w(A) > T * |N(A)|, and w(A) / |N(A)| is the next T. It ends after few
flows, as each cut has fewer ranks than the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import Floats, Integers

UNITS = 2**30
"""Of the load of a batch: flows are in 32-bit integers."""


@dataclass(frozen=True)
class Solution:
    """As in `Resplit`, of one layer and scenario."""

    share: Floats
    upper: float
    lower: float
    tight: np.ndarray


@dataclass(frozen=True)
class ReplicaFlow:
    """Source -> experts -> ranks -> sink; `expert` [P] may hold an expert twice on a rank."""

    experts: int
    ranks: int
    expert: Integers
    rank: Integers

    @cached_property
    def _edges(self) -> tuple[Integers, Integers]:
        """(row, column) of all edges: from the source, replicas, to the sink; each once."""
        held = self.expert != IDLE
        pair = np.unique(self.expert[held] * self.ranks + self.rank[held])
        expert, rank = np.divmod(pair, self.ranks)
        experts, ranks = np.arange(self.experts), np.arange(self.ranks) + self.experts
        row = np.concatenate([np.zeros(self.experts), 1 + expert, 1 + ranks])
        sink = np.full(self.ranks, 1 + self.experts + self.ranks)
        column = np.concatenate([1 + experts, 1 + self.experts + rank, sink])
        return row.astype(np.int64), column.astype(np.int64)

    def solve(self, load: Floats, start: float, tight: np.ndarray) -> Solution:
        """Of the loads [E], from the bound `start` of the experts `tight` (or the mean load)."""
        total = float(load.sum())
        if total == 0:
            return Solution(self._shares(None), 0.0, 0.0, tight)
        units = np.floor(load * (UNITS / total)).astype(np.int64)
        lower, capacity = start, int(np.ceil(start * (UNITS / total)))
        while True:
            flow, reached = self._flow(units, capacity)
            if reached is None:
                break
            experts, covered = reached
            bound = float(load[experts].sum()) / covered
            if bound > lower:
                lower, tight = bound, np.isin(np.arange(self.experts), experts)
            # Rounding may leave the cut no better: then as much more as all of it can make.
            capacity = max(int(np.ceil(bound * (UNITS / total))), capacity + 1)
        share = self._shares(flow)
        ranked = np.bincount(self.rank, load[np.maximum(self.expert, 0)] * share, self.ranks)
        return Solution(share, float(ranked.max()), lower, tight)

    def _flow(self, units: Integers, capacity: int) -> tuple[Floats, tuple[Integers, int] | None]:
        """(flow of each replica edge, cut): the cut's experts and its number of ranks, None where
        all loads fit."""
        from scipy.sparse import csr_matrix
        from scipy.sparse.csgraph import breadth_first_order, maximum_flow

        row, column = self._edges
        size = self.experts + self.ranks + 2
        middle = units[row[self.experts : -self.ranks] - 1]
        limits = np.concatenate([units, middle, np.full(self.ranks, min(capacity, UNITS))])
        graph = csr_matrix((limits.astype(np.int32), (row, column)), shape=(size, size))
        found = maximum_flow(graph, 0, size - 1)
        flow = np.asarray(found.flow[row, column]).ravel()[self.experts : -self.ranks]
        if found.flow_value == units.sum():
            return flow, None
        left = graph - found.flow
        left.eliminate_zeros()
        reached = breadth_first_order(left, 0, return_predecessors=False)
        experts = reached[(reached > 0) & (reached <= self.experts)] - 1
        ranks = int(((reached > self.experts) & (reached < size - 1)).sum())
        return flow, (experts, ranks)

    def _shares(self, flow: Floats | None) -> Floats:
        """Of each slot; an expert without flow has equal shares, a second slot on a rank none."""
        row = self._edges[0][self.experts : -self.ranks]
        expert = row - 1
        flow = np.zeros(len(row)) if flow is None else flow.astype(np.float64)
        total = np.bincount(expert, flow, self.experts)[expert]
        counts = np.bincount(expert, minlength=self.experts)[expert]
        part = np.where(total > 0, flow / np.where(total > 0, total, 1.0), 1.0 / counts)
        keys, first = np.unique(
            np.where(self.expert == IDLE, -1, self.expert * self.ranks + self.rank),
            return_index=True,
        )
        first = first[keys >= 0]
        share = np.zeros(len(self.expert))
        share[first] = part
        return share
