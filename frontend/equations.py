"""Elementwise arithmetic, broadcasting by size name, and sums of products.

y = a * b                                    axes that have the same size name line up
x[t, d] = sum(n: p[t, n] * X[t, n, d])       axes that have the same index line up
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

from xdsl.ir import SSAValue

from supertile.frontend.dimensions import Size, product, show
from supertile.frontend.function_builder import FunctionBuilder
from supertile.frontend.values import FormatValue, Number, TensorValue, describe
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.shapes import NEXT_RUN_TIME_SIZE
from supertile.ir.types import DYNAMIC

PER_SEQUENCE = "@"  # label prefix of an axis B that an index over T reads by the token's sequence
SEQUENCE_LETTER = "b"  # of that axis in an einsum

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
    tensors = [as_tensor(function, operand, where) for operand in (a, b)]
    for held in tensors:
        check_plain(held, where)
    values, result = align(function, tensors, where)
    op = function.emit(BINARY[symbol], list(values), where)
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


# ---- broadcasting ------------------------------------------------------------------------------


def align(
    function: FunctionBuilder, values: Sequence[TensorValue], where: Spot
) -> tuple[list[SSAValue], TensorValue]:
    """Bring tensors to shapes that broadcast; also the axes and labels that the result has."""
    tensors = [value for value in values if value.axes]
    if not tensors:
        return [value.ssa for value in values], values[0]
    result = tensors[0]
    for value in tensors:
        _check_labels(result, value, where)
        result = _joined(result, value, where)
    spread = [_spread(function, value, result, where) for value in values]
    return spread, result


def _check_labels(a: TensorValue, b: TensorValue, where: Spot) -> None:
    if (a.labels is None) != (b.labels is None):
        raise UserError("language.mixed_indices", where, a=describe(a), b=describe(b))
    if any(label.startswith(PER_SEQUENCE) for label in b.labels or ()):
        raise UserError("language.per_sequence", where, found=describe(b))


def _keys(value: TensorValue) -> tuple[str, ...]:
    """What axes line up by: indices, or sizes where there are none."""
    return value.labels or tuple(str(axis) for axis in value.axes)


def _joined(a: TensorValue, b: TensorValue, where: Spot) -> TensorValue:
    """The axes of what a and b give together; its value is of no meaning."""
    first, second = _keys(a), _keys(b)
    order = _merged(first, second, ordered=a.labels is None)
    if order is None:
        raise UserError("language.broadcast", where, a=show(a.axes), b=show(b.axes))
    sizes = dict(zip(first, a.axes, strict=True)) | dict(zip(second, b.axes, strict=True))
    axes = tuple(sizes[key] for key in order)
    return TensorValue(a.ssa, axes, None if a.labels is None else tuple(order))


def _merged(a: Sequence[str], b: Sequence[str], ordered: bool) -> list[str] | None:
    """The axes of the result; for unlabelled tensors one must contain the other, in order."""
    if tuple(a) == tuple(b):
        return list(a)
    if not ordered:
        first, second = (b, a) if set(a) < set(b) else (a, b)
        return [*first, *(key for key in second if key not in first)]
    long, short = (list(a), list(b)) if len(a) >= len(b) else (list(b), list(a))
    if any(long.count(key) > 1 for key in short):
        return None
    rest = iter(long)
    return long if all(key in rest for key in short) else None


def _spread(
    function: FunctionBuilder, value: TensorValue, result: TensorValue, where: Spot
) -> SSAValue:
    """Transpose to the order of the result and put axes of size 1 where others have more."""
    keys, order = _keys(value), _keys(result)
    if not keys or keys == order[-len(keys) :]:
        return value.ssa
    ranked = sorted(range(len(keys)), key=lambda i: order.index(keys[i]))
    value = transpose(function, value, ranked, where)
    sizes = iter(value.axes)
    axes = [next(sizes) if key in keys else Size.of(1) for key in order]
    first = next(i for i, key in enumerate(order) if key in keys)
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
    if product(value.axes) != product(axes):
        raise UserError("language.reshape", where, found=show(value.axes), wanted=show(axes))
    sizes = [function.size(axis, where) for axis in axes]
    before = [axis for axis in value.axes if function.size(axis, where) == DYNAMIC]
    after = [axis for axis, size in zip(axes, sizes, strict=True) if size == DYNAMIC]
    if before != after:
        raise UserError("language.reshape_run_time", where, wanted=show(before), found=show(after))
    shape = [NEXT_RUN_TIME_SIZE if size == DYNAMIC else size for size in sizes]
    op = function.emit(graph.Reshape, [value.ssa], where, shape=shape)
    return TensorValue(op.results[0], tuple(axes))


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
    tokens = [label.removeprefix(PER_SEQUENCE) for label in held if label.startswith(PER_SEQUENCE)]
    if len(factors) == 1 and not tokens:
        return _reduce(function, factors[0], summed, where)
    plain = [label for label in held if not label.startswith(PER_SEQUENCE)]
    # A token that reads its sequence comes first in the result, as the einsum op has it.
    kept = [label for label in dict.fromkeys([*tokens, *plain]) if label not in summed]
    for token in tokens:
        if kept[0] != token or token not in plain:
            raise UserError("language.sequence_index", where, name=token)
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
        value = TensorValue(op.results[0], axes, labels or None)
    return value


def _einsum(
    function: FunctionBuilder, factors: list[TensorValue], kept: list[str], where: Spot
) -> TensorValue:
    sizes: dict[str, Size] = {}
    letters: dict[str, str] = {}
    for factor in factors:
        if factor.stacked or not (factor.is_float or factor.is_scaled):
            raise UserError("language.arithmetic", where, found=describe(factor))
        sizes.update(zip(factor.labels or (), factor.axes, strict=True))
        for label in factor.labels or ():
            letters[label] = letters.get(label) or _free_letter(label, letters, where)
    terms = ["".join(letters[label] for label in factor.labels or ()) for factor in factors]
    equation = ",".join(terms) + "->" + "".join(letters[label] for label in kept)
    sequence = [function.sequence.ssa] if SEQUENCE_LETTER in letters.values() else []
    inputs = [factor.ssa for factor in factors]
    op = function.emit(graph.Einsum, [inputs, sequence], where, equation=equation)
    return TensorValue(op.results[0], tuple(sizes[label] for label in kept), tuple(kept) or None)


def _free_letter(label: str, taken: dict[str, str], where: Spot) -> str:
    """A letter for an index: its own where possible."""
    if label.startswith(PER_SEQUENCE):
        return SEQUENCE_LETTER
    free = [c for c in ascii_lowercase if c != SEQUENCE_LETTER and c not in taken.values()]
    if not free:
        raise UserError("language.index_limit", where, limit=len(ascii_lowercase) - 1)
    own = label.lower()[0]
    return own if own in free else free[0]


def cast(
    function: FunctionBuilder, value: TensorValue, to: FormatValue, where: Spot
) -> TensorValue:
    """Round to a plain format; the reference keeps float32."""
    element = function.element(to.element)
    if value.kind.element_type == element:
        return value
    op = function.emit(graph.Cast, [value.ssa], where, element=element)
    return TensorValue(op.results[0], value.axes, value.labels)
