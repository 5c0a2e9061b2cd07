"""The functions of the language on sequences: state, windows, attention; and on experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdsl.ir import SSAValue

from supertile.frontend.arguments import (
    Arguments,
    Keywords,
    floats,
    integers,
    number,
    rows,
    same_axes,
    size,
    tensor,
    whole,
    wrong,
)
from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import (
    SEQUENCES,
    TOKENS,
    number_of,
    seen_axis,
    windows_axis,
)
from supertile.frontend.values import (
    FormatValue,
    NothingValue,
    PartValue,
    StateValue,
    TensorValue,
    TupleValue,
    Value,
    describe,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.types import DYNAMIC, StateAttr, bf16

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator

Groups = list[SSAValue | list[SSAValue]]

# ---- state -------------------------------------------------------------------------------------


def append(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    state, held = a[0], floats(a[1], where)
    if not isinstance(state, StateValue) or state.kind == "partial":
        raise wrong("a state ring[...] or blocks[...]", state, where)
    sequence, position = rows(e, held, where)
    if held.axes[1:] != state.axes[2:]:
        raise UserError("language.append", where, a=show(state.axes[2:]), b=show(held.axes[1:]))
    _check_pace(state, held, where)
    kept = e.function.use_state(state, where)
    stored = _as_stored(e, held, kept, where)
    kind = StateAttr.of(state.kind, state.name, state.sizes)
    groups: Groups = [kept, stored, sequence, position, e.function.length.ssa]
    op = e.function.emit(graph.Append, groups, where, kind=kind)
    e.function.keep_state(state, op.results[1])
    seen = seen_axis(state.sizes[0]) if state.kind == "ring" else state.axes[1]
    return TensorValue(op.results[0], (SEQUENCES, seen, *state.axes[2:]))


def _check_pace(state: StateValue, held: TensorValue, where: Spot) -> None:
    """A ring takes a row a token; blocks[r] a row for each window of r tokens."""
    ratio = state.sizes[0] if state.kind == "blocks" else 1
    wanted = TOKENS if ratio == 1 else windows_axis(ratio)
    if held.axes[0] != wanted:
        raise UserError("language.pace", where, wanted=wanted, found=show(held.axes))


def _as_stored(e: Evaluator, held: TensorValue, kept: SSAValue, where: Spot) -> SSAValue:
    element = TensorValue(kept, ()).kind.element_type
    if held.kind.element_type == element:
        return held.ssa
    return e.function.emit(graph.Cast, [held.ssa], where, element=element).results[0]


def pool_windows(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    state = a[0]
    if not isinstance(state, StateValue) or state.kind != "partial":
        raise wrong("a state partial[...]", state, where)
    values, scores, bias = (floats(value, where) for value in a[1:])
    ratio, overlap = state.sizes
    width = state.axes[-1]
    for value in (values, scores):
        if value.axes != (TOKENS, width):
            wanted = show([TOKENS, width])
            raise UserError("language.append", where, a=wanted, b=show(value.axes))
    if bias.axes[1:] != (width,) or e.function.size(bias.axes[0], where) != ratio:
        wanted = show([Size.of(ratio), width])
        raise UserError("language.append", where, a=wanted, b=show(bias.axes))
    part = width.divided(Size.of(1 + overlap))
    assert part is not None  # by one number
    e.function.known_size(part, where)
    windows = e.function.completed_windows(ratio, where)
    kept = e.function.use_state(state, where)
    groups: Groups = [kept, values.ssa, scores.ssa, bias.ssa, *e.function.call_vectors()]
    op = e.function.emit(graph.PoolWindows, groups, where, ratio=ratio, overlap=overlap)
    e.function.keep_state(state, op.results[1])
    return TensorValue(op.results[0], (windows, part))


def first_position(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    held = tensor(a[0], where)
    return TensorValue(rows(e, held, where)[1], held.axes[:1])


def window(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    seen = tensor(a[0], where)
    width = number_of(seen.axes[1], "seen") if len(seen.axes) > 1 else None
    if width is None:
        raise UserError("language.window", where, found=describe(seen))
    groups: Groups = [*e.function.call_vectors()]
    op = e.function.emit(graph.WindowIndex, groups, where, window=width)
    return TensorValue(op.results[0], (TOKENS, Size.of(width)))


def visible(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    seen = tensor(a[0], where)
    ratio = number_of(seen.axes[1], "S") if len(seen.axes) > 1 else None
    if ratio is None:
        raise UserError("language.visible", where, found=describe(seen))
    op = e.function.emit(graph.VisibleCount, [e.function.position.ssa], where, ratio=ratio)
    return TensorValue(op.results[0], (TOKENS,))


def top(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    scores, chosen = floats(a[0], where), size(a[1], where)
    limit = integers(a[2], where) if len(a) > 2 else None
    choices = e.function.known_size(chosen, where)
    held = e.function.size(scores.axes[-1], where)
    if limit is not None:
        same_axes(scores.axes[:1], limit.axes, where)
    elif held == DYNAMIC or held < choices:
        raise UserError("language.top", where, count=choices, found=scores.axes[-1])
    count = [] if limit is None else [limit.ssa]
    op = e.function.emit(graph.TopK, [scores.ssa, count], where, k=choices)
    return TensorValue(op.results[0], (*scores.axes[:-1], chosen))


# ---- attention ---------------------------------------------------------------------------------


def attend(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    """Sources: (keys, index) with shared values, or (keys, values, index)."""
    q = floats(a[0], where)
    if len(q.axes) != 3 or q.axes[0] != TOKENS:
        raise wrong("queries [T, heads, channels]", q, where)
    sources = _sources(a[1], where)
    keys = [floats(source[0], where) for source in sources]
    values = [floats(source[1], where) for source in sources if len(source) == 3]
    index = [integers(source[-1], where) for source in sources]
    if values and len(values) != len(keys):
        raise UserError("language.sources", where)
    _check_sources(e, q, keys, values, index, where)
    width = size(k["values"], where) if "values" in k else (values or keys)[0].axes[-1]
    value_width = e.function.known_size(width, where)
    for held in values or keys:
        if e.function.known_size(held.axes[-1], where) < value_width:
            raise UserError("language.values", where, wanted=width, found=show(held.axes))
    groups: Groups = [
        q.ssa,
        [held.ssa for held in keys],
        [held.ssa for held in values],
        [held.ssa for held in index],
        [_sink(k["sink"], q, where).ssa] if "sink" in k else [],
        e.function.sequence.ssa,
    ]
    properties = _attend_properties(e, k, where)
    op = e.function.emit(graph.Attend, groups, where, value_width=value_width, **properties)
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


def _check_sources(
    e: Evaluator,
    q: TensorValue,
    keys: list[TensorValue],
    values: list[TensorValue],
    index: list[TensorValue],
    where: Spot,
) -> None:
    """Keys [B, S, C] or [B, S, heads, C], values beside them, an index [T, n] or a count [T]."""
    for held in keys:
        if held.axes[0] != SEQUENCES or len(held.axes) not in (3, 4):
            raise wrong("keys that a state keeps, [B, S, C] or [B, S, heads, C]", held, where)
        if held.axes[-1] != q.axes[-1]:
            raise UserError("language.linear", where, x=show(q.axes), w=show(held.axes))
        _check_heads(e, q, held, where)
    for key, value in zip(keys, values, strict=False):
        same_axes(key.axes[:-1], value.axes[:-1], where)
    for chosen in index:
        if chosen.axes[0] != TOKENS or len(chosen.axes) > 2:
            raise wrong("an index [T, n] or a count [T]", chosen, where)


def _check_heads(e: Evaluator, q: TensorValue, keys: TensorValue, where: Spot) -> None:
    """Heads of the keys are shared by equally many heads of the queries."""
    if len(keys.axes) == 4:
        heads, shared = (e.function.known_size(held.axes[-2], where) for held in (q, keys))
        if heads % shared:
            raise UserError("language.heads", where, x=show(q.axes), w=show(keys.axes))


def _sink(value: Value, q: TensorValue, where: Spot) -> TensorValue:
    held = floats(value, where)
    same_axes(held.axes, q.axes[1:2], where)
    return held


def _attend_properties(e: Evaluator, k: Keywords, where: Spot) -> dict[str, Any]:
    if "scale" not in k:
        raise UserError("language.scale", where)
    properties: dict[str, Any] = {"scale": number(k["scale"], where, "scale")}
    to = k.get("round")
    if to is not None and not (isinstance(to, FormatValue) and to.element == bf16):
        raise wrong("bf16", to, where)
    span = whole(k["span"], where, "span", least=1) if "span" in k else None
    if to is not None and not e.function.reference:
        properties |= {"round": "bf16", "block": span}
    return properties


# ---- experts -----------------------------------------------------------------------------------


def route(e: Evaluator, a: Arguments, k: Keywords, where: Spot) -> Value:
    """Rows to their experts, the expert block on them, rows of each token summed."""
    part, x, weight, chosen = a[0], floats(a[1], where), floats(a[2], where), integers(a[3], where)
    if not isinstance(part, PartValue) or part.experts is None:
        raise wrong("a part with one block for each expert", part, where)
    if len(chosen.axes) != 2:
        raise wrong("the chosen experts of each row, [T, K]", chosen, where)
    same_axes(chosen.axes, weight.axes, where)
    same_axes(chosen.axes[:1], x.axes[:1], where)
    groups: Groups = [x.ssa, chosen.ssa, weight.ssa]
    count = e.function.known_size(part.experts, where)
    op = e.function.emit(graph.Dispatch, groups, where, experts=count)
    routed = chosen.axes[0] * chosen.axes[1]
    counts = TensorValue(op.results[2], (part.experts,))
    arguments: list[Value] = [
        TensorValue(op.results[0], (routed, *x.axes[1:])),
        TensorValue(op.results[1], (routed,)),
    ]
    out = floats(e.model.call_experts(e, part, arguments, (counts, routed), where), where)
    if out.axes[0] != routed:
        raise wrong(f"rows of the experts, [{routed}, ...]", out, where)
    choices = e.function.known_size(chosen.axes[1], where)
    combined = e.function.emit(graph.Combine, [out.ssa, op.results[3]], where, choices=choices)
    return TensorValue(combined.results[0], (x.axes[0], *out.axes[1:]))
