"""Index equations: `x[t, d]`, `scale[0]`, `sum(n: ...)`, and the left side that orders the axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertile.frontend import equations, syntax
from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import SEQUENCES, TOKENS
from supertile.frontend.values import Number, TensorValue, Value, describe
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError
from supertile.ir.types import DYNAMIC

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator


def equation(e: Evaluator, statement: syntax.Assign) -> TensorValue:
    """`x[t, d] = ...`: evaluate with indices, then bring the axes to the left side's order."""
    target = statement.targets[0]
    value = e.evaluate(statement.value)
    wanted = [index.name for index in target.indices]
    labels = list(value.labels or ()) if isinstance(value, TensorValue) else []
    if not isinstance(value, TensorValue) or sorted(labels) != sorted(wanted):
        raise UserError(
            "language.equation",
            statement.where,
            wanted=", ".join(wanted),
            found=", ".join(label.removeprefix(equations.PER_SEQUENCE) for label in labels)
            or describe(value),
        )
    order = [labels.index(label) for label in wanted]
    turned = equations.transpose(e.function, value, order, statement.where)
    return TensorValue(turned.ssa, turned.axes)


def item(e: Evaluator, expression: syntax.Item) -> Value:
    """`x[t, d]` with index names, `scale[0]` with numbers."""
    value = e.evaluate(expression.value)
    if not isinstance(value, TensorValue) or value.labels:
        raise UserError("language.not_indexable", expression.where, found=describe(value))
    if value.stacked:
        raise UserError("language.stacked", expression.where, found=describe(value))
    if len(expression.indices) != len(value.axes):
        count, found = len(expression.indices), show(value.axes)
        raise UserError("language.index_count", expression.where, count=count, found=found)
    labels: list[str] = []
    for axis in reversed(range(len(value.axes))):
        index = expression.indices[axis]
        if isinstance(index, syntax.Name) and e.lookup(index.name) is None:
            labels.insert(0, _label(e, index, value.axes[axis]))
        else:
            value = _pick(e, value, axis, index)
    if len(set(labels)) < len(labels):
        raise UserError("language.index_repeated", expression.where)
    return TensorValue(value.ssa, value.axes, tuple(labels) or None, format=value.format)


def _label(e: Evaluator, index: syntax.Name, axis: Size) -> str:
    """The label of an axis; an index over T reads an axis B by the sequence of its token."""
    wanted = TOKENS if axis == SEQUENCES else axis
    known = e.index_sizes.setdefault(index.name, wanted)
    if known != wanted:
        raise UserError(
            "language.index_size", index.where, name=index.name, wanted=known, found=axis
        )
    return (equations.PER_SEQUENCE if axis == SEQUENCES else "") + index.name


def _pick(e: Evaluator, value: TensorValue, axis: int, index: syntax.Expression) -> TensorValue:
    """One element of an axis, without the axis."""
    where = index.where
    held = e.evaluate(index)
    if not isinstance(held, Number) or not isinstance(held.value, int):
        raise UserError("language.index_kind", where, found=describe(held))
    count = e.function.size(value.axes[axis], where)
    if count == DYNAMIC or not 0 <= held.value < count:
        raise UserError("language.index_range", where, index=held.value, count=value.axes[axis])
    value = plain(e, value, where)
    op = e.function.emit(graph.Slice, [value.ssa], where, axis=axis, start=held.value, size=1)
    one = (*value.axes[:axis], Size.of(1), *value.axes[axis + 1 :])
    rest = value.axes[:axis] + value.axes[axis + 1 :]
    if not rest:
        return TensorValue(op.results[0], ())  # one element broadcasts as it is
    return equations.reshape(e.function, TensorValue(op.results[0], one), rest, where)


def plain(e: Evaluator, value: TensorValue, where: Spot) -> TensorValue:
    """A scaled weight as numbers, for what is no product."""
    if not value.is_scaled:
        return value
    op = e.function.emit(graph.Dequantize, [value.ssa], where)
    return TensorValue(op.results[0], value.axes)


def total(e: Evaluator, expression: syntax.Sum) -> Value:
    """A sum of products becomes one einsum; any other body is computed, then summed."""
    summed = [index.name for index in expression.indices]
    numbers: list[Number | TensorValue] = []
    factors: list[TensorValue] = []
    for part in _factors(expression.body):
        value = e.evaluate(part)
        if isinstance(value, Number) or (isinstance(value, TensorValue) and not value.axes):
            numbers.append(value)
        elif isinstance(value, TensorValue) and value.labels:
            factors.append(value)
        else:
            raise UserError("language.sum_body", part.where, found=describe(value))
    result = equations.contract(e.function, factors, summed, expression.where)
    for number in numbers:
        result = equations.binary(e.function, "*", result, number, expression.where)
    for name in summed:  # the next sum of the line may run over another size by this name
        e.index_sizes.pop(name, None)
    return result


def _factors(body: syntax.Expression) -> list[syntax.Expression]:
    if isinstance(body, syntax.Operation) and body.symbol == "*":
        return [factor for operand in body.operands for factor in _factors(operand)]
    return [body]
