"""The sequences of a call in two halves, each with its part of what a window of layers is given.

A half is like a call with fewer sequences: its tokens number them from 0 on. Parts are views, so
that states, and results whose memory is given, are written within the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from supertile.ir.microbatches import MOST, SEQUENCES, TOKENS
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import Argument

SEQUENCE = "sequence"
"""The argument that says for each token which sequence it belongs to, ascending."""


@dataclass(frozen=True)
class Half:
    """A run of sequences, and the run of their tokens."""

    sequences: slice
    tokens: slice

    def part(self, argument: Argument, value: Any) -> Any:
        """The half's part of an argument of a layer: all of it where no axis is split."""
        if argument.name == SEQUENCE:
            return value[self.tokens] - self.sequences.start
        for axis, name in enumerate(argument.axes):
            if name in (TOKENS, SEQUENCES):
                run = self.tokens if name == TOKENS else self.sequences
                return _along(value, (*(slice(None),) * axis, run))
        return value

    def rows(self, value: Any) -> Any:
        """The half's part of what has a row for each token."""
        return _along(value, (self.tokens,))


def halves_of(arguments: Sequence[Argument], values: Sequence[Any]) -> tuple[Half, ...]:
    """Both halves of a call, the second one perhaps without sequences."""
    held = list(zip(arguments, values, strict=False))
    sequence = next(value for one, value in held if one.name == SEQUENCE)
    count = next(
        value.shape[one.axes.index(SEQUENCES)] for one, value in held if SEQUENCES in one.axes
    )
    middle = -(-count // MOST)
    first = int(sequence.searchsorted(middle))
    return (
        Half(slice(0, middle), slice(0, first)),
        Half(slice(middle, count), slice(first, len(sequence))),
    )


def _along(value: Any, where: tuple[slice, ...]) -> Any:
    if isinstance(value, Scaled):
        return replace(value, codes=value.codes[where], scales=value.scales[where])
    return value[where]
