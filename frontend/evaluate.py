"""Runs a block body at build time: statements in order, expressions to values, ops as a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supertile.frontend import arithmetic, builtins, equations, indexing, syntax
from supertile.frontend.dimensions import Size, show
from supertile.frontend.function_builder import SEQUENCES, TOKENS, FunctionBuilder, name_value
from supertile.frontend.functions import unary
from supertile.frontend.instance import Instance, inputs_of, needs_part
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    NothingValue,
    Number,
    PartValue,
    Scope,
    SizeValue,
    TensorValue,
    TextValue,
    TupleValue,
    Value,
    describe,
    sort_of,
    sort_of_format,
)
from supertile.ir.errors import Spot, UserError
from supertile.ir.types import DYNAMIC

if TYPE_CHECKING:
    from supertile.frontend.build import ModelBuilder

RUN_TIME_SIZES = {"T": TOKENS, "B": SEQUENCES}


@dataclass(frozen=True)
class Experts:
    """What a block that runs for every expert works on: how many rows each expert has, and all."""

    counts: TensorValue
    rows: Size


class Evaluator:
    """One call of one instance. Inside `experts`, weights have an expert axis."""

    def __init__(
        self,
        model: ModelBuilder,
        function: FunctionBuilder,
        instance: Instance,
        experts: Experts | None = None,
    ) -> None:
        self.model = model
        self.function = function
        self.instance = instance
        self.experts = experts
        self.scope = Scope(dict(instance.settings))
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
        *body, last = block.statements
        for statement in body:
            self.run(statement)
        assert isinstance(last, syntax.Return)  # checked by check_program
        return self.result(last)

    def bind(self, parameter: syntax.Parameter, value: Value, where: Spot) -> None:
        """Check a value against a parameter's kind, binding the size names it introduces."""
        kind = parameter.kind
        if isinstance(value, TensorValue):
            check_whole(value, where)
        if kind is not None and isinstance(value, TensorValue):
            self.match(kind, value, parameter.name, where)
        elif kind is not None and not isinstance(value, Number | NothingValue):
            wanted = f"a tensor for {parameter.name}"
            raise UserError("language.value_kind", where, wanted=wanted, found=describe(value))
        self.scope.names[parameter.name] = value

    def match(self, kind: syntax.Kind, value: TensorValue, name: str, where: Spot) -> None:
        assert kind.sizes is not None
        if len(kind.sizes) != len(value.axes):
            wanted, found = len(kind.sizes), show(value.axes)
            raise UserError("language.rank", where, name=name, wanted=wanted, found=found)
        for expression, axis in zip(kind.sizes, value.axes, strict=True):
            size = self.size_or_bind(expression, axis)
            if size != axis:
                found = show(value.axes)
                raise UserError("language.size", where, name=name, wanted=size, found=found)
        if kind.name is None:
            return
        declared = self.format_of(kind.name)
        if sort_of_format(declared) != sort_of(value):
            wanted_kind = f"{declared.name} for {name}"
            raise UserError("language.value_kind", where, wanted=wanted_kind, found=describe(value))

    def size_or_bind(self, expression: syntax.Expression, axis: Size) -> Size:
        """A size; a name that means nothing yet takes this one."""
        if isinstance(expression, syntax.Name) and self.is_free(expression.name):
            self.scope.sizes[expression.name] = axis
            return axis
        return self.size(expression)

    def is_free(self, name: str) -> bool:
        is_size = name in self.scope.sizes or name in RUN_TIME_SIZES
        return not is_size and self.lookup(name) is None

    def result(self, statement: syntax.Return) -> Value:
        values = [self.evaluate(expression) for expression in statement.values]
        results = self.instance.block.results
        for parameter, expression, value in zip(results, statement.values, values, strict=True):
            self.check_result(parameter, value, expression.where)
        return values[0] if len(values) == 1 else TupleValue(tuple(values))

    def check_result(self, parameter: syntax.Parameter, value: Value, where: Spot) -> None:
        if isinstance(value, TensorValue):
            check_whole(value, where)
        wanted = "one value" if parameter.kind is None else f"a tensor for {parameter.name}"
        if isinstance(value, TupleValue) or (
            parameter.kind is not None and not isinstance(value, TensorValue)
        ):
            raise UserError("language.value_kind", where, wanted=wanted, found=describe(value))
        if parameter.kind is not None and isinstance(value, TensorValue):
            self.match(parameter.kind, value, parameter.name, where)

    # -- statements

    def run(self, statement: syntax.Statement) -> None:
        names = self.scope.names
        self.index_sizes = {}
        match statement:
            case syntax.Weight():
                names[statement.name.name] = self.weight(statement)
            case syntax.State():
                names[statement.name.name] = self.model.state(self, statement)
            case syntax.Part():
                names[statement.name.name] = self.part(statement)
            case syntax.Assign():
                self.assign(statement)
            case syntax.Loop():
                self.model.loop(self, statement)

    def weight(self, statement: syntax.Weight) -> TensorValue:
        assert statement.kind.sizes is not None and statement.kind.name is not None
        declared = self.format_of(statement.kind.name)
        axes = tuple(self.size(expression) for expression in statement.kind.sizes)
        suffix = statement.checkpoint
        if isinstance(suffix, syntax.Text):
            name = self.instance.prefix + suffix.value
        else:
            held = self.evaluate(suffix)
            if not isinstance(held, TextValue):
                found = describe(held)
                raise UserError("language.value_kind", suffix.where, wanted="a text", found=found)
            name = held.value
        return self.model.weight(self, name, axes, declared, statement.where)

    def part(self, statement: syntax.Part) -> PartValue:
        """Instantiate a block; the same part of the same instance is made once."""
        name = statement.name.name
        if name not in self.instance.parts:
            self.instance.parts[name] = self.model.part(self, statement)
        return self.instance.parts[name]

    def assign(self, statement: syntax.Assign) -> None:
        if statement.targets[0].indices:
            self.define(statement.targets[0], indexing.equation(self, statement))
            return
        value = self.evaluate(statement.value)
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

    # -- names, sizes, formats

    def lookup(self, name: str) -> Value | None:
        held = self.scope.names.get(name)
        return held if held is not None else self.model.lookup(name, self.function)

    def name(self, expression: syntax.Name) -> Value:
        held = self.lookup(expression.name)
        if held is not None:
            return held
        size = self.scope.sizes.get(expression.name) or RUN_TIME_SIZES.get(expression.name)
        if size is None:
            raise UserError(
                "language.unknown_name", expression.where, name=expression.name, hint=""
            )
        value = self.function.size(size, expression.where)
        return SizeValue(size) if value == DYNAMIC else Number(value, size)

    def size(self, expression: syntax.Expression) -> Size:
        """An expression in a place where a size stands."""
        value = self.evaluate(expression)
        if not isinstance(value, Number | SizeValue) or value.size is None:
            raise UserError("language.size_kind", expression.where, found=describe(value))
        return value.size

    def format_of(self, reference: syntax.Name | syntax.Field) -> FormatValue:
        value = self.evaluate(reference)
        if not isinstance(value, FormatValue):
            found = describe(value)
            raise UserError("language.value_kind", reference.where, wanted="a format", found=found)
        return value

    # -- expressions

    def evaluate(self, expression: syntax.Expression) -> Value:
        match expression:
            case syntax.Number(value=int() as number):
                return Number(number, Size.of(number))
            case syntax.Number():
                return Number(expression.value)
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
                return indexing.item(self, expression)
            case syntax.Sum():
                return indexing.total(self, expression)
            case syntax.Flag():  # refused by check_program
                raise AssertionError
            case syntax.Sequence():
                return TupleValue(tuple(self.evaluate(item) for item in expression.items))

    def operation(self, expression: syntax.Operation) -> Value:
        values = [self.evaluate(operand) for operand in expression.operands]
        known = [value for value in values if isinstance(value, Number | SizeValue)]
        if len(known) == len(values):
            return arithmetic.combine(expression.symbol, known, expression.where)
        operands = [value for value in values if isinstance(value, Number | TensorValue)]
        if len(operands) < len(values):
            wrong = next(v for v in values if not isinstance(v, Number | TensorValue))
            raise UserError("language.arithmetic", expression.where, found=describe(wrong))
        if expression.symbol in "^%":
            raise UserError("language.power", expression.where, symbol=expression.symbol)
        if expression.symbol == "neg":
            return unary(self, "neg", operands[0], expression.where)
        a, b = operands
        return equations.binary(self.function, expression.symbol, a, b, expression.where)

    def call_expression(self, expression: syntax.Call) -> Value:
        """A builtin, a part, or a block without weights."""
        callee = expression.callee
        if isinstance(callee, syntax.Name) and callee.name in builtins.BUILTINS:
            return builtins.call(self, callee, expression)
        held = self.evaluate(callee)
        if not isinstance(held, BlockValue | PartValue):
            raise UserError("language.not_callable", expression.where, found=describe(held))
        values = []
        for argument in expression.arguments:
            if isinstance(argument, syntax.Keyword):
                raise UserError("language.no_keywords", argument.where, name=describe(held))
            values.append(self.evaluate(argument))
        if isinstance(held, PartValue) and (held.rows or held.experts):
            name = held.instance.block.name
            raise UserError("language.many", expression.where, name=name)
        if isinstance(held, BlockValue) and needs_part(held.block):
            raise UserError("language.needs_part", expression.where, name=held.block.name)
        instance = held.instance if isinstance(held, PartValue) else self.nameless(held.block)
        return self.model.call(self, instance, values, expression.where)

    def nameless(self, block: syntax.Block) -> Instance:
        """A block called without a part: its values have no names of their own."""
        place = self.instance
        return Instance(block, place.path, place.prefix, row=place.row, anonymous=True)


def check_whole(value: TensorValue, where: Spot) -> None:
    if value.labels:
        raise UserError("language.whole_tensor", where, found=describe(value))
