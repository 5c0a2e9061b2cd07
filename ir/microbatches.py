"""What splits where the sequences of a call go through layers in two micro-batches.

Sequences are split into contiguous halves, the first one with one more where their number is odd.
What has a row for each token gives each half the rows of its tokens; what has an axis of sequences
the part of its sequences; all else both halves get whole. Names of axes say which is which.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from supertile.ir.arguments import axes_of
from supertile.ir.types import DYNAMIC

TOKENS, SEQUENCES = "T", "B"
MOST = 2
"""Micro-batches of a call."""


def split_problem(
    microbatches: int,
    carried: int,
    types: Sequence[Attribute],
    attributes: Sequence[Attribute],
) -> str | None:
    """Why layers cannot run in so many micro-batches; None if they can.

    `types` and `attributes` are those of all arguments of a layer, what is carried first.
    """
    if not 1 <= microbatches <= MOST:
        return f"layers run in 1 or {MOST} micro-batches, not {microbatches}"
    if microbatches == 1:
        return None
    for number, (kind, held) in enumerate(zip(types, attributes, strict=True)):
        axes = axes_of(held)
        if number < carried and axes[:1] != (TOKENS,):
            return "in micro-batches each value that layers carry has a row for each token"
        sizes = kind.get_shape() if isinstance(kind, TensorType) else ()
        for name, size in zip(axes, sizes, strict=False):
            if name in (TOKENS, SEQUENCES) and size != DYNAMIC:
                return f"micro-batches need a number {name} that is known at run time, not {size}"
    return None
