"""Taking the arguments of the language's functions: each helper gives the value or the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdsl.ir import SSAValue

from supertile.frontend import equations
from supertile.frontend.dimensions import Size, show
from supertile.frontend.indexing import plain
from supertile.frontend.values import (
    Number,
    SizeValue,
    TensorValue,
    TupleValue,
    Value,
    describe,
    sort_of,
)
from supertile.ir.errors import Spot, UserError

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator

Arguments = list[Value]
Keywords = dict[str, Value]
Operand = Number | TensorValue


def wrong(wanted: str, value: Value, where: Spot) -> UserError:
    return UserError("language.value_kind", where, wanted=wanted, found=describe(value))


# ---- tensors -----------------------------------------------------------------------------------


def whole_tensor(value: Value, where: Spot, what: str = "a tensor") -> TensorValue:
    """A tensor with axes and without indices; it may have scales or an axis of experts."""
    if not isinstance(value, TensorValue) or not value.axes:
        raise wrong(what, value, where)
    if value.labels:
        raise UserError("language.whole_tensor", where, found=describe(value))
    return value


def tensor(value: Value, where: Spot, what: str = "a tensor") -> TensorValue:
    held = whole_tensor(value, where, what)
    if held.stacked:
        raise UserError("language.stacked", where, found=describe(value))
    return held


def numbers(e: Evaluator, value: Value, where: Spot) -> TensorValue:
    """A tensor whose elements stand for themselves; a scaled weight is decoded."""
    return plain(e, tensor(value, where), where)


def floats(value: Value, where: Spot) -> TensorValue:
    held = tensor(value, where, "a float tensor")
    equations.check_plain(held, where)
    return held


def integers(value: Value, where: Spot) -> TensorValue:
    held = tensor(value, where, "an integer tensor")
    if sort_of(held) != "integer":
        raise wrong("an integer tensor", value, where)
    return held


def operand(value: Value, where: Spot) -> Operand:
    """What elementwise functions take: a tensor, with indices or without, or a number."""
    if not isinstance(value, Number | TensorValue):
        raise wrong("a tensor or a number", value, where)
    return value


def same_axes(a: tuple[Size, ...], b: tuple[Size, ...], where: Spot) -> None:
    if a != b:
        raise UserError("language.broadcast", where, a=show(a), b=show(b))


def rows(e: Evaluator, value: TensorValue, where: Spot) -> tuple[SSAValue, SSAValue]:
    """Sequence and position of the rows of a tensor over tokens or windows."""
    held = e.function.rows_of(value.axes[0])
    if held is None:
        raise UserError("language.rows", where, found=describe(value))
    return held


# ---- numbers and sizes -------------------------------------------------------------------------


def whole(value: Value, where: Spot, what: str, least: int = 0) -> int:
    if not isinstance(value, Number) or not isinstance(value.value, int) or value.value < least:
        raise wrong(f"a whole number of {least} or more for {what}", value, where)
    return value.value


def number(value: Value, where: Spot, what: str) -> float:
    if not isinstance(value, Number):
        raise wrong(f"a number for {what}", value, where)
    return float(value.value)


def sizes(value: Value, where: Spot) -> list[Size]:
    """`[a, b]`, or one size."""
    items = value.items if isinstance(value, TupleValue) else (value,)
    return [size(item, where) for item in items]


def size(value: Value, where: Spot) -> Size:
    if not isinstance(value, Number | SizeValue) or value.size is None:
        raise wrong("a size", value, where)
    return value.size
