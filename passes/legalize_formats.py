"""Brings numbers with scales to formats that a machine stores and multiplies.

    %w = graph.weight {checkpoint = "w"} : () -> tensor<16x64xf4E2M1FN, mx<[1, 32], f8E8M0FNU>>
    %q = graph.quantize %x : (...) -> tensor<?x64xf8E4M3FN, mx<[1, 32], f8E8M0FNU>>
->
    %w = graph.weight {checkpoint = "w", stored = tensor<16x64xf4E2M1FN, ...>} : ()
           -> tensor<16x64xi8, mx<[1, 64], f32>>        one scale for each output channel
    %q = graph.quantize %x : (...) -> tensor<?x64xi8, mx<[1, 64], f32>>    one for each token

A value that is quantised only to be dequantised, as caches hold it, keeps its block size. With
`to=bf16` weights become BF16 and nothing is quantised. Without options every format is legal. What
a kernel can decode is legal, too: its numbers are exact in a format that is multiplied.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, OpResult, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter

from supertile.ir import graph
from supertile.ir.errors import UserError, nearest
from supertile.ir.locations import location_text, name_of
from supertile.ir.shapes import COPIED, RULES
from supertile.ir.types import (
    DECODED_AS,
    DYNAMIC,
    ELEMENT_NAMES,
    ELEMENTS,
    MACHINE_ELEMENTS,
    MxAttr,
    bf16,
    f32,
    i8,
    is_float,
    is_scaled,
    tensor,
    type_of,
)
from supertile.ir.walk import operations
from supertile.passes.rewriting import Equivalence, Pass, Rewrites, rewrites_of

Tensor = TensorType[Attribute]

# The operands that each product multiplies, by name.
FACTORS: dict[type[Operation], tuple[str, ...]] = {
    graph.Linear: ("x", "w"),
    graph.GroupedLinear: ("x", "w"),
    graph.Einsum: ("inputs",),
    graph.Attend: ("q", "keys", "values"),
}
FORMATS: dict[str, Attribute] = {
    name: element
    for name, element in {**ELEMENTS, **MACHINE_ELEMENTS}.items()
    if is_float(element) or name in DECODED_AS
}


@dataclass(frozen=True)
class LegalizeFormats(Pass):
    """FP4, FP8 -> INT8 or BF16, where a machine neither stores nor decodes them."""

    name = "legalize-formats"
    equivalence: ClassVar[Equivalence] = "convert"

    stored: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    to: Literal["i8", "bf16"] = "i8"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if not self.stored and not self.computed:
            return
        self.check_options()
        for function in op.ops:
            _Conversion(self, function, rewrites_of(ctx)).run()
            self.check_left(function)

    def is_stored(self, name: str) -> bool:
        return not self.stored or name in self.stored

    def is_multiplied(self, name: str) -> bool:
        """Whether products take the format, or one that holds its numbers exactly."""
        held = (name, *DECODED_AS.get(name, ()))
        return not self.computed or any(form in self.computed for form in held)

    def is_legal(self, name: str) -> bool:
        return self.is_stored(name) and self.is_multiplied(name)

    def check_options(self) -> None:
        for option in ("stored", "computed"):
            for name in getattr(self, option):
                if name not in FORMATS:
                    known, hint = ", ".join(FORMATS), nearest(name, FORMATS)
                    raise UserError(
                        "format.unknown", option=option, found=name, known=known, hint=hint
                    )

    def check_target(self) -> None:
        if not self.is_legal(self.to):
            known = ", ".join(name for name in FORMATS if self.is_legal(name))
            other = "bf16" if self.to == "i8" else "i8"
            raise UserError("format.target", to=self.to, known=known, other=other)

    def check_left(self, function: Operation) -> None:
        """Raise for what the pass cannot convert: plain floats, and codes from outside."""
        for op in operations(function):
            for value in (*op.operands, *op.results):
                self.check_value(op, value, "format.left", self.stored, self.is_stored)
            for value in factors(op):
                self.check_value(op, value, "format.product", self.computed, self.is_multiplied)

    def check_value(
        self, op: Operation, value: SSAValue, code: str, known: tuple[str, ...], legal: object
    ) -> None:
        assert callable(legal)
        name = format_of(value)
        if name in FORMATS and not legal(name):
            place = location_text(op.location)
            listed = ", ".join(known)
            raise UserError(code, op=op.name, place=place, format=name, known=listed)


def format_of(value: SSAValue) -> str:
    """The name of a tensor's element; empty for other values."""
    kind = value.type
    return ELEMENT_NAMES.get(kind.element_type, "") if isinstance(kind, TensorType) else ""


def factors(op: Operation) -> Iterator[SSAValue]:
    """The operands that a product multiplies; none of other ops."""
    for name in FACTORS.get(type(op), ()):
        held = getattr(op, name)
        yield from [held] if isinstance(held, SSAValue) else held


def copies(op: Operation) -> bool:
    """Whether the first result has the format of the first operand."""
    return type(op) in RULES and RULES[type(op)][1][:1] == (COPIED,)


def origin(value: SSAValue) -> SSAValue:
    """Where codes come from, behind what copies them and behind fused groups."""
    while isinstance(value, OpResult):
        op = value.op
        if isinstance(op, graph.Fused):
            last = op.body.block.last_op
            assert last is not None
            value = last.operands[value.index]
        elif copies(op):
            value = op.operands[0]
        else:
            break
    return value


