"""What every op of our dialects shares: one text form, properties as Python values, construction.

    %y = graph.linear %x, %w {key = value} : (operand types) -> result types

Ops are built with `create`, which infers the result types from the shape rule of the op, so that
a builder never states a shape that the verifier then checks against itself.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import Any, TypeVar

from xdsl.dialects.builtin import (
    I64,
    ArrayAttr,
    DenseArrayBase,
    FloatAttr,
    FunctionType,
    IntegerAttr,
    StringAttr,
    SymbolRefAttr,
    TensorType,
    UnitAttr,
    f64,
    i32,
    i64,
)
from xdsl.ir import Attribute, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation
from xdsl.parser import Parser
from xdsl.printer import Printer

from supertile.ir.types import DYNAMIC, RopeAttr

OpType = TypeVar("OpType", bound="SupertileOp")

# Scalars of every op have one type, so that text needs no choice between widths.
Integer = IntegerAttr[I64]
Integers = DenseArrayBase


class SupertileOp(IRDLOperation, ABC):
    """An op whose custom text is its operands, properties, types and regions, in this order."""

    def print(self, printer: Printer) -> None:
        if self.operands:
            printer.print_string(" ")
            printer.print_list(self.operands, printer.print_ssa_value)
        if self.properties:
            printer.print_string(" ")
            printer.print_attr_dict(dict(sorted(self.properties.items())))
        printer.print_string(" : ")
        _print_types(printer, self.operands, self.results)
        for region in self.regions:
            printer.print_string(" ")
            printer.print_region(region)

    @classmethod
    def parse(cls: type[OpType], parser: Parser) -> OpType:
        unresolved = parser.parse_optional_undelimited_comma_separated_list(
            parser.parse_optional_unresolved_operand, parser.parse_unresolved_operand
        )
        properties = parser.parse_optional_attr_dict()
        parser.parse_punctuation(":")
        position = parser.pos
        kind = parser.parse_type()
        if not isinstance(kind, FunctionType):
            parser.raise_error("expected (operand types) -> result types", position)
        operands = parser.resolve_operands(unresolved or [], kind.inputs.data, position)
        regions: list[Region] = []
        while (region := parser.parse_optional_region()) is not None:
            regions.append(region)
        return cls.create(
            operands=operands,
            result_types=kind.outputs.data,
            properties=properties,
            regions=regions,
        )


def _print_types(printer: Printer, inputs: Sequence[SSAValue], outputs: Sequence[SSAValue]) -> None:
    """Prints what the function type of the op prints, without making one."""
    printer.print_string("(")
    printer.print_list([value.type for value in inputs], printer.print_attribute)
    printer.print_string(") -> ")
    alone = len(outputs) == 1 and not isinstance(outputs[0].type, FunctionType)
    printer.print_string("" if alone else "(")
    printer.print_list([value.type for value in outputs], printer.print_attribute)
    printer.print_string("" if alone else ")")


def python_value(attribute: Attribute) -> Any:
    """The Python value that a property stands for: the form the NumPy functions take."""
    match attribute:
        case IntegerAttr():
            return attribute.value.data
        case FloatAttr():
            return attribute.value.data
        case StringAttr():
            return attribute.data
        case UnitAttr():
            return True
        case DenseArrayBase():
            return tuple(attribute.get_values())
        case ArrayAttr():
            return tuple(python_value(item) for item in attribute)
        case SymbolRefAttr():
            return attribute.root_reference.data
        case RopeAttr():
            return attribute.fields()
        case _:
            return attribute


def attribute_of(value: Any) -> Attribute:
    """The property that holds a Python value; the inverse of `python_value`."""
    match value:
        case Attribute():
            return value
        case True:
            return UnitAttr()
        case int():
            return IntegerAttr(value, i64)
        case float():
            return FloatAttr(value, f64)
        case str():
            return StringAttr(value)
        case list() | tuple():
            return DenseArrayBase.from_list(i64, list(value))
        case _:
            raise TypeError(f"no property holds {value!r}")


def properties_of(op: Operation) -> dict[str, Any]:
    """All properties of an op as Python values, without the operand segments."""
    return {
        key: python_value(value)
        for key, value in op.properties.items()
        if key != "operandSegmentSizes"
    }


def segments(groups: Sequence[Sequence[SSAValue]]) -> DenseArrayBase:
    """The property that says how many operands each group of an op has."""
    return DenseArrayBase.from_list(i32, [len(group) for group in groups])


def shape_of(value: SSAValue) -> tuple[int, ...]:
    """Sizes of a tensor value, `DYNAMIC` where known only at run time; () for an index."""
    kind = value.type
    return tuple([size.data for size in kind.shape.data]) if isinstance(kind, TensorType) else ()


def fits(declared: Sequence[int], inferred: Sequence[int]) -> bool:
    """Whether two shapes can be the same: equal, or unknown on either side."""
    return len(declared) == len(inferred) and all(
        DYNAMIC in pair or pair[0] == pair[1] for pair in zip(declared, inferred, strict=True)
    )
