"""Runs a block body at build time: statements in order, expressions to values, ops as a result."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from supertile.frontend import builtins, equations, syntax
from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import SEQUENCES, TOKENS, FunctionBuilder, name_value
from supertile.frontend.instance import Instance
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    NothingValue,
    Number,
    PartValue,
    RopeValue,
    Scope,
    SizeValue,
    StateValue,
    TensorValue,
    TextValue,
    TupleValue,
    Value,
    describe,
)
from supertile.ir.errors import Spot, UserError
from supertile.ir.types import DYNAMIC, is_float

if TYPE_CHECKING:
    from supertile.frontend.build import ModelBuilder

# Kinds of parameters that are given where a block is put to use, not where it is called.
SETTING_KINDS = ("int", "float", "rope", "block", "format")


def settings_of(block: syntax.Block) -> list[syntax.Parameter]:
    return [item for item in block.parameters if _is_setting(item)]


def inputs_of(block: syntax.Block) -> list[syntax.Parameter]:
    return [item for item in block.parameters if not _is_setting(item)]


def _is_setting(parameter: syntax.Parameter) -> bool:
    return parameter.kind is not None and parameter.kind.sizes is None


class Evaluator:
    """One call of one instance."""

    def __init__(
        self, model: ModelBuilder, function: FunctionBuilder, instance: Instance, stacked: bool
    ) -> None:
        self.model = model
        self.function = function
        self.instance = instance
        self.scope = Scope(dict(instance.settings))
        # Inside experts, weights have an expert axis and products go by rows of experts.
        self.stacked = stacked
        self.counts: TensorValue | None = None
        self.index_sizes: dict[str, Size] = {}

    # -- calls

    def call(self, arguments: Sequence[Value], where: Spot) -> Value:
        """Bind the arguments, run the body, return its values."""
        block = self.instance.block
        inputs = inputs_of(block)
        if len(arguments) != len(inputs):
            raise UserError(
                "language.argument_count",
                where,
                name=block.name,
                wanted=", ".join(item.name for item in inputs) or "none",
                count=len(arguments),
            )
        for parameter, value in zip(inputs, arguments, strict=True):
            self.bind(parameter, value, where)
        for statement in block.statements:
            if isinstance(statement, syntax.Return):
                return self.result(statement)
            self.run(statement)
        raise UserError("language.no_return", block.where, name=block.name)

    def bind(self, parameter: syntax.Parameter, value: Value, where: Spot) -> None:
        """Check a value against a parameter's kind, binding the size names it introduces."""
        kind = parameter.kind
        if kind is not None and isinstance(value, TensorValue):
            self.match(kind, value, parameter.name, where)
        elif kind is not None and not isinstance(value, Number | NothingValue):
            wanted = f"a tensor for {parameter.name}"
            raise UserError("language.value_kind", where, wanted=wanted, found=describe(value))
        self.scope.names[parameter.name] = value

    def match(self, kind: syntax.Kind, value: TensorValue, name: str, where: Spot) -> None:
        assert kind.sizes is not None
        if len(kind.sizes) != len(value.axes):
            raise UserError(
                "language.rank", where, name=name, wanted=len(kind.sizes), found=show(value.axes)
            )
        for expression, axis in zip(kind.sizes, value.axes, strict=True):
            wanted = self.size_or_bind(expression, axis)
            if wanted != axis:
                raise UserError(
                    "language.size", where, name=name, wanted=wanted, found=show(value.axes)
                )
        if kind.name is None:
            return
        declared = self.format_of(kind.name)
        if is_float(declared.element) != value.is_float:
            raise UserError(
                "language.value_kind",
                where,
                wanted=f"{declared.name} for {name}",
                found=describe(value),
            )

    def size_or_bind(self, expression: syntax.Expression, axis: Size) -> Size:
        """A size; a name that has none yet takes this one."""
        if isinstance(expression, syntax.Name) and self.known_size(expression.name) is None:
            self.scope.sizes[expression.name] = axis
            return axis
        return self.size(expression)

    def result(self, statement: syntax.Return) -> Value:
        values = [self.evaluate(expression) for expression in statement.values]
        results = self.instance.block.results
        if len(results) != len(values):
            raise UserError(
                "language.result_count", statement.where, wanted=len(results), found=len(values)
            )
        for parameter, value in zip(results, values, strict=True):
            if parameter.kind is not None and isinstance(value, TensorValue):
                self.match(parameter.kind, value, parameter.name, statement.where)
        return values[0] if len(values) == 1 else TupleValue(tuple(values))

    # -- statements

    def run(self, statement: syntax.Statement) -> None:
        match statement:
            case syntax.Weight():
                self.scope.names[statement.name.name] = self.weight(statement)
            case syntax.State():
                self.scope.names[statement.name.name] = self.state(statement)
            case syntax.Part():
                self.scope.names[statement.name.name] = self.part(statement)
            case syntax.Assign():
                self.assign(statement)
            case syntax.Loop():
                self.model.loop(self, statement)
            case syntax.Return():
                raise AssertionError("handled by call")

    def weight(self, statement: syntax.Weight) -> TensorValue:
        assert statement.kind.sizes is not None and statement.kind.name is not None
        declared = self.format_of(statement.kind.name)
        axes = tuple(self.size(expression) for expression in statement.kind.sizes)
        suffix = statement.checkpoint
        if isinstance(suffix, syntax.Name):
            held = self.evaluate(suffix)
            if not isinstance(held, TextValue):
                raise UserError(
                    "language.value_kind", suffix.where, wanted="a text", found=describe(held)
                )
            name = held.value
        else:
            name = self.instance.prefix + suffix.value
        return self.model.weight(self, name, axes, declared, statement.where)

    def state(self, statement: syntax.State) -> StateValue:
        return self.model.state(self, statement)

    def part(self, statement: syntax.Part) -> PartValue:
        """Instantiate a block; the same part of the same instance is made once."""
        held = self.instance.parts.get(statement.name.name)
        if held is None:
            held = self.model.part(self, statement)
            self.instance.parts[statement.name.name] = held
        assert isinstance(held, PartValue)
        return held

    def assign(self, statement: syntax.Assign) -> None:
        if len(statement.targets) == 1 and statement.targets[0].indices:
            self.define(statement.targets[0], self.equation(statement))
            return
        value = self.evaluate(statement.value)
        if isinstance(value, TensorValue) and value.labels:
            raise UserError(
                "language.indices_left", statement.where, name=statement.targets[0].name
            )
        values = value.items if isinstance(value, TupleValue) else (value,)
        if len(values) != len(statement.targets):
            raise UserError(
                "language.target_count",
                statement.where,
                wanted=len(statement.targets),
                found=len(values),
            )
        for target, item in zip(statement.targets, values, strict=True):
            self.define(target, item)

    def define(self, target: syntax.Target, value: Value) -> None:
        if isinstance(value, TensorValue) and not self.instance.anonymous:
            name_value(value.ssa, self.instance.named(target.name))
        self.scope.names[target.name] = value

    def equation(self, statement: syntax.Assign) -> TensorValue:
        """`x[t, d] = ...`: evaluate with indices, then bring the axes to the left side's order."""
        target = statement.targets[0]
        self.index_sizes = {}
        value = self.evaluate(statement.value)
        wanted = tuple(index.name for index in target.indices)
        labels = (value.labels or ()) if isinstance(value, TensorValue) else ()
        if not isinstance(value, TensorValue) or sorted(labels) != sorted(wanted):
            raise UserError(
                "language.equation",
                statement.where,
                wanted=", ".join(wanted),
                found=", ".join(labels) or describe(value),
            )
        order = [labels.index(label) for label in wanted]
        turned = equations.transpose(self.function, value, order, statement.where)
        return TensorValue(turned.ssa, turned.axes)

    # -- names, sizes, formats

    def lookup(self, name: str) -> Value | None:
        held = self.scope.names.get(name)
        return held if held is not None else self.model.lookup(name, self.function)

    def known_size(self, name: str) -> Size | None:
        if name in self.scope.sizes:
            return self.scope.sizes[name]
        held = self.lookup(name)
        return held.size if isinstance(held, Number) else None

    def size(self, expression: syntax.Expression) -> Size:
        """An expression in a place where a size stands."""
        if isinstance(expression, syntax.Name) and expression.name in self.scope.sizes:
            return self.scope.sizes[expression.name]
        if isinstance(expression, syntax.Name) and expression.name in ("T", "B"):
            return TOKENS if expression.name == "T" else SEQUENCES
        if isinstance(expression, syntax.Operation):
            return self.size_operation(expression)
        value = self.evaluate(expression)
        if isinstance(value, Number | SizeValue) and value.size is not None:
            return value.size
        raise UserError("language.size_kind", expression.where, found=describe(value))

    def size_operation(self, expression: syntax.Operation) -> Size:
        sizes = [self.size(operand) for operand in expression.operands]
        match expression.symbol:
            case "+":
                return sizes[0] + sizes[1]
            case "-":
                return sizes[0] - sizes[1]
            case "*":
                return sizes[0] * sizes[1]
            case "/":
                quotient = sizes[0].divided(sizes[1])
                if quotient is not None:
                    return quotient
        raise UserError("language.size_operation", expression.where, symbol=expression.symbol)

    def format_of(self, reference: syntax.Name | syntax.Field) -> FormatValue:
        value = self.evaluate(reference)
        if not isinstance(value, FormatValue):
            raise UserError(
                "language.value_kind", reference.where, wanted="a format", found=describe(value)
            )
        return value

    # -- expressions

    def evaluate(self, expression: syntax.Expression) -> Value:
        match expression:
            case syntax.Number():
                whole = isinstance(expression.value, int) and not isinstance(expression.value, bool)
                size = Size.of(int(expression.value)) if whole else None
                return Number(expression.value, size)
            case syntax.Text():
                return TextValue(expression.value)
            case syntax.Nothing():
                return NothingValue()
            case syntax.Name():
                return self.name(expression)
            case syntax.Field():
                return self.model.column(self.instance, expression)
            case syntax.Operation():
                return self.operation(expression)
            case syntax.Call():
                return self.call_expression(expression)
            case syntax.Item():
                return self.item(expression)
            case syntax.Sum():
                return self.sum(expression)
            case syntax.Sequence():
                return TupleValue(tuple(self.evaluate(item) for item in expression.items))

    def name(self, expression: syntax.Name) -> Value:
        held = self.lookup(expression.name)
        if held is None and (expression.name in self.scope.sizes or expression.name in ("T", "B")):
            size = self.size(expression)
            value = self.function.size(size, expression.where)
            return SizeValue(size) if value == DYNAMIC else Number(value, size)
        if held is None:
            raise UserError("language.unknown_name", expression.where, name=expression.name, hint="")
        return held

    def operation(self, expression: syntax.Operation) -> Value:
        values = [self.evaluate(operand) for operand in expression.operands]
        if any(isinstance(value, SizeValue) for value in values):
            return SizeValue(self.size(expression))
        for value in values:
            if not isinstance(value, Number | TensorValue):
                raise UserError("language.arithmetic", expression.where, found=describe(value))
        if all(isinstance(value, Number) for value in values):
            return self.arithmetic(expression, values)  # type: ignore[arg-type]
        if expression.symbol == "neg":
            return builtins.unary(self, "neg", values[0], expression.where)
        if expression.symbol == "^":
            raise UserError("language.power", expression.where)
        a, b = values
        assert isinstance(a, Number | TensorValue) and isinstance(b, Number | TensorValue)
        return equations.binary(self.function, expression.symbol, a, b, expression.where)

    def arithmetic(self, expression: syntax.Operation, values: list[Number]) -> Number:
        """Numbers stay numbers; whole numbers keep their expression."""
        numbers = [value.value for value in values]
        sizes = [value.size for value in values]
        try:
            result = _compute(expression.symbol, numbers)
        except (ZeroDivisionError, OverflowError):
            raise UserError("language.number", expression.where) from None
        if isinstance(result, complex) or expression.symbol in ("neg", "^") or None in sizes:
            if isinstance(result, complex):
                raise UserError("language.number", expression.where)
            return Number(result)
        size = self.size_operation(expression) if expression.symbol in "+-*" else None
        if expression.symbol == "/" and sizes[0] is not None and sizes[1] is not None:
            size = sizes[0].divided(sizes[1])
        return Number(result, size)

    def call_expression(self, expression: syntax.Call) -> Value:
        """A builtin, a part, or a block without weights."""
        callee = expression.callee
        if isinstance(callee, syntax.Name) and (
            callee.name in builtins.BUILTINS or self.lookup(callee.name) is None
        ):
            return builtins.call(self, callee, expression)
        held = self.evaluate(callee)
        if any(isinstance(argument, syntax.Keyword) for argument in expression.arguments):
            raise UserError("language.no_keywords", expression.where, name=describe(held))
        values = [self.evaluate(argument) for argument in expression.arguments]  # type: ignore[arg-type]
        if isinstance(held, BlockValue):
            place = self.instance
            instance = Instance(
                held.block, place.path, place.prefix, row=place.row, anonymous=True
            )
            return self.model.call(self, instance, values, expression.where)
        if not isinstance(held, PartValue):
            raise UserError("language.not_callable", expression.where, found=describe(held))
        if held.rows or held.experts:
            name = held.instance.block.name
            raise UserError("language.many", expression.where, name=name)
        return self.model.call(self, held.instance, values, expression.where)

    def item(self, expression: syntax.Item) -> Value:
        """`x[t, d]` with index names, `scale[0]` with numbers."""
        value = self.evaluate(expression.value)
        if not isinstance(value, TensorValue) or value.labels:
            raise UserError("language.not_indexable", expression.where, found=describe(value))
        if len(expression.indices) != len(value.axes):
            raise UserError(
                "language.index_count",
                expression.where,
                count=len(expression.indices),
                found=show(value.axes),
            )
        labels: list[str] = []
        for axis in reversed(range(len(value.axes))):
            index = expression.indices[axis]
            constant = self.constant_index(index)
            if constant is None:
                labels.insert(0, self.label(index, value.axes[axis]))
            else:
                value = self.pick(value, axis, constant, index.where)
        if len(set(labels)) < len(labels):
            raise UserError("language.index_repeated", expression.where)
        return TensorValue(
            value.ssa, value.axes, tuple(labels) or None, value.stacked, value.format
        )

    def constant_index(self, index: syntax.Expression) -> int | None:
        if isinstance(index, syntax.Name) and self.lookup(index.name) is None:
            return None
        held = self.evaluate(index)
        if isinstance(held, Number) and isinstance(held.value, int):
            return held.value
        raise UserError("language.index_kind", index.where, found=describe(held))

    def label(self, index: syntax.Expression, axis: Size) -> str:
        """The label of an axis; an index over T reads an axis B by the sequence of its token."""
        assert isinstance(index, syntax.Name)
        wanted = TOKENS if axis == SEQUENCES else axis
        known = self.index_sizes.setdefault(index.name, wanted)
        if known == wanted:
            return (equations.PER_SEQUENCE if axis == SEQUENCES else "") + index.name
        raise UserError(
            "language.index_size", index.where, name=index.name, wanted=known, found=axis
        )

    def pick(self, value: TensorValue, axis: int, index: int, where: Spot) -> TensorValue:
        """One element of an axis, without the axis."""
        from supertile.ir import graph

        count = self.function.size(value.axes[axis], where)
        if not 0 <= index < count:
            raise UserError("language.index_range", where, index=index, count=count)
        op = self.function.emit(graph.Slice, [value.ssa], where, axis=axis, start=index, size=1)
        one = (*value.axes[:axis], Size.of(1), *value.axes[axis + 1 :])
        rest = value.axes[:axis] + value.axes[axis + 1 :]
        return equations.reshape(self.function, TensorValue(op.results[0], one), rest, where)

    def sum(self, expression: syntax.Sum) -> Value:
        """A sum of products becomes one einsum; any other body is computed, then summed."""
        summed = [index.name for index in expression.indices]
        numbers: list[Number] = []
        factors: list[TensorValue] = []
        for part in _factors(expression.body):
            value = self.evaluate(part)
            if isinstance(value, Number):
                numbers.append(value)
            elif isinstance(value, TensorValue) and (value.labels or not value.axes):
                factors.append(value)
            else:
                raise UserError("language.sum_body", part.where, found=describe(value))
        scalars = [value for value in factors if not value.axes]
        factors = [value for value in factors if value.axes]
        result = equations.contract(self.function, factors, summed, expression.where)
        for factor in (*numbers, *scalars):
            result = equations.binary(self.function, "*", result, factor, expression.where)
        return result


def _factors(body: syntax.Expression) -> list[syntax.Expression]:
    if isinstance(body, syntax.Operation) and body.symbol == "*":
        return [factor for operand in body.operands for factor in _factors(operand)]
    return [body]


def _compute(symbol: str, numbers: list[int | float]) -> int | float | complex:
    match symbol:
        case "neg":
            return -numbers[0]
        case "+":
            return numbers[0] + numbers[1]
        case "-":
            return numbers[0] - numbers[1]
        case "*":
            return numbers[0] * numbers[1]
        case "/":
            quotient = Fraction(numbers[0]) / Fraction(numbers[1])
            whole = all(isinstance(number, int) for number in numbers)
            return int(quotient) if whole and quotient.denominator == 1 else float(quotient)
        case _:
            if abs(numbers[1]) > 64:
                raise OverflowError
            power: int | float | complex = numbers[0] ** numbers[1]
            return power


__all__ = ["Evaluator", "RopeValue", "inputs_of", "settings_of"]
