"""Elementwise arithmetic, broadcasting by size name, and index equations.

    y = a * b                                    axes that have the same size name line up
    x[t, d] = sum(n: p[t, n] * X[t, n, d])       axes that have the same index line up
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import FunctionBuilder
from supertile.frontend.values import FormatValue, Number, TensorValue, describe
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.shapes import NEXT_RUN_TIME_SIZE
from supertile.ir.types import DYNAMIC

PER_SEQUENCE = "@"  # label prefix of an axis B that an index over T reads by the token's sequence

BINARY: dict[str, type[graph.Binary]] = {
    "+": graph.Add,
    "-": graph.Subtract,
    "*": graph.Multiply,
    "/": graph.Divide,
    "min": graph.Minimum,
    "max": graph.Maximum,
}

Operand = Number | TensorValue


def binary(
    function: FunctionBuilder, symbol: str, a: Operand, b: Operand, where: Spot
) -> TensorValue:
    """`a symbol b` for at least one tensor."""
    for operand in (a, b):
        if isinstance(operand, TensorValue):
            check_plain(operand, where)
    x, y = as_tensor(function, a, where), as_tensor(function, b, where)
    left, right, result = align(function, x, y, where)
    op = function.emit(BINARY[symbol], [left, right], where)
    return TensorValue(op.results[0], result.axes, result.labels)


def check_plain(value: TensorValue, where: Spot) -> None:
    """Arithmetic takes float tensors without scales and without an expert axis."""
    if value.stacked:
        raise UserError("language.stacked", where, found=describe(value))
    if value.is_scaled or not value.is_float:
        raise UserError("language.arithmetic", where, found=describe(value))


def as_tensor(function: FunctionBuilder, value: Operand, where: Spot) -> TensorValue:
    if isinstance(value, TensorValue):
        return value
    return TensorValue(function.constant(float(value.value), where), ())


def align(
    function: FunctionBuilder, a: TensorValue, b: TensorValue, where: Spot
) -> tuple[SSAValue, SSAValue, TensorValue]:
    """Bring two tensors to shapes that broadcast; returns both values and the result's axes."""
    if a.axes and b.axes and (a.labels is None) != (b.labels is None):
        raise UserError("language.mixed_indices", where, a=describe(a), b=describe(b))
    for value in (a, b):
        if value.labels and any(label.startswith(PER_SEQUENCE) for label in value.labels):
            raise UserError("language.per_sequence", where, found=describe(value))
    if not a.axes or not b.axes:
        return a.ssa, b.ssa, a if a.axes else b
    keys = [value.labels or tuple(str(axis) for axis in value.axes) for value in (a, b)]
    order = _merged(keys[0], keys[1], ordered=a.labels is None)
    if order is None:
        raise UserError("language.broadcast", where, a=show(a.axes), b=show(b.axes))
    sizes = dict(zip(keys[0], a.axes, strict=True)) | dict(zip(keys[1], b.axes, strict=True))
    axes = tuple(sizes[key] for key in order)
    labels = tuple(order) if a.labels is not None else None
    spread = [
        _spread(function, value, held, order, where)
        for value, held in zip((a, b), keys, strict=True)
    ]
    return spread[0], spread[1], TensorValue(a.ssa, axes, labels)


def _merged(a: Sequence[str], b: Sequence[str], ordered: bool) -> list[str] | None:
    """The axes of the result; for unlabelled tensors one must contain the other, in order."""
    if tuple(a) == tuple(b):
        return list(a)
    if not ordered:
        first, second = (b, a) if set(a) < set(b) else (a, b)
        return [*first, *(key for key in second if key not in first)]
    long, short = (list(a), list(b)) if len(a) >= len(b) else (list(b), list(a))
    if len(set(long)) < len(long) and any(long.count(key) > 1 for key in short):
        return None
    rest = iter(long)
    return long if all(key in rest for key in short) else None


def _spread(
    function: FunctionBuilder,
    value: TensorValue,
    keys: Sequence[str],
    order: list[str],
    where: Spot,
) -> SSAValue:
    """Transpose to the order of the result and put axes of size 1 where others have more."""
    if tuple(keys) == tuple(order) or tuple(keys) == tuple(order[-len(keys) :]):
        return value.ssa
    ranked = sorted(range(len(keys)), key=lambda i: order.index(keys[i]))
    value = transpose(function, value, ranked, where)
    present = set(keys)
    sizes = iter(value.axes)
    axes = [next(sizes) if key in present else Size.of(1) for key in order]
    first = next(i for i, key in enumerate(order) if key in present)
    return reshape(function, value, axes[first:], where).ssa


