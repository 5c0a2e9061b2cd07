"""Which copy of an expert a choice goes to, for many choices at once: see `ir/placement.py`.

Copies are numbered through: those of expert 0 ascending by rank, then those of expert 1, and on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.placement import IDLE, WHOLE, Placement, sequence_value

Integers = NDArray[np.int64]
Index = NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Copies:
    """The copies of all experts of a layer; C of them."""

    expert: Integers
    """[C]"""
    rank: Integers
    slot: Integers
    first: Integers
    """[E]: the first copy of each expert."""
    count: Integers
    """[E]: how many it has."""
    share: Integers | None
    """[C] in 2^32-ths; None: copies take turns by source."""
    end: Integers | None
    """[C]: 2^32 times the expert, plus the shares of its copies up to this one: ascending."""

    def chosen(self, expert: Index, source: Index, token: Index) -> Integers:
        """The copy that a choice of an expert by a token of a source goes to; all [N]."""
        expert, source = expert.astype(np.int64), source.astype(np.int64)
        found: Integers
        if self.end is None:
            found = self.first[expert] + source % self.count[expert]
            return found
        value = sequence_value(source, token.astype(np.int64))
        found = np.searchsorted(self.end, expert * WHOLE + value, side="right")
        return found


@lru_cache(maxsize=256)
def copies_of(placement: Placement) -> Copies:
    """The copies that a placement has."""
    counts = [len(slots) for slots in placement.slots]
    held = np.fromiter(chain(*placement.slots), np.int64)
    order = np.argsort(held, kind="stable")
    order = order[np.count_nonzero(held == IDLE) :]
    expert = held[order]
    starts = np.cumsum(counts, dtype=np.int64) - np.array(counts)
    rank = np.repeat(np.arange(len(counts)), counts)
    count = np.bincount(expert, minlength=placement.experts)
    share = end = None
    if placement.shares is not None:
        share = np.fromiter(chain(*placement.shares), np.int64)[order]
        # The shares of an expert add up to 2^32, so the sum over those before it needs no step.
        end = np.cumsum(share)
    return Copies(
        expert=expert,
        rank=rank[order],
        slot=(np.arange(len(held)) - starts[rank])[order],
        first=np.cumsum(count) - count,
        count=count,
        share=share,
        end=end,
    )
