"""What an expression of the model language can be while a model is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, SSAValue

from supertile.frontend import syntax
from supertile.frontend.dimensions import Size, show
from supertile.frontend.families.common import Rope
from supertile.ir.types import ELEMENT_NAMES, f8e8m0, i1, is_float, is_integer, is_scaled, type_of

if TYPE_CHECKING:
    from supertile.frontend.instance import Instance

Row = Mapping[str, object]


@dataclass(frozen=True)
class Number:
    """A number known when the model is built; whole numbers also know their expression."""

    value: int | float
    size: Size | None = None


@dataclass(frozen=True)
class SizeValue:
    """A size that only a run determines, such as T."""

    size: Size


@dataclass(frozen=True)
class TextValue:
    value: str


@dataclass(frozen=True)
class NothingValue:
    """`none`."""


@dataclass(frozen=True)
class FormatValue:
    """A number format: plain, or codes with one scale for each block.

    `inputs` is the format to which a product brings the other operand, `result` the element that
    such a product rounds to, `after` a transform before rounding ("hadamard").
    """

    name: str
    element: Attribute
    block: tuple[int, ...] | None = None
    inputs: FormatValue | None = None
    result: Attribute | None = None
    after: str | None = None
    scale: Attribute = f8e8m0


@dataclass(frozen=True)
class RopeValue:
    rope: Rope


@dataclass(frozen=True)
class BlockValue:
    """A block that may be instantiated or called."""

    block: syntax.Block


@dataclass(frozen=True)
class PartValue:
    """An instance of a block; with `experts` or `rows`, one for each."""

    instance: Instance
    experts: Size | None = None
    rows: str | None = None


@dataclass(frozen=True)
class StateValue:
    """State before its one use: which, and the value that holds it."""

    name: str
    kind: str
    sizes: tuple[int, ...]
    axes: tuple[Size, ...]


@dataclass(frozen=True)
class TensorValue:
    """A tensor: its SSA value and the size expression of each axis.

    In an index equation `labels` names the index of each axis. `stacked`: one for each expert.
    """

    ssa: SSAValue
    axes: tuple[Size, ...]
    labels: tuple[str, ...] | None = None
    stacked: bool = False
    format: FormatValue | None = None

    @property
    def kind(self) -> TensorType[Attribute]:
        return type_of(self.ssa)

    @property
    def is_scaled(self) -> bool:
        return is_scaled(self.kind)

    @property
    def is_float(self) -> bool:
        return is_float(self.kind.element_type)

    @property
    def is_integer(self) -> bool:
        return is_integer(self.kind.element_type)

    def __str__(self) -> str:
        return f"{ELEMENT_NAMES.get(self.kind.element_type, '?')}{show(self.axes)}"


@dataclass(frozen=True)
class TupleValue:
    items: tuple[Value, ...]


Value = (
    Number
    | SizeValue
    | TextValue
    | NothingValue
    | FormatValue
    | RopeValue
    | BlockValue
    | PartValue
    | StateValue
    | TensorValue
    | TupleValue
)


def describe(value: Value) -> str:
    """What a user would call it, for `found: ...`."""
    match value:
        case Number():
            return f"the number {value.value}"
        case SizeValue():
            return f"the run-time size {value.size}"
        case TextValue():
            return f'the text "{value.value}"'
        case NothingValue():
            return "none"
        case FormatValue():
            return f"the format {value.name}"
        case RopeValue():
            return "a rope"
        case BlockValue():
            return f"the block {value.block.name}"
        case PartValue():
            return f"a part of block {value.instance.block.name}"
        case StateValue():
            return f"the state {value.name.rsplit('.', 1)[-1]}"
        case TensorValue():
            return f"a tensor {value}"
        case TupleValue():
            return f"{len(value.items)} values"


def sort_of(value: TensorValue) -> str:
    """What may stand for what: plain floats of any width, whole numbers, masks, scaled codes."""
    if value.is_scaled:
        return "scaled"
    return _sort(value.kind.element_type)


def sort_of_format(held: FormatValue) -> str:
    return "scaled" if held.block is not None else _sort(held.element)


def _sort(element: Attribute) -> str:
    if is_float(element):
        return "float"
    return "mask" if element == i1 else "integer" if is_integer(element) else "codes"


@dataclass
class Scope:
    """Names of one block body; sizes bound by its parameters."""

    names: dict[str, Value] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