def transpose(
    function: FunctionBuilder, value: TensorValue, permutation: Sequence[int], where: Spot
) -> TensorValue:
    """Axes in another order; nothing when it is the same."""
    if list(permutation) == list(range(len(value.axes))):
        return value
    op = function.emit(graph.Transpose, [value.ssa], where, permutation=list(permutation))
    labels = tuple(value.labels[i] for i in permutation) if value.labels else None
    return TensorValue(op.results[0], tuple(value.axes[i] for i in permutation), labels)


def reshape(
    function: FunctionBuilder, value: TensorValue, axes: Sequence[Size], where: Spot
) -> TensorValue:
    """The same elements under other axes; their number is checked as an expression."""
    if tuple(axes) == value.axes:
        return value
    total = [_product(sizes) for sizes in (value.axes, axes)]
    if total[0] != total[1]:
        raise UserError("language.reshape", where, found=show(value.axes), wanted=show(tuple(axes)))
    sizes = [function.size(axis, where) for axis in axes]
    shape = [NEXT_RUN_TIME_SIZE if size == DYNAMIC else size for size in sizes]
    op = function.emit(graph.Reshape, [value.ssa], where, shape=shape)
    return TensorValue(op.results[0], tuple(axes))


def _product(axes: Sequence[Size]) -> Size:
    result = Size.of(1)
    for axis in axes:
        result = result * axis
    return result


# ---- sums of products --------------------------------------------------------------------------


def contract(
    function: FunctionBuilder,
    factors: list[TensorValue],
    summed: Sequence[str],
    where: Spot,
) -> TensorValue:
    """The sum over `summed` of the product of labelled factors, as one einsum or reduction."""
    held = [label for factor in factors for label in factor.labels or ()]
    for label in summed:
        if label not in held:
            raise UserError("language.sum_index", where, name=label)
    if len(factors) == 1 and PER_SEQUENCE not in "".join(held):
        return _reduce(function, factors[0], summed, where)
    kept = [
        label
        for label in dict.fromkeys(held)
        if label not in summed and not label.startswith(PER_SEQUENCE)
    ]
    return _einsum(function, factors, kept, where)


def _reduce(
    function: FunctionBuilder, value: TensorValue, summed: Sequence[str], where: Spot
) -> TensorValue:
    check_plain(value, where)
    for label in summed:
        assert value.labels is not None
        axis = value.labels.index(label)
        op = function.emit(graph.ReduceSum, [value.ssa], where, axis=axis)
        axes = value.axes[:axis] + value.axes[axis + 1 :]
        labels = value.labels[:axis] + value.labels[axis + 1 :]
        value = TensorValue(op.results[0], axes, labels)
    return value


def _einsum(
    function: FunctionBuilder, factors: list[TensorValue], kept: list[str], where: Spot
) -> TensorValue:
    sizes: dict[str, Size] = {}
    for factor in factors:
        if factor.stacked or not (factor.is_float or factor.is_scaled):
            raise UserError("language.arithmetic", where, found=describe(factor))
        sizes.update(zip(factor.labels or (), factor.axes, strict=True))
    letters: dict[str, str] = {}
    for label in dict.fromkeys(label for factor in factors for label in factor.labels or ()):
        letters[label] = "b" if label.startswith(PER_SEQUENCE) else _free_letter(label, letters)
    terms = ["".join(letters[label] for label in factor.labels or ()) for factor in factors]
    equation = ",".join(terms) + "->" + "".join(letters[label] for label in kept)
    sequence = [function.sequence.ssa] if "b" in letters.values() else []
    _check_sequence_axis(letters, kept, sizes, where)
    inputs = [factor.ssa for factor in factors]
    op = function.emit(graph.Einsum, [inputs, sequence], where, equation=equation)
    return TensorValue(op.results[0], tuple(sizes[label] for label in kept), tuple(kept))


def _check_sequence_axis(
    letters: dict[str, str], kept: list[str], sizes: dict[str, Size], where: Spot
) -> None:
    """An axis B is read by the token of the result, so that token must be in the result, first."""
    for label in letters:
        token = label.removeprefix(PER_SEQUENCE)
        if label != token and kept[:1] != [token]:
            raise UserError("language.sequence_index", where, name=token)


def _free_letter(label: str, taken: dict[str, str]) -> str:
    """A letter for an index: its own where possible; `b` is the sequence axis."""
    alphabet = "acdefghijklmnopqrstuvwxyz"
    own = label.lower()[:1]
    candidates = [own, *alphabet] if own in alphabet else [*alphabet]
    return next(letter for letter in candidates if letter not in taken.values())


def cast(function: FunctionBuilder, value: TensorValue, to: FormatValue, where: Spot) -> TensorValue:
    """Round to a plain format; the reference keeps float32."""
    element = function.element(to.element)
    if value.kind.element_type == element:
        return value
    op = function.emit(graph.Cast, [value.ssa], where, element=element)
    return TensorValue(op.results[0], value.axes, value.labels)
