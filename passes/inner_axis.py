"""A second axis along which the rows of a phase fall into independent parts: heads, or channels.

    query [T, 65536] -> reshape [T, 128, 512] -> rms over 512 -> rope:  128 parts of 512 numbers

A row that does not fit on chip is cut along such an axis. Every value of the phase that has the
axis holds `unit` consecutive numbers of it for each part; the others have none of it and are the
same for all parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import MxAttr, type_of
from supertile.passes.tiling import ELEMENTWISE, Phase, Spaces

Cut = tuple[int, int]
"""(axis, numbers of it for each part)."""
Cuts = dict[SSAValue, Cut]
SIDE_LIMIT = 4096
"""Units beyond this leave too few parts to help."""


class _ConflictError(Exception):
    """An op mixes the parts."""


@dataclass(frozen=True)
class InnerAxis:
    """How many parts, and where they are in each value that has them."""

    parts: int
    cuts: Mapping[SSAValue, Cut]


def inner_axis(phase: Phase, stored: Sequence[SSAValue], spaces: Spaces) -> InnerAxis | None:
    """The axis that cuts most of a row, in as many parts as possible; None if rows are whole.

    Each stored value must have it, or several blocks would store the same.
    """
    best: tuple[int, int, InnerAxis] | None = None
    for axis, unit in _candidates(stored[0]):
        parts = shape_of(stored[0])[axis] // unit
        try:
            cuts = _spread(phase, {stored[0]: (axis, unit)}, parts, spaces)
        except _ConflictError:
            continue
        if any(value not in cuts for value in stored):
            continue
        rest = sum(_numbers(value) for value in _values(phase) if value not in cuts)
        if best is None or (rest, -parts) < best[:2]:
            best = rest, -parts, InnerAxis(parts, cuts)
    return None if best is None else best[2]


def _candidates(value: SSAValue) -> Iterator[Cut]:
    for axis, size in enumerate(shape_of(value)[1:], start=1):
        unit = 1
        while size % unit == 0 and unit < size and unit <= SIDE_LIMIT:
            yield axis, unit
            unit *= 2


def _values(phase: Phase) -> list[SSAValue]:
    return list(dict.fromkeys(v for op in phase.ops for v in (*op.operands, *op.results)))


def _numbers(value: SSAValue) -> int:
    return math.prod(shape_of(value)[1:])


def _spread(phase: Phase, cuts: Cuts, parts: int, spaces: Spaces) -> Cuts:
    """The cuts of all values that follow from one, by going over the ops until nothing is new."""
    before = -1
    while len(cuts) != before:
        before = len(cuts)
        for op in (*phase.ops, *reversed(phase.ops)):
            if not any(value in cuts for value in (*op.operands, *op.results)):
                continue
            rule = RULES.get(type(op))
            if rule is None:
                raise _ConflictError
            for value, cut in rule(op, cuts, parts).items():
                _check(value, cut, cuts, parts, spaces, phase)
                cuts[value] = cut
    return cuts


def _check(value: SSAValue, cut: Cut, cuts: Cuts, parts: int, spaces: Spaces, phase: Phase) -> None:
    """A cut must agree with what is known, take part of an axis, and split no scale block."""
    axis, unit = cut
    shape = shape_of(value)
    if cuts.get(value, cut) != cut or shape[axis] != parts * unit:
        raise _ConflictError
    encoding = type_of(value).encoding
    if isinstance(encoding, MxAttr) and axis == len(shape) - 1 and unit % encoding.sizes[-1]:
        raise _ConflictError
    made_here = isinstance(value.owner, Operation) and value.owner in phase.ops
    shared = bool(phase.space) and not spaces.get(value)
    if shared and (made_here or (axis == 0 and len(shape) > 1)):
        raise _ConflictError


# ---- how an op passes the parts on -------------------------------------------------------------

Rule = Callable[[Operation, Cuts, int], Cuts]


def _known(op: Operation, cuts: Cuts) -> tuple[SSAValue, Cut]:
    return next((v, cuts[v]) for v in (*op.operands, *op.results) if v in cuts)


def _aligned(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    """Elementwise: axes align at the end, and an axis of size 1 is the same for all parts."""
    value, (axis, unit) = _known(op, cuts)
    back = len(shape_of(value)) - axis
    found: Cuts = {}
    for other in (*op.operands, *op.results):
        shape = shape_of(other)
        if len(shape) < back or shape[-back] == 1:
            continue
        found[other] = (len(shape) - back, unit)
    if op.results[0] not in found:
        raise _ConflictError
    return found


def _reshape(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    """A part is a stretch of consecutive numbers of a row on both sides."""
    value, (axis, unit) = _known(op, cuts)
    shape = shape_of(value)
    if math.prod(shape[1:axis]) != 1:
        raise _ConflictError
    stretch = unit * math.prod(shape[axis + 1 :])
    other = op.results[0] if value is op.operands[0] else op.operands[0]
    return {value: (axis, unit), other: _cut_of_stretch(shape_of(other), stretch)}


def _cut_of_stretch(shape: Sequence[int], stretch: int) -> Cut:
    for axis in range(1, len(shape)):
        behind = math.prod(shape[axis + 1 :])
        if shape[axis] > 1 or axis == len(shape) - 1:
            if stretch % behind:
                raise _ConflictError
            return axis, stretch // behind
    raise _ConflictError


def _before_last(count: int) -> Rule:
    """Ops that need their last axes whole: operands of the same rank have the same cut."""

    def rule(op: Operation, cuts: Cuts, parts: int) -> Cuts:
        value, (axis, unit) = _known(op, cuts)
        rank = len(shape_of(value))
        if axis >= rank - count:
            raise _ConflictError
        same = [v for v in (*op.operands, *op.results) if len(shape_of(v)) == rank]
        return dict.fromkeys(same, (axis, unit))

    return rule


def _quantize(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    _, cut = _known(op, cuts)
    return {op.operands[0]: cut, op.results[0]: cut}


def _reduce(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    assert isinstance(op, graph.ReduceSum | graph.ReduceMax)
    value, (axis, unit) = _known(op, cuts)
    gone = op.axis.value.data
    if value is op.x:
        if axis == gone:
            raise _ConflictError
        return {op.x: (axis, unit), op.result: (axis - (axis > gone), unit)}
    return {op.x: (axis + (axis >= gone), unit), op.result: (axis, unit)}


def _along_other_axis(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    """Slice, split and concat on another axis than that of the parts."""
    _, (axis, unit) = _known(op, cuts)
    if op.properties["axis"].value.data == axis:  # type: ignore[attr-defined]
        raise _ConflictError
    return dict.fromkeys((*op.operands, *op.results), (axis, unit))


def _repeat(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    assert isinstance(op, graph.Repeat)
    value, (axis, unit) = _known(op, cuts)
    added = op.axis.value.data
    if value is op.x:
        return {op.x: (axis, unit), op.result: (axis + (axis >= added), unit)}
    if axis == added:
        raise _ConflictError
    return {op.x: (axis - (axis > added), unit), op.result: (axis, unit)}


def _transpose(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    assert isinstance(op, graph.Transpose)
    value, (axis, unit) = _known(op, cuts)
    order = list(op.permutation.get_values())
    if value is op.x:
        return {op.x: (axis, unit), op.result: (order.index(axis), unit)}
    return {op.x: (order[axis], unit), op.result: (axis, unit)}


def _einsum(op: Operation, cuts: Cuts, parts: int) -> Cuts:
    """The parts are those of one letter, which the result keeps."""
    assert isinstance(op, graph.Einsum)
    left, result = op.equation.data.split("->")
    terms = [*left.split(","), result]
    values = [*op.inputs, op.result]
    value, (axis, unit) = _known(op, cuts)
    letter = terms[values.index(value)][axis]
    if letter not in result:
        raise _ConflictError
    held = zip(values, terms, strict=True)
    return {v: (term.index(letter), unit) for v, term in held if letter in term}


RULES: dict[type[Operation], Rule] = {
    **dict.fromkeys(ELEMENTWISE, _aligned),
    graph.Reshape: _reshape,
    graph.RmsNorm: _before_last(1),
    graph.Softmax: _before_last(1),
    graph.Rope: _before_last(1),
    graph.Hadamard: _before_last(1),
    graph.TopK: _before_last(1),
    graph.Take: _before_last(1),
    graph.Member: _before_last(1),
    graph.Sinkhorn: _before_last(2),
    graph.Quantize: _quantize,
    graph.ReduceSum: _reduce,
    graph.ReduceMax: _reduce,
    graph.Slice: _along_other_axis,
    graph.Split: _along_other_axis,
    graph.Concat: _along_other_axis,
    graph.Repeat: _repeat,
    graph.Transpose: _transpose,
    graph.Einsum: _einsum,
}
