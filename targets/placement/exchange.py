"""Local search on bins: swaps and moves of items that lower the load of the fullest bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supertile.targets.placement.expert_map import Floats, Integers

GAIN = 1e-10
"""What a step gains at least, of the level."""


@dataclass
class Bins:
    """N items in M bins; the level of a bin is its items' size over its width.

    With `label`, the items of a label stay in different bins.
    """

    size: Floats
    """[N]"""
    bin: Integers
    """[N]: where each item is."""
    width: Floats
    """[M]"""
    capacity: Integers
    """[M]: how many items it takes."""
    label: Integers | None = None

    def __post_init__(self) -> None:
        bins = len(self.width)
        self.load = np.bincount(self.bin, self.size, minlength=bins)
        self.count = np.bincount(self.bin, minlength=bins)
        if self.label is not None:
            self.holds = np.zeros((bins, int(self.label.max()) + 1), bool)
            self.holds[self.bin, self.label] = True

    @property
    def level(self) -> Floats:
        found: Floats = self.load / self.width
        return found

    def lower(self, steps: int, enough: float = 0.0) -> None:
        """Up to `steps` of the best swaps and moves from the fullest bin, to the level `enough`."""
        for _ in range(steps):
            level = self.level
            fullest = int(level.argmax())
            if level[fullest] <= enough or not self._step(fullest, float(level[fullest])):
                return

    def _step(self, fullest: int, level: float) -> bool:
        """Swaps an item of the bin for a smaller one elsewhere, or moves it to a free place."""
        mine = np.flatnonzero(self.bin == fullest)
        if not len(mine):
            return False
        room = np.flatnonzero(self.count < self.capacity)
        other = np.concatenate([self.bin, room])
        size = np.concatenate([self.size, np.zeros(len(room))])
        less = self.size[mine, None] - size
        after = np.maximum(
            (self.load[fullest] - less) / self.width[fullest],
            (self.load[other] + less) / self.width[other],
        )
        after[(less <= 0) | (other == fullest)] = np.inf
        if self.label is not None:
            after[self._twins(fullest, mine, other)] = np.inf
        best = int(after.argmin())
        if not after.flat[best] < level * (1 - GAIN):
            return False
        item, partner = int(mine[best // len(other)]), best % len(other)
        target = int(other[partner])
        self._put(item, target)
        if partner < len(self.bin):
            self._put(partner, fullest)
        return True

    def _twins(self, fullest: int, mine: Integers, other: Integers) -> NDArray[np.bool_]:
        """[mine, other]: whether the exchange brings a label to a bin that has it."""
        assert self.label is not None
        twins = self.holds[other[None, :], self.label[mine][:, None]]
        back = self.holds[fullest, self.label]
        twins[:, : len(back)] |= back
        return twins

    def _put(self, item: int, target: int) -> None:
        source = int(self.bin[item])
        self.load[source] -= self.size[item]
        self.load[target] += self.size[item]
        self.count[source] -= 1
        self.count[target] += 1
        self.bin[item] = target
        if self.label is not None:
            self.holds[source, self.label[item]] = False
            self.holds[target, self.label[item]] = True
