"""Expressions and conditions over what a config says, in the config section and the layer table.

KD = first_k_dense_replace: count        feed_forward: block { dense if l < KD, moe }
"""

from __future__ import annotations

from collections.abc import Mapping

from supertile.frontend import arithmetic, syntax
from supertile.frontend.families.common import Rope
from supertile.frontend.values import Number
from supertile.ir.errors import UserError, nearest
from supertile.ir.json_text import show_json

LAYER = "l"  # the number of the layer, in the table
Setting = int | float | bool | str | tuple[int, ...] | Rope | None
"""What a config name can stand for; blocks and formats by their name."""
Names = Mapping[str, Setting]


def compute(expression: syntax.Expression, names: Names) -> Setting:
    """The value of an expression over names that a config gives."""
    match expression:
        case syntax.Number() | syntax.Text() | syntax.Flag():
            return expression.value
        case syntax.Nothing():
            return None
        case syntax.Name():
            if expression.name not in names:
                hint = nearest(expression.name, names)
                name = expression.name
                raise UserError("language.unknown_name", expression.where, name=name, hint=hint)
            return names[expression.name]
        case syntax.Operation():
            numbers = [_number(operand, names) for operand in expression.operands]
            result = arithmetic.combine(expression.symbol, numbers, expression.where)
            assert isinstance(result, Number)  # of numbers
            return result.value
        case _:
            raise UserError("language.rule", expression.where)


def holds(condition: syntax.Condition, names: Names) -> bool:
    """Whether a condition is true of a config, or of one of its layers."""
    if condition.sign == "in":
        value, listed = _number(condition.left, names), compute(condition.right, names)
        if listed is not None and not isinstance(listed, tuple):
            raise _refusal(condition.right, "a list", listed)
        return listed is not None and value.value in listed
    if condition.sign == "is":
        left, right = compute(condition.left, names), compute(condition.right, names)
        return left == right and isinstance(left, bool) == isinstance(right, bool)
    low, high = _number(condition.left, names), _number(condition.right, names)
    return low.value < high.value or (condition.sign == "<=" and low.value == high.value)


def names_of(expression: syntax.Expression) -> list[syntax.Name]:
    """The names that an expression reads, from left to right."""
    if isinstance(expression, syntax.Operation):
        return [name for operand in expression.operands for name in names_of(operand)]
    return [expression] if isinstance(expression, syntax.Name) else []


def names_of_condition(condition: syntax.Condition) -> list[syntax.Name]:
    return [*names_of(condition.left), *names_of(condition.right)]


def rules_of(item: syntax.Bind | syntax.Column) -> list[syntax.RuleCase]:
    """The cases that a condition chooses, and the last one, which has none."""
    return [case for case in item.cases if isinstance(case, syntax.RuleCase)]


def values_of(item: syntax.Bind | syntax.Column) -> list[syntax.ValueCase]:
    """The cases that a value of the config chooses."""
    return [case for case in item.cases if isinstance(case, syntax.ValueCase)]


def conditions_of(item: syntax.Bind | syntax.Column) -> list[syntax.Condition]:
    return [case.condition for case in rules_of(item) if case.condition is not None]


def is_of_the_model(column: syntax.Column) -> bool:
    """Whether rules choose the cell, and none looks at the layer: it is the same in all rows."""
    conditions = conditions_of(column)
    read = {name.name for condition in conditions for name in names_of_condition(condition)}
    return bool(rules_of(column)) and LAYER not in read


def _number(expression: syntax.Expression, names: Names) -> Number:
    value = compute(expression, names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refusal(expression, "a number", value)
    return Number(value)


def _refusal(expression: syntax.Expression, wanted: str, value: Setting) -> UserError:
    found = "none" if value is None else show_json(value)
    return UserError("language.value_kind", expression.where, wanted=wanted, found=found)
