"""Loads of experts as a placement brings them to ranks: what a step waits for in each layer.

A step waits for the rank with most rows, and for the one that reads the weights of most experts;
both are means over the layers. Rows are those of a finite batch: Poisson with the means that
placement and loads give each rank (`largest.py`).

Sizes: L layers, E experts, G ranks, P slots in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from supertile.ir import portable_math
from supertile.targets.cost.largest import expected_largest
from supertile.targets.placement.expert_map import (
    ExpertMap,
    Floats,
    Integers,
    over_mean,
    rank_starts,
)

BALANCED = "taken as balanced: all experts are chosen alike"
"""What a step is costed under where no loads are given."""


@dataclass(frozen=True)
class FullestRank:
    """What the slowest ranks of a step have in a layer of experts, mean over layers."""

    rows: float
    """Of the fullest rank over those of the average one."""
    touched: float
    """Of the slots that a rank can have: how many have a row, on the rank where most have."""


@dataclass(frozen=True, eq=False)
class PlacedLoads:
    """`slots` [L, P]: the loads of slots, in any unit; `counts` [G]: how many slots a rank has."""

    loads: str
    """The file or text of the loads."""
    placement: str
    """Where the experts are, in words: "experts dealt round-robin"."""
    slots: Floats
    counts: Integers

    @staticmethod
    def of(placed: ExpertMap, load: Floats, loads: str, placement: str) -> PlacedLoads:
        """Under the shares of the placement; `load` [L, E]."""
        return PlacedLoads(loads, placement, placed.slot_loads(load), placed.slots)

    @cached_property
    def ranks(self) -> Floats:
        """[L, G]: the loads of ranks over their mean; ones where a layer has none."""
        return over_mean(self._by_rank(self.slots))

    @property
    def text(self) -> str:
        fullest = self.ranks.max(axis=1).mean()
        return f"{self.loads}, {self.placement}: the fullest rank has {fullest:.3f} times the mean"

    def fullest(self, rows: float) -> FullestRank:
        """In a batch that brings each rank so many rows on average."""
        largest, touched = self.by_layer(rows)
        return FullestRank(float(largest.mean()), float(touched.mean()))

    def by_layer(self, rows: float) -> tuple[Floats, Floats]:
        """The same layer by layer, [L] and [L]."""
        largest = np.array([expected_largest(means) for means in self.ranks * rows]) / rows
        return largest, self._touched(rows * largest / self.ranks.max(axis=1))

    def _touched(self, rows: Floats) -> Floats:
        """[L], with `rows` [L] on a rank of the mean load: a slot with the part p of a rank's n
        rows has one with the chance 1 - (1 - p)^n, as in `chance.touched_share`."""
        totals = self._by_rank(self.slots)
        rank = np.repeat(np.arange(len(self.counts)), self.counts)
        total = totals[:, rank]
        part = np.where(total > 0, self.slots / np.where(total > 0, total, 1.0), 0.0)
        missed = portable_math.log1p(-part)
        rows_of_ranks = (self.ranks * rows[:, None])[:, rank]
        touched = np.where(
            part > 0, -portable_math.expm1(np.maximum(missed, -1e3) * rows_of_ranks), 0.0
        )
        share: Floats = self._by_rank(touched).max(axis=1) / self.counts.max()
        return share

    def _by_rank(self, values: Floats) -> Floats:
        """[L, G]: sums over the slots [L, P] of each rank."""
        starts = rank_starts(self.counts)
        found: Floats = np.add.reduceat(values, starts, axis=1)
        return found