@dataclass
class _Conversion:
    """One function: which of its codes are converted, and to what."""

    options: LegalizeFormats
    function: Operation
    rewrites: Rewrites
    converted: set[SSAValue] = field(default_factory=set)
    """Results of weights and quantisations, as they were, that are to be converted."""
    multiplied: set[SSAValue] = field(default_factory=set)
    """Those results that products take as codes."""

    def run(self) -> None:
        self.choose()
        if not self.converted:
            return
        self.options.check_target()
        handle = self.to_codes if self.options.to == "i8" else self.to_plain
        for op in operations(self.function, groups=True):
            if not self.follow(op):
                handle(op)

    def choose(self) -> None:
        """Fill the sets. The operands of a product are converted together, or not at all."""
        ops = operations(self.function)
        products = [group for op in ops if (group := self.codes_of(op))]
        for group in products:
            self.multiplied |= group
        for op in ops:
            if isinstance(op, graph.Weight | graph.Quantize) and self.is_illegal(op.result):
                self.converted.add(op.result)
        while mixed := [group for group in products if self.is_mixed(group)]:
            self.converted = self.converted.union(*mixed)

    def is_illegal(self, value: SSAValue) -> bool:
        return is_scaled(type_of(value)) and not self.options.is_legal(format_of(value))

    def is_mixed(self, codes: set[SSAValue]) -> bool:
        """Whether some of the codes of a product are converted, others not."""
        return 0 < len(codes & self.converted) < len(codes)

    def codes_of(self, op: Operation) -> set[SSAValue]:
        """The origins of the codes that a product takes."""
        found = {origin(value) for value in factors(op) if is_scaled(type_of(value))}
        return {value for value in found if isinstance(value, OpResult)}

    def follow(self, op: Operation) -> bool:
        """Copies of what was converted have its format; True if that is all there is to do."""
        if isinstance(op, graph.Yield):
            fused = op.parent_op()
            assert fused is not None
            for value, inner in zip(list(fused.results), op.operands, strict=True):
                self.retype(value, inner.type)
            return True
        if not copies(op) or not op.operands or not is_scaled(type_of(op.results[0])):
            return False
        source = type_of(op.operands[0])
        for value in list(op.results):
            if is_scaled(type_of(value)):
                shape = type_of(value).get_shape()
                self.retype(value, tensor(shape, source.element_type, source.encoding))
        return True

    def retype(self, value: SSAValue, kind: Attribute) -> None:
        if value.type != kind:
            Rewriter.replace_value_with_new_type(value, kind)

    # ---- INT8 ----------------------------------------------------------------------------------

    def to_codes(self, op: Operation) -> None:
        if isinstance(op, graph.Weight) and op.result in self.converted:
            self.convert_weight(op, _rows_of_codes(type_of(op.result)))
        if isinstance(op, graph.Quantize) and op.result in self.converted:
            kind = type_of(op.result)
            whole = op.result in self.multiplied
            self.retype(op.result, _rows_of_codes(kind) if whole else _same_blocks(kind))
            self.rewrites.count("quantise tokens" if whole else "quantise blocks")

    def convert_weight(self, op: graph.Weight, kind: Tensor) -> None:
        op.properties.setdefault("stored", type_of(op.result))
        self.retype(op.result, kind)
        self.rewrites.count("convert a weight")

    # ---- BF16 ----------------------------------------------------------------------------------

    def to_plain(self, op: Operation) -> None:
        if isinstance(op, graph.Weight) and op.result in self.converted:
            self.convert_weight(op, tensor(type_of(op.result).get_shape(), bf16))
        if isinstance(op, graph.Quantize) and op.result in self.converted:
            self.replace(op, tensor(type_of(op.result).get_shape(), bf16))
            self.rewrites.count("leave out a quantisation")
        if isinstance(op, graph.Dequantize) and not is_scaled(type_of(op.x)):
            self.replace(op, type_of(op.result))

    def replace(self, op: graph.Quantize | graph.Dequantize, kind: Tensor) -> None:
        """The operand in place of the result; by way of a cast if the types differ, or for a name.

        A named result may be traced.
        """
        value: SSAValue = op.x
        if op.x.type != kind or name_of(op.location):
            cast = graph.Cast.create(operands=[op.x], result_types=[kind], location=op.location)
            Rewriter.insert_op(cast, InsertPoint.before(op))
            cast.result.name_hint = op.result.name_hint
            value = cast.result
        op.result.replace_all_uses_with(value)
        Rewriter.erase_op(op)


def _rows_of_codes(kind: Tensor) -> Tensor:
    """INT8 with one scale for all of the last axis: for each token, or each output channel."""
    shape = kind.get_shape()
    if shape[-1] == DYNAMIC:
        return _same_blocks(kind)
    return tensor(shape, i8, MxAttr.of((1,) * (len(shape) - 1) + (shape[-1],), f32))


def _same_blocks(kind: Tensor) -> Tensor:
    assert isinstance(kind.encoding, MxAttr)
    return tensor(kind.get_shape(), i8, MxAttr.of(kind.encoding.sizes, f32))
