"""Types and attributes that the dialects share: block-scaled encodings, ropes, state kinds.

Tensors are builtin tensors. A tensor of FP8 or FP4 elements carries its scales in its encoding, so
one value holds codes and scales and nothing can lose the scales.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    DYNAMIC_INDEX,
    ArrayAttr,
    BFloat16Type,
    Float4E2M1FNType,
    Float8E4M3FNType,
    Float8E8M0FNUType,
    Float16Type,
    Float32Type,
    FloatData,
    IndexType,
    IntAttr,
    IntegerType,
    NoneAttr,
    StringAttr,
    TensorType,
    bf16 as bf16,
    f16 as f16,
    f32 as f32,
    i1 as i1,
    i8 as i8,
    i32 as i32,
    i64 as i64,
)
from xdsl.ir import Attribute, ParametrizedAttribute, SSAValue
from xdsl.irdl import BaseAttr, irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

DYNAMIC = DYNAMIC_INDEX

f8e4m3 = Float8E4M3FNType()
f4e2m1 = Float4E2M1FNType()
f8e8m0 = Float8E8M0FNUType()
index = IndexType()

# Names of the language and of the runtime -> element types. The order is the order of messages.
ELEMENTS: dict[str, Attribute] = {
    "f32": f32,
    "bf16": bf16,
    "f16": f16,
    "f8e4m3": f8e4m3,
    "f4e2m1": f4e2m1,
    "f8e8m0": f8e8m0,
    "i64": i64,
    "i32": i32,
    "i1": i1,
}
# Elements that no model declares: passes bring a model to them.
MACHINE_ELEMENTS: dict[str, Attribute] = {"i8": i8}
ELEMENT_NAMES: dict[Attribute, str] = {
    value: key for key, value in {**ELEMENTS, **MACHINE_ELEMENTS}.items()
}
ELEMENT_BITS: dict[Attribute, int] = {
    f32: 32,
    bf16: 16,
    f16: 16,
    f8e4m3: 8,
    f4e2m1: 4,
    f8e8m0: 8,
    i64: 64,
    i32: 32,
    i1: 8,
    i8: 8,
}
# The elements that a model may declare with scales.
SCALED_ELEMENTS = (f8e4m3, f4e2m1)
# Format -> the formats that hold each of its numbers exactly, nearest first: what a kernel may
# decode it to. Scales stay apart.
DECODED_AS: dict[str, tuple[str, ...]] = {
    "f4e2m1": ("f8e4m3", "bf16", "f16", "f32"),
    "f8e4m3": ("bf16", "f16", "f32"),
    "i8": ("bf16", "f16", "f32"),
    "bf16": ("f32",),
    "f16": ("f32",),
}
FLOAT_TYPES = (Float32Type, BFloat16Type, Float16Type)


def is_scaled(kind: TensorType[Attribute]) -> bool:
    """Whether the tensor holds codes with scales."""
    return isinstance(kind.encoding, MxAttr)


def is_float(element: Attribute) -> bool:
    """Whether the element is a plain (unscaled) floating-point number."""
    return isinstance(element, FLOAT_TYPES)


def is_integer(element: Attribute) -> bool:
    return isinstance(element, IntegerType)


def tensor(
    shape: Sequence[int], element: Attribute, encoding: Attribute | None = None
) -> TensorType[Attribute]:
    """A tensor type; `DYNAMIC` marks a size known at run time."""
    return TensorType(element, shape, NoneAttr() if encoding is None else encoding)


def type_of(value: SSAValue) -> TensorType[Attribute]:
    """The tensor type of a value; callers have verified that it is a tensor."""
    kind = value.type
    assert isinstance(kind, TensorType)
    return kind


def _float_text(value: float) -> str:
    """Shortest digits that give the number back, in the grammar of IR text: 1.0e-05."""
    mantissa, e, exponent = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa or not e else ".0") + e + exponent


@irdl_attr_definition
class MxAttr(ParametrizedAttribute):
    """Block scales: one scale for each block of the trailing dimensions.

    `#graph.mx<[128, 128], f8E8M0FNU>`: value[i, j] = code[i, j] * scale[i // 128, j // 128].
    The last block of a dimension may be partial.
    """

    name = "graph.mx"
    block: ArrayAttr[IntAttr] = param_def()
    scale: Attribute = param_def()

    @staticmethod
    def of(block: Sequence[int], scale: Attribute = f8e8m0) -> MxAttr:
        return MxAttr(ArrayAttr([IntAttr(size) for size in block]), scale)

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size.data for size in self.block)

    def verify(self) -> None:
        if any(size.data < 1 for size in self.block):
            raise VerifyException(f"block sizes must be at least 1, got {list(self.sizes)}")
        if self.scale not in (f8e8m0, f32):
            raise VerifyException(f"scales are f8E8M0FNU or f32, got {self.scale}")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(list(self.sizes)) + ", ")
            printer.print_attribute(self.scale)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            sizes = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: IntAttr(parser.parse_integer())
            )
            parser.parse_punctuation(",")
            return [ArrayAttr(sizes), parser.parse_type()]


@irdl_attr_definition
class RopeAttr(ParametrizedAttribute):
    """A rotary embedding: which channels turn, in which pairs, at which frequencies.

    The last `dims` channels turn; pair i turns by position * f_i with f_i = theta^(-2i/dims),
    changed by `scaling` (default, linear, yarn, llama3). cos and sin are multiplied by `magnitude`.
    Sources: RoPE arXiv 2104.09864; YaRN arXiv 2309.00071; transformers `modeling_rope_utils`.
    """

    name = "graph.rope"
    words: ArrayAttr[StringAttr] = param_def()
    numbers: ArrayAttr[FloatData] = param_def()

    WORDS: ClassVar[tuple[str, ...]] = ("pairs", "scaling")
    SCALINGS: ClassVar[tuple[str, ...]] = ("default", "linear", "yarn", "llama3")
    NUMBERS: ClassVar[tuple[str, ...]] = (
        "dims",
        "theta",
        "factor",
        "original",
        "beta_fast",
        "beta_slow",
        "low_frequency",
        "high_frequency",
        "magnitude",
    )

    @staticmethod
    def of(**fields: str | float) -> RopeAttr:
        return RopeAttr(
            ArrayAttr([StringAttr(str(fields[key])) for key in RopeAttr.WORDS]),
            ArrayAttr([FloatData(float(fields[key])) for key in RopeAttr.NUMBERS]),
        )

    def fields(self) -> dict[str, str | float]:
        """Name -> value, the form that the NumPy function takes."""
        words = {key: word.data for key, word in zip(self.WORDS, self.words, strict=True)}
        numbers = {key: number.data for key, number in zip(self.NUMBERS, self.numbers, strict=True)}
        return {**words, **numbers}

    @property
    def dims(self) -> int:
        return int(self.numbers.data[0].data)

    def verify(self) -> None:
        if len(self.words) != len(self.WORDS) or len(self.numbers) != len(self.NUMBERS):
            raise VerifyException("a rope has 2 words and 9 numbers")
        if self.dims % 2 or self.dims < 2:
            raise VerifyException(f"a rope turns an even number of channels, got {self.dims}")
        if self.words.data[0].data not in ("interleaved", "halves"):
            raise VerifyException(f"pairs are interleaved or halves, got {self.words.data[0]}")
        if self.words.data[1].data not in self.SCALINGS:
            raise VerifyException(f"scalings are {', '.join(self.SCALINGS)}")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            for position, (key, value) in enumerate(self.fields().items()):
                printer.print_string(", " if position else "")
                printer.print_string(f"{key} = ")
                if isinstance(value, str):
                    printer.print_string_literal(value)
                else:
                    printer.print_string(_float_text(value))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        words: list[StringAttr] = []
        numbers: list[FloatData] = []
        with parser.in_angle_brackets():
            for position, key in enumerate(cls.WORDS + cls.NUMBERS):
                if position:
                    parser.parse_punctuation(",")
                parser.parse_keyword(key)
                parser.parse_punctuation("=")
                if key in cls.WORDS:
                    words.append(StringAttr(parser.parse_str_literal()))
                else:
                    numbers.append(FloatData(float(parser.parse_number())))
        return [ArrayAttr(words), ArrayAttr(numbers)]


@irdl_attr_definition
class StateAttr(ParametrizedAttribute):
    """Marks a function argument as state: what kind, which name, which parameters.

    ring: [window]; blocks: [ratio], one entry for each `ratio` tokens; partial: [ratio, overlap].
    """

    name = "graph.state"
    kind: StringAttr = param_def(BaseAttr(StringAttr))
    state: StringAttr = param_def(BaseAttr(StringAttr))
    parameters_: ArrayAttr[IntAttr] = param_def()

    KINDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "ring": ("window",),
        "blocks": ("ratio",),
        "partial": ("ratio", "overlap"),
    }

    @staticmethod
    def of(kind: str, state: str, sizes: Sequence[int]) -> StateAttr:
        return StateAttr(
            StringAttr(kind), StringAttr(state), ArrayAttr([IntAttr(size) for size in sizes])
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size.data for size in self.parameters_)

    def verify(self) -> None:
        expected = self.KINDS.get(self.kind.data)
        if expected is None:
            raise VerifyException(f"state kinds are {', '.join(self.KINDS)}, got {self.kind.data}")
        if len(expected) != len(self.parameters_):
            raise VerifyException(f"{self.kind.data} takes {expected}, got {list(self.sizes)}")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(self.kind.data)
            printer.print_string(", ")
            printer.print_string_literal(self.state.data)
            printer.print_string(f", {list(self.sizes)}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            kind = StringAttr(parser.parse_str_literal())
            parser.parse_punctuation(",")
            state = StringAttr(parser.parse_str_literal())
            parser.parse_punctuation(",")
            sizes = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: IntAttr(parser.parse_integer())
            )
            return [kind, state, ArrayAttr(sizes)]
