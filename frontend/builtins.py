"""The functions of the language. Each says in one line what it gives; `docs/language.md` lists them.

A function takes the evaluator, the values of its positional arguments, those of its keywords and
the place of the call, and returns a value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supertile.frontend import equations, syntax
from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import SEQUENCES, TOKENS
from supertile.frontend.values import (
    FormatValue,
    NothingValue,
    Number,
    PartValue,
    RopeValue,
    SizeValue,
    StateValue,
    TensorValue,
    TupleValue,
    Value,
    describe,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import ELEMENT_NAMES, RopeAttr, StateAttr, f32, is_float

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator

Arguments = list[Value]
Keywords = dict[str, Value]


@dataclass(frozen=True)
class Builtin:
    """`signature` names the positional arguments; those after `least` may be left out."""

    function: Callable[[Any, Arguments, Keywords, Spot], Value]
    signature: tuple[str, ...]
    meaning: str
    least: int | None = None
    keywords: tuple[str, ...] = ()
    many: bool = False  # the last positional argument may repeat

    @property
    def minimum(self) -> int:
        return len(self.signature) if self.least is None else self.least

    @property
    def usage(self) -> str:
        names = list(self.signature)
        shown = names[: self.minimum] + [f"{name}?" for name in names[self.minimum :]]
        return ", ".join(shown + (["..."] if self.many else []) + [f"{k} = " for k in self.keywords])


def call(evaluator: Evaluator, callee: syntax.Name, expression: syntax.Call) -> Value:
    """Call a builtin by name."""
    builtin = BUILTINS.get(callee.name)
    if builtin is None:
        known = [*BUILTINS, *evaluator.scope.names, *evaluator.model.program.blocks]
        hint = nearest(callee.name, known)
        raise UserError("language.unknown_name", callee.where, name=callee.name, hint=hint)
    positional = [a for a in expression.arguments if not isinstance(a, syntax.Keyword)]
    keywords = [a for a in expression.arguments if isinstance(a, syntax.Keyword)]
    check_usage(callee, builtin, len(positional), keywords)
    arguments = [evaluator.evaluate(argument) for argument in positional]
    named = {keyword.name: evaluator.evaluate(keyword.value) for keyword in keywords}
    return builtin.function(evaluator, arguments, named, expression.where)


def check_usage(
    callee: syntax.Name, builtin: Builtin, count: int, keywords: Sequence[syntax.Keyword]
) -> None:
    """Number of arguments and names of keywords."""
    most = None if builtin.many else len(builtin.signature)
    if count < builtin.minimum or (most is not None and count > most):
        raise UserError(
            "language.argument_count",
            callee.where,
            name=callee.name,
            wanted=builtin.usage,
            count=count,
        )
    for keyword in keywords:
        if keyword.name not in builtin.keywords:
            raise UserError(
                "language.keyword",
                keyword.where,
                name=callee.name,
                keyword=keyword.name,
                wanted=", ".join(builtin.keywords) or "no keywords",
            )


# ---- taking arguments --------------------------------------------------------------------------


def wrong(wanted: str, value: Value, where: Spot) -> UserError:
    return UserError("language.value_kind", where, wanted=wanted, found=describe(value))


def tensor(value: Value, where: Spot, what: str = "a tensor") -> TensorValue:
    """A tensor without indices."""
    if not isinstance(value, TensorValue):
        raise wrong(what, value, where)
    if value.labels:
        raise UserError("language.whole_tensor", where, found=describe(value))
    return value


def floats(value: Value, where: Spot) -> TensorValue:
    held = tensor(value, where, "a float tensor")
    equations.check_plain(held, where)
    return held


def integers(value: Value, where: Spot) -> TensorValue:
    held = tensor(value, where, "an integer tensor")
    if not held.is_integer:
        raise wrong("an integer tensor", value, where)
    return held


def whole(value: Value, where: Spot, what: str) -> int:
    if not isinstance(value, Number) or not isinstance(value.value, int):
        raise wrong(f"a whole number for {what}", value, where)
    return value.value


def number(value: Value, where: Spot, what: str) -> float:
    if not isinstance(value, Number):
        raise wrong(f"a number for {what}", value, where)
    return float(value.value)


def sizes(value: Value, where: Spot) -> list[Size]:
    items = value.items if isinstance(value, TupleValue) else (value,)
    held = []
    for item in items:
        if not isinstance(item, Number | SizeValue) or item.size is None:
            raise wrong("sizes in [ ]", item, where)
        held.append(item.size)
    return held


def rows(e: Evaluator, value: TensorValue, where: Spot) -> tuple[Any, Any]:
    """Sequence and position of the rows of a tensor over tokens or windows."""
    held = e.function.rows_of(value.axes[0]) if value.axes else None
    if held is None:
        raise UserError("language.rows", where, found=describe(value))
    return held


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
}


def unary(e: Evaluator, name: str, value: Value, where: Spot) -> TensorValue:
    if not isinstance(value, TensorValue):
        raise wrong("a tensor", value, where)
    equations.check_plain(value, where)
    op = e.function.emit(UNARY[name], [value.ssa], where)
    return TensorValue(op.results[0], value.axes, value.labels)


def elementwise(name: str) -> Callable[[Any, Arguments, Keywords, Spot], Value]:
    return lambda e, a, k, where: unary(e, name, a[0], where)


def two(name: str) -> Callable[[Any, Arguments, Keywords, Spot], Value]:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        for value in a:
            if not isinstance(value, Number | TensorValue):
                raise wrong("a tensor or a number", value, where)
        if all(isinstance(value, Number) for value in a):
            raise wrong("a tensor", a[0], where)
        return equations.binary(e.function, name, a[0], a[1], where)  # type: ignore[arg-type]

    return function


def clamp(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    high = two("min")(e, [a[0], a[2]], {}, where)
    return two("max")(e, [high, a[1]], {}, where)


def to_format(name: str) -> Callable[[Any, Arguments, Keywords, Spot], Value]:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        if not isinstance(a[0], TensorValue):
            raise wrong("a tensor", a[0], where)
        equations.check_plain(a[0], where)
        held = e.model.formats[name]
        return equations.cast(e.function, a[0], held, where)

    return function


def where_(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    mask = tensor(a[0], where, "a mask")
    if ELEMENT_NAMES.get(mask.kind.element_type) != "i1":
        raise wrong("a mask", mask, where)
    for value in a[1:]:
        if not isinstance(value, Number | TensorValue):
            raise wrong("a tensor or a number", value, where)
    values = [equations.as_tensor(e.function, value, where) for value in a[1:]]  # type: ignore[arg-type]
    left, right, result = equations.align(e.function, *values, where)
    both = TensorValue(left if values[0].axes else right, result.axes, result.labels)
    spread, _, result = equations.align(e.function, mask, both, where)
    op = e.function.emit(graph.Select, [spread, left, right], where)
    return TensorValue(op.results[0], result.axes)


# ---- shape -------------------------------------------------------------------------------------


def reshape(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held = plain(e, tensor(a[0], where), where)
    return equations.reshape(e.function, held, sizes(a[1], where), where)


def plain(e: Evaluator, value: TensorValue, where: Spot) -> TensorValue:
    """A scaled weight as numbers, for what is no product."""
    if value.stacked:
        raise UserError("language.stacked", where, found=describe(value))
    if not value.is_scaled:
        return value
    op = e.function.emit(graph.Dequantize, [value.ssa], where)
    return TensorValue(op.results[0], value.axes)


def split(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held = plain(e, tensor(a[0], where), where)
    widths = sizes(a[1], where)
    axis = len(held.axes) - 1
    if "axis" in k:
        axis = whole(k["axis"], where, "axis")
    if not 0 <= axis < len(held.axes):
        raise UserError("language.index_range", where, index=axis, count=len(held.axes))
    total = widths[0]
    for width in widths[1:]:
        total = total + width
    if total != held.axes[axis]:
        raise UserError("language.split", where, wanted=held.axes[axis], found=total)
    parts: list[Value] = []
    start = 0
    for width in widths:
        count = e.function.size(width, where)
        op = e.function.emit(graph.Slice, [held.ssa], where, axis=axis, start=start, size=count)
        axes = (*held.axes[:axis], width, *held.axes[axis + 1 :])
        parts.append(TensorValue(op.results[0], axes))
        start += count
    return TupleValue(tuple(parts))


def concat(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    parts = [tensor(value, where) for value in a]
    last = parts[0].axes[-1]
    for part in parts[1:]:
        if part.axes[:-1] != parts[0].axes[:-1]:
            raise UserError(
                "language.broadcast", where, a=show(parts[0].axes), b=show(part.axes)
            )
        last = last + part.axes[-1]
    axis = len(parts[0].axes) - 1
    op = e.function.emit(graph.Concat, [[part.ssa for part in parts]], where, axis=axis)
    return TensorValue(op.results[0], (*parts[0].axes[:-1], last))


def repeat(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held = floats(a[0], where)
    (count,) = sizes(a[1], where)
    copies = e.function.size(count, where)
    op = e.function.emit(graph.Repeat, [held.ssa], where, axis=1, count=copies)
    return TensorValue(op.results[0], (held.axes[0], count, *held.axes[1:]))


def gather(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    table, ids = tensor(a[0], where), integers(a[1], where)
    op = e.function.emit(graph.Gather, [table.ssa, ids.ssa], where)
    rows = TensorValue(op.results[0], (*ids.axes, *table.axes[1:]))
    # A narrow table gives activations, which the reference keeps in float32.
    if rows.is_float and not rows.is_scaled:
        return equations.cast(e.function, rows, FormatValue("", rows.kind.element_type), where)
    return rows


def take(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held, chosen = tensor(a[0], where), integers(a[1], where)
    if held.axes[:-1] != chosen.axes[:-1]:
        raise UserError("language.broadcast", where, a=show(held.axes), b=show(chosen.axes))
    op = e.function.emit(graph.Take, [held.ssa, chosen.ssa], where)
    return TensorValue(op.results[0], chosen.axes)


def member(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    chosen = integers(a[0], where)
    (size,) = sizes(a[1], where)
    op = e.function.emit(graph.Member, [chosen.ssa], where, size=e.function.size(size, where))
    return TensorValue(op.results[0], (*chosen.axes[:-1], size))


# ---- products, norms, positions ----------------------------------------------------------------


def linear(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, w = floats(a[0], where), tensor(a[1], where, "a weight")
    if len(w.axes) != 2 + w.stacked or not (w.is_float or w.is_scaled):
        raise wrong("a weight of two axes", w, where)
    if x.axes[-1] != w.axes[-1]:
        raise UserError("language.linear", where, x=show(x.axes), w=show(w.axes))
    element = None
    operand = x.ssa
    if w.format is not None and w.format.inputs is not None and not e.function.reference:
        operand = e.model.quantize(e.function, x, w.format.inputs, where)
        element = w.format.result
    if w.stacked:
        assert e.counts is not None
        groups: list[Any] = [operand, w.ssa, e.counts.ssa]
        op = e.function.emit(graph.GroupedLinear, groups, where, element=element)
    else:
        op = e.function.emit(graph.Linear, [operand, w.ssa], where, element=element)
    return TensorValue(op.results[0], (*x.axes[:-1], w.axes[-2]))


def rms_norm(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x, gain = floats(a[0], where), floats(a[1], where)
    if gain.axes != x.axes[-1:]:
        raise UserError("language.linear", where, x=show(x.axes), w=show(gain.axes))
    eps = number(a[2], where, "eps")
    op = e.function.emit(graph.RmsNorm, [x.ssa, [gain.ssa]], where, eps=eps)
    return TensorValue(op.results[0], x.axes)


def rms_scale(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x = floats(a[0], where)
    eps = number(a[1], where, "eps")
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
    op = e.function.emit(
        graph.Sinkhorn,
        [x.ssa],
        where,
        iterations=whole(a[1], where, "iterations"),
        eps=number(a[2], where, "eps"),
    )
    return TensorValue(op.results[0], x.axes)


def turn(inverse: bool) -> Callable[[Any, Arguments, Keywords, Spot], Value]:
    def function(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
        x, position = floats(a[0], where), integers(a[1], where)
        if not isinstance(a[2], RopeValue):
            raise wrong("a rope", a[2], where)
        if position.axes != x.axes[:1]:
            raise UserError("language.broadcast", where, a=show(x.axes), b=show(position.axes))
        rope = RopeAttr.of(**vars(a[2].rope))
        if e.function.size(x.axes[-1], where) < rope.dims:
            raise UserError("language.rope", where, dims=rope.dims, found=show(x.axes))
        flag = True if inverse else None
        op = e.function.emit(graph.Rope, [x.ssa, position.ssa], where, rope=rope, inverse=flag)
        return TensorValue(op.results[0], x.axes)

    return function


def round_trip(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    x = floats(a[0], where)
    to = a[1]
    if not isinstance(to, FormatValue) or to.block is None:
        raise wrong("a scaled format", to, where)
    if e.function.reference:
        return x
    if to.after == "hadamard":
        op = e.function.emit(graph.Hadamard, [x.ssa], where, element=x.kind.element_type)
        x = TensorValue(op.results[0], x.axes)
    codes = e.model.quantize(e.function, x, to, where)
    op = e.function.emit(graph.Dequantize, [codes], where, element=x.kind.element_type)
    return TensorValue(op.results[0], x.axes)


# ---- state and attention -----------------------------------------------------------------------


def append(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    state, held = a[0], floats(a[1], where)
    if not isinstance(state, StateValue) or state.kind == "partial":
        raise wrong("a state ring[...] or blocks[...]", state, where)
    sequence, position = rows(e, held, where)
    if held.axes[1:] != state.axes[2:]:
        raise UserError("language.append", where, a=show(state.axes), b=show(held.axes))
    _check_pace(state, held, where)
    kept = e.function.use_state(state, where)
    held = _as_stored(e, held, kept, where)
    kind = StateAttr.of(state.kind, state.name, state.sizes)
    groups: list[Any] = [kept, held.ssa, sequence, position, e.function.length.ssa]
    op = e.function.emit(graph.Append, groups, where, kind=kind)
    e.function.keep_state(state, op.results[1])
    seen = Size.of(f"seen{state.sizes[0]}") if state.kind == "ring" else state.axes[1]
    return TensorValue(op.results[0], (SEQUENCES, seen, *state.axes[2:]))


def _check_pace(state: StateValue, held: TensorValue, where: Spot) -> None:
    """A ring takes a row a token; blocks[r] a row for each window of r tokens."""
    ratio = state.sizes[0] if state.kind == "blocks" else 1
    wanted = TOKENS if ratio == 1 else Size.of(f"windows{ratio}")
    if held.axes[0] != wanted:
        raise UserError("language.pace", where, wanted=wanted, found=show(held.axes))


def _as_stored(e: Evaluator, held: TensorValue, kept: Any, where: Spot) -> TensorValue:
    element = kept.type.element_type
    if held.kind.element_type == element:
        return held
    op = e.function.emit(graph.Cast, [held.ssa], where, element=element)
    return TensorValue(op.results[0], held.axes)


def pool_windows(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    state = a[0]
    if not isinstance(state, StateValue) or state.kind != "partial":
        raise wrong("a state partial[...]", state, where)
    values, scores, bias = (floats(value, where) for value in a[1:])
    ratio, overlap = state.sizes
    width = state.axes[-1]
    for value in (values, scores, bias):
        if value.axes[-1] != width or len(value.axes) != 2:
            raise UserError("language.append", where, a=show(state.axes), b=show(value.axes))
    if values.axes[0] != TOKENS or scores.axes[0] != TOKENS:
        raise UserError("language.pace", where, wanted=TOKENS, found=show(values.axes))
    windows = e.function.completed_windows(ratio, where)
    kept = e.function.use_state(state, where)
    groups: list[Any] = [kept, values.ssa, scores.ssa, bias.ssa, *e.function.call_vectors()]
    op = e.function.emit(graph.PoolWindows, groups, where, ratio=ratio, overlap=overlap)
    e.function.keep_state(state, op.results[1])
    part = width.divided(Size.of(1 + overlap))
    assert part is not None
    return TensorValue(op.results[0], (windows, part))


def first_position(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held = tensor(a[0], where)
    return TensorValue(rows(e, held, where)[1], held.axes[:1])


def window(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    seen = tensor(a[0], where)
    name = str(seen.axes[1]) if len(seen.axes) > 1 else ""
    if not name.startswith("seen"):
        raise UserError("language.window", where, found=describe(seen))
    size = int(name.removeprefix("seen"))
    op = e.function.emit(graph.WindowIndex, [*e.function.call_vectors()], where, window=size)
    return TensorValue(op.results[0], (TOKENS, Size.of(size)))


def visible(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    seen = tensor(a[0], where)
    name = str(seen.axes[1]) if len(seen.axes) > 1 else ""
    if not name.startswith("S:"):
        raise UserError("language.visible", where, found=describe(seen))
    ratio = int(name.removeprefix("S:"))
    op = e.function.emit(graph.VisibleCount, [e.function.position.ssa], where, ratio=ratio)
    return TensorValue(op.results[0], (TOKENS,))


def top(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    scores = floats(a[0], where)
    (size,) = sizes(a[1], where)
    count = [integers(a[2], where).ssa] if len(a) > 2 else []
    choices = e.function.size(size, where)
    held = e.function.size(scores.axes[-1], where)
    if not count and 0 <= held < choices:
        raise UserError("language.top", where, count=choices, found=show(scores.axes))
    op = e.function.emit(graph.TopK, [scores.ssa, count], where, k=choices)
    return TensorValue(op.results[0], (*scores.axes[:-1], size))


def attend(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    """Sources: (keys, index) with shared values, or (keys, values, index)."""
    q = floats(a[0], where)
    if len(q.axes) != 3:
        raise wrong("queries [T, heads, channels]", q, where)
    sources = _sources(a[1], where)
    keys = [floats(source[0], where) for source in sources]
    values = [floats(source[1], where) for source in sources if len(source) == 3]
    index = [integers(source[-1], where) for source in sources]
    if values and len(values) != len(keys):
        raise UserError("language.sources", where)
    for held in keys:
        if held.axes[0] != SEQUENCES or held.axes[-1] != q.axes[-1]:
            raise UserError("language.linear", where, x=show(q.axes), w=show(held.axes))
    width = (values or keys)[0].axes[-1]
    if "values" in k:
        (width,) = sizes(k["values"], where)
    sink = [floats(k["sink"], where).ssa] if "sink" in k else []
    groups: list[Any] = [
        q.ssa,
        [held.ssa for held in keys],
        [held.ssa for held in values],
        [held.ssa for held in index],
        sink,
        e.function.sequence.ssa,
    ]
    held_properties = _attend_properties(e, k, where)
    value_width = e.function.size(width, where)
    op = e.function.emit(graph.Attend, groups, where, value_width=value_width, **held_properties)
    return TensorValue(op.results[0], (*q.axes[:2], width))


def _sources(value: Value, where: Spot) -> list[tuple[Value, ...]]:
    """The sources that are there; a `none` source drops out."""
    items = value.items if isinstance(value, TupleValue) else ()
    sources = []
    for item in items:
        if not isinstance(item, TupleValue) or len(item.items) not in (2, 3):
            raise UserError("language.sources", where)
        if not any(isinstance(part, NothingValue) for part in item.items):
            sources.append(item.items)
    if not sources:
        raise UserError("language.sources", where)
    return sources


def _attend_properties(e: Evaluator, k: Keywords, where: Spot) -> dict[str, Any]:
    if "scale" not in k:
        raise UserError("language.scale", where)
    properties: dict[str, Any] = {"scale": number(k["scale"], where, "scale")}
    if e.function.reference or "round" not in k:
        return properties
    to = k["round"]
    if not isinstance(to, FormatValue) or not is_float(to.element):
        raise wrong("a plain format", to, where)
    if to.element != f32:
        properties["round"] = ELEMENT_NAMES[to.element]
    if "block" in k:
        properties["block"] = whole(k["block"], where, "block")
    return properties


# ---- experts -----------------------------------------------------------------------------------


def route(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    """Rows to their experts, the expert block on them, rows of each token summed."""
    part, x, weight, chosen = a[0], floats(a[1], where), floats(a[2], where), integers(a[3], where)
    if not isinstance(part, PartValue) or part.experts is None:
        raise wrong("a part with one block for each expert", part, where)
    if chosen.axes != weight.axes or chosen.axes[:1] != x.axes[:1]:
        raise UserError("language.broadcast", where, a=show(chosen.axes), b=show(weight.axes))
    count = e.function.size(part.experts, where)
    groups: list[Any] = [x.ssa, chosen.ssa, weight.ssa]
    op = e.function.emit(graph.Dispatch, groups, where, experts=count)
    routed = chosen.axes[0] * chosen.axes[1]
    rows_in = TensorValue(op.results[0], (routed, *x.axes[1:]))
    row_weight = TensorValue(op.results[1], (routed,))
    counts = TensorValue(op.results[2], (part.experts,))
    out = e.model.call(e, part.instance, [rows_in, row_weight], where, counts)
    held = floats(out, where)
    choices = e.function.size(chosen.axes[1], where)
    combined = e.function.emit(
        graph.Combine, [held.ssa, op.results[3]], where, choices=choices
    )
    return TensorValue(combined.results[0], (x.axes[0], *held.axes[1:]))


X = ("x",)
BUILTINS: Mapping[str, Builtin] = {
    "exp": Builtin(elementwise("exp"), X, "e^x"),
    "sqrt": Builtin(elementwise("sqrt"), X, "x^(1/2)"),
    "rsqrt": Builtin(elementwise("rsqrt"), X, "x^(-1/2)"),
    "sigmoid": Builtin(elementwise("sigmoid"), X, "1 / (1 + e^-x)"),
    "softplus": Builtin(elementwise("softplus"), X, "ln(1 + e^x)"),
    "silu": Builtin(elementwise("silu"), X, "x sigmoid(x)"),
    "relu": Builtin(elementwise("relu"), X, "max(x, 0)"),
    "min": Builtin(two("min"), ("a", "b"), "the smaller of two"),
    "max": Builtin(two("max"), ("a", "b"), "the larger of two"),
    "clamp": Builtin(clamp, ("x", "low", "high"), "x, no less than low, no more than high"),
    "bf16": Builtin(to_format("bf16"), X, "x rounded to bfloat16; the reference numerics do not"),
    "f16": Builtin(to_format("f16"), X, "x rounded to float16; the reference numerics do not"),
    "where": Builtin(where_, ("mask", "a", "b"), "a where the mask holds, else b"),
    "reshape": Builtin(reshape, ("x", "sizes"), "the same elements under other axes"),
    "split": Builtin(split, ("x", "sizes"), "parts of the last axis, or of `axis`", keywords=("axis",)),
    "concat": Builtin(concat, ("x", "y"), "joined along the last axis", many=True),
    "repeat": Builtin(repeat, ("x", "N"), "a new second axis of N copies"),
    "gather": Builtin(gather, ("table", "ids"), "rows of the table"),
    "take": Builtin(take, ("x", "chosen"), "the chosen elements of the last axis of each row"),
    "member": Builtin(member, ("chosen", "N"), "a mask over N: which were chosen"),
    "linear": Builtin(linear, ("x", "w"), "x w^T; stored FP8 and FP4 multiply as their format says"),
    "rms_norm": Builtin(rms_norm, ("x", "gain", "eps"), "gain x / sqrt(mean(x^2) + eps)"),
    "rms_scale": Builtin(rms_scale, ("x", "eps"), "x / sqrt(mean(x^2) + eps)"),
    "softmax": Builtin(softmax, X, "e^x / sum(e^x) over the last axis"),
    "sinkhorn": Builtin(sinkhorn, ("x", "iterations", "eps"), "a doubly stochastic matrix from x"),
    "rope": Builtin(turn(False), ("x", "position", "rope"), "the last channels turned"),
    "rope_back": Builtin(turn(True), ("x", "position", "rope"), "the last channels turned back"),
    "round_trip": Builtin(round_trip, ("x", "format"), "x as it comes back from a scaled format"),
    "append": Builtin(append, ("state", "rows"), "what the state held, then the new rows"),
    "pool_windows": Builtin(
        pool_windows,
        ("state", "values", "scores", "bias"),
        "gated sums of the windows that this call completes",
    ),
    "first_position": Builtin(first_position, ("rows",), "the first position each row covers"),
    "window": Builtin(window, ("seen",), "the slots of a ring that each token sees"),
    "visible": Builtin(visible, ("seen",), "how many entries of blocks each token sees"),
    "top": Builtin(
        top, ("scores", "k", "visible"), "indices of the k largest; ties: the smaller index", least=2
    ),
    "attend": Builtin(
        attend,
        ("q", "sources"),
        "one softmax over the keys of all sources",
        keywords=("sink", "scale", "values", "round", "block"),
    ),
    "route": Builtin(
        route, ("experts", "x", "weight", "chosen"), "each row by its experts, summed for its token"
    ),
}  # fmt: skip
