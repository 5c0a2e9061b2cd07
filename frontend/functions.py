"""The functions of the language on tensors: elementwise, shape, products, norms, formats.

A function takes the evaluator, the values of its positional arguments, those of its keywords and
the place of the call, and returns a value. `builtins.py` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supertile.frontend import equations
from supertile.frontend.arguments import (
    Arguments,
    Keywords,
    floats,
    integers,
    number,
    numbers,
    operand,
    same_axes,
    size,
    sizes,
    tensor,
    whole,
    whole_tensor,
    wrong,
)
from supertile.frontend.dimensions import Size, show
from supertile.frontend.values import (
    FormatValue,
    Number,
    RopeValue,
    TensorValue,
    TupleValue,
    Value,
    sort_of,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.types import RopeAttr

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator

Function = Callable[[Any, Arguments, Keywords, Spot], Value]

# ---- elementwise -------------------------------------------------------------------------------

UNARY: dict[str, type[graph.Unary]] = {
    "neg": graph.Negate,
    "exp": graph.Exp,
    "sqrt": graph.Sqrt,
    "rsqrt": graph.Rsqrt,
    "sigmoid": graph.Sigmoid,
    "softplus": graph.Softplus,
    "silu": graph.Silu,
    "relu": graph.Relu,
    "gelu": graph.Gelu,
    "tanh": graph.Tanh,
}


def unary(e: Evaluator, name: str, value: Value, where: Spot) -> TensorValue:
    if not isinstance(value, TensorValue):
        raise wrong("a tensor", value, where)
    equations.check_plain(value, where)
    op = e.function.emit(UNARY[name], [value.ssa], where)
    return TensorValue(op.results[0], value.axes, value.labels)


def elementwise(name: str) -> Function:
    return lambda e, a, k, where: unary(e, name, a[0], where)


def two(name: str) -> Function:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        left, right = operand(a[0], where), operand(a[1], where)
        if isinstance(left, Number) and isinstance(right, Number):
            raise wrong("a tensor", left, where)
        return equations.binary(e.function, name, left, right, where)

    return function


def clamp(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x = a[0]
    if not isinstance(x, TensorValue):
        raise wrong("a tensor", x, where)
    equations.check_plain(x, where)
    low, high = number(a[1], where, "low"), number(a[2], where, "high")
    op = e.function.emit(graph.Clamp, [x.ssa], where, low=low, high=high)
    return TensorValue(op.results[0], x.axes, x.labels)


def to_format(name: str) -> Function:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        x = a[0]
        if not isinstance(x, TensorValue):
            raise wrong("a tensor", x, where)
        equations.check_plain(x, where)
        return equations.cast(e.function, x, e.model.formats[name], where)

    return function


def where_(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    mask = tensor(a[0], where, "a mask")
    if sort_of(mask) != "mask":
        raise wrong("a mask", mask, where)
    values = [equations.as_tensor(e.function, operand(value, where), where) for value in a[1:]]
    for value in values:
        equations.check_plain(value, where)
    spread, result = equations.align(e.function, [mask, *values], where)
    op = e.function.emit(graph.Select, list(spread), where)
    return TensorValue(op.results[0], result.axes)


# ---- shape -------------------------------------------------------------------------------------


def reshape(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    return equations.reshape(e.function, numbers(e, a[0], where), sizes(a[1], where), where)


def split(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held, widths = numbers(e, a[0], where), sizes(a[1], where)
    axis = whole(k["axis"], where, "axis") if "axis" in k else len(held.axes) - 1
    if axis >= len(held.axes):
        raise UserError("language.index_range", where, index=axis, count=len(held.axes))
    total = Size.of(0)
    for width in widths:
        total = total + width
    if total != held.axes[axis]:
        raise UserError("language.split", where, wanted=held.axes[axis], found=total)
    counts = [e.function.known_size(width, where) for width in widths]
    op = e.function.emit(graph.Split, [held.ssa], where, axis=axis, sizes=counts)
    before, after = held.axes[:axis], held.axes[axis + 1 :]
    parts = zip(op.results, widths, strict=True)
    return TupleValue(tuple(TensorValue(part, (*before, w, *after)) for part, w in parts))


def concat(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    parts = [numbers(e, value, where) for value in a]
    first, *rest = parts
    last = first.axes[-1]
    for part in rest:
        same_axes(first.axes[:-1], part.axes[:-1], where)
        if part.kind.element_type != first.kind.element_type:
            raise wrong(f"the elements of {first}", part, where)
        last = last + part.axes[-1]
    axis = len(first.axes) - 1
    op = e.function.emit(graph.Concat, [[part.ssa for part in parts]], where, axis=axis)
    return TensorValue(op.results[0], (*first.axes[:-1], last))


def repeat(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held, count = floats(a[0], where), size(a[1], where)
    copies = e.function.known_size(count, where)
    op = e.function.emit(graph.Repeat, [held.ssa], where, axis=1, count=copies)
    return TensorValue(op.results[0], (held.axes[0], count, *held.axes[1:]))


def gather(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    table, ids = numbers(e, a[0], where), integers(a[1], where)
    op = e.function.emit(graph.Gather, [table.ssa, ids.ssa], where)
    picked = TensorValue(op.results[0], (*ids.axes, *table.axes[1:]))
    if sort_of(picked) != "float":
        return picked
    # A narrow table gives activations, which the reference keeps in float32.
    return equations.cast(e.function, picked, FormatValue("", picked.kind.element_type), where)


def take(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held, chosen = numbers(e, a[0], where), integers(a[1], where)
    same_axes(held.axes[:-1], chosen.axes[:-1], where)
    op = e.function.emit(graph.Take, [held.ssa, chosen.ssa], where)
    return TensorValue(op.results[0], chosen.axes)


def member(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    chosen, items = integers(a[0], where), size(a[1], where)
    count = e.function.known_size(items, where)
    op = e.function.emit(graph.Member, [chosen.ssa], where, size=count)
    return TensorValue(op.results[0], (*chosen.axes[:-1], items))


# ---- products, norms, positions ----------------------------------------------------------------


def linear(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, w = floats(a[0], where), whole_tensor(a[1], where, "a weight of two axes")
    if len(w.axes) != 2 + w.stacked or sort_of(w) not in ("float", "scaled"):
        raise wrong("a weight of two axes", w, where)
    if x.axes[-1] != w.axes[-1]:
        raise UserError("language.linear", where, x=show(x.axes), w=show(w.axes))
    held, element = x.ssa, None
    if w.format is not None and w.format.inputs is not None and not e.function.reference:
        held = e.model.quantize(e.function, x, w.format.inputs, where)
        element = w.format.result
    axes = (*x.axes[:-1], w.axes[-2])
    if not w.stacked:
        op = e.function.emit(graph.Linear, [held, w.ssa], where, element=element)
        return TensorValue(op.results[0], axes)
    assert e.experts is not None  # stacked weights are declared inside experts only
    if x.axes[:-1] != (e.experts.rows,):
        raise wrong(f"the rows of the experts, {show([e.experts.rows, x.axes[-1]])}", x, where)
    groups = [held, w.ssa, e.experts.counts.ssa]
    op = e.function.emit(graph.GroupedLinear, list(groups), where, element=element)
    return TensorValue(op.results[0], axes)


def rms_norm(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, gain = floats(a[0], where), floats(a[1], where)
    if gain.axes != x.axes[-1:]:
        raise UserError("language.linear", where, x=show(x.axes), w=show(gain.axes))
    eps = number(a[2], where, "eps")
    op = e.function.emit(graph.RmsNorm, [x.ssa, [gain.ssa]], where, eps=eps)
    return TensorValue(op.results[0], x.axes)


def rms_scale(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, eps = floats(a[0], where), number(a[1], where, "eps")
    op = e.function.emit(graph.RmsNorm, [x.ssa, []], where, eps=eps)
    return TensorValue(op.results[0], x.axes)


def softmax(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x = floats(a[0], where)
    op = e.function.emit(graph.Softmax, [x.ssa], where)
    return TensorValue(op.results[0], x.axes)


def sinkhorn(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x = floats(a[0], where)
    if len(x.axes) < 2 or x.axes[-1] != x.axes[-2]:
        raise wrong("a square matrix for each row", x, where)
    steps, eps = whole(a[1], where, "iterations", least=1), number(a[2], where, "eps")
    op = e.function.emit(graph.Sinkhorn, [x.ssa], where, iterations=steps, eps=eps)
    return TensorValue(op.results[0], x.axes)


def turn(inverse: bool) -> Function:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        x, position = floats(a[0], where), integers(a[1], where)
        if not isinstance(a[2], RopeValue):
            raise wrong("a rope", a[2], where)
        same_axes(x.axes[:1], position.axes, where)
        rope = RopeAttr.of(**vars(a[2].rope))
        if len(x.axes) < 2 or e.function.known_size(x.axes[-1], where) < rope.dims:
            raise UserError("language.rope", where, dims=rope.dims, found=show(x.axes))
        flag = True if inverse else None
        op = e.function.emit(graph.Rope, [x.ssa, position.ssa], where, rope=rope, inverse=flag)
        return TensorValue(op.results[0], x.axes)

    return function


def round_trip(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, to = floats(a[0], where), a[1]
    if not isinstance(to, FormatValue) or to.block is None:
        raise wrong("a scaled format", to, where)
    channels = e.function.known_size(x.axes[-1], where)
    if to.after == "hadamard" and channels & (channels - 1):
        raise UserError("language.hadamard", where, found=show(x.axes))
    if e.function.reference:
        return x
    if to.after == "hadamard":
        op = e.function.emit(graph.Hadamard, [x.ssa], where, element=x.kind.element_type)
        x = TensorValue(op.results[0], x.axes)
    codes = e.model.quantize(e.function, x, to, where)
    op = e.function.emit(graph.Dequantize, [codes], where, element=x.kind.element_type)
    return TensorValue(op.results[0], x.axes)
