"""The sizes of the tiles of one phase, as they stand in the attribute `supertile.tiles`."""

from __future__ import annotations

from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class PhaseSizes:
    """Sizes of a block. Those that a phase does not use are 1."""

    rows: int = 1
    """Rows of the row space: tokens, windows, rows of experts."""
    columns: int = 1
    """Of a product: columns of the result; of scores and attention: entries of a state at once."""
    depth: int = 1
    """Of a product: how much of the summed axis at once."""
    heads: int = 1
    """Of attention: heads of a block. Of rows: see `inner_axis`, elements of the axis cut."""

    def numbers(self) -> tuple[int, ...]:
        return astuple(self)


SIZES = "supertile.tiles"
"""Attribute of a function: the numbers of each phase of each unit, in order."""
