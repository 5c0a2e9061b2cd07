"""How many bytes of on-chip memory the values of a phase of rows take while it runs."""

from __future__ import annotations

import math
from collections.abc import Mapping

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import ELEMENT_BITS, MxAttr, type_of
from supertile.passes.tiling import ELEMENTWISE, Phase, Spaces

NOTHING: Mapping[SSAValue, float] = {}


def row_bytes(
    phase: Phase, spaces: Spaces, share: Mapping[SSAValue, float] = NOTHING
) -> tuple[int, int]:
    """(bytes for each row, bytes whatever the rows) of the values that live at once.

    `share` is how much of a value a block has of each row, where that is not all.

    A value lives from its load or its op to its last use. An elementwise op may write over
    one operand that ends with it and is no smaller, and a reshape is the same value.
    """
    origins = {value: _origin(value) for op in phase.ops for value in (*op.operands, *op.results)}
    last = {origins[value]: number for number, op in enumerate(phase.ops) for value in op.operands}
    made = {origins[value] for op in phase.ops for value in op.results}
    live: dict[SSAValue, int] = {}
    fixed: dict[SSAValue, int] = {}
    peak = 0
    for number, op in enumerate(phase.ops):
        _load(op, phase, spaces, origins, live, fixed, share)
        dying = [v for v in dict.fromkeys(origins[x] for x in op.operands) if last[v] == number]
        before = sum(live.values())
        largest = max((live.get(v, 0) for v in dying), default=0)
        for result in op.results:
            live[origins[result]] = _part(result, share)
        taken = sum(live.values())
        made_bytes = _part(op.results[0], share)
        if type(op) in ELEMENTWISE and made_bytes <= largest:
            taken -= made_bytes
        peak = max(peak, before, taken)
        for value in dying:
            if value in made or value in live:
                live.pop(value, None)
    return peak, sum(fixed.values())


def _load(
    op: Operation,
    phase: Phase,
    spaces: Spaces,
    origins: dict[SSAValue, SSAValue],
    live: dict[SSAValue, int],
    fixed: dict[SSAValue, int],
    share: Mapping[SSAValue, float],
) -> None:
    """Operands that are not there yet are loaded now; tables are read row by row."""
    for value in op.operands:
        held = origins[value]
        if isinstance(op, graph.Gather) and value is op.table:
            continue
        if phase.space and not spaces.get(held):
            fixed[held] = math.ceil(value_bytes(value, rows=False) * share.get(value, 1))
        elif held not in live:
            live[held] = _part(value, share)


def _part(value: SSAValue, share: Mapping[SSAValue, float]) -> int:
    return math.ceil(value_bytes(value) * share.get(value, 1))


def _origin(value: SSAValue) -> SSAValue:
    """The value whose bytes these are."""
    owner = value.owner
    return _origin(owner.x) if isinstance(owner, graph.Reshape) else value


def value_bytes(value: SSAValue, rows: bool = True) -> int:
    """Bytes of a value, or of one of its rows, in the format that its type declares."""
    kind, shape = type_of(value), shape_of(value)
    sizes = shape[1:] if rows else shape
    bits: float = ELEMENT_BITS[kind.element_type]
    if isinstance(kind.encoding, MxAttr):
        bits += ELEMENT_BITS[kind.encoding.scale] / math.prod(kind.encoding.sizes)
    return math.ceil(math.prod(sizes) * bits / 8)
