"""Attributes of the tile dialect: sizes known at run time, and places in on-chip memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, IntAttr, StringAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import base, irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

DEVICE = "gm"
"""The space of tiles that are not moved: device memory, read one element after the other."""


@irdl_attr_definition
class ExtentAttr(ParametrizedAttribute):
    """A run-time size: `#tile.extent<"size", 0, 1, 6, 0>` is 6 times axis 1 of argument 0, plus 0.

    size: an axis of an argument. most: the most rows that one sequence has in argument `argument`,
    a vector of ascending sequence numbers. windows: how many positions p of the argument complete a
    window, (p + 1) mod `axis` = 0. parts: the rows of an argument divided by `axis`. Each times
    `factor` plus `offset`.
    """

    name = "tile.extent"
    kind: StringAttr = param_def(base(StringAttr))
    numbers: ArrayAttr[IntAttr] = param_def()

    KINDS: ClassVar[tuple[str, ...]] = ("size", "most", "windows", "parts")

    @staticmethod
    def of(kind: str, argument: int, axis: int = 0, factor: int = 1, offset: int = 0) -> ExtentAttr:
        numbers = ArrayAttr([IntAttr(n) for n in (argument, axis, factor, offset)])
        return ExtentAttr(StringAttr(kind), numbers)

    def fields(self) -> tuple[str, int, int, int, int]:
        """(kind, argument, axis, factor, offset)."""
        argument, axis, factor, offset = (n.data for n in self.numbers)
        return self.kind.data, argument, axis, factor, offset

    def verify(self) -> None:
        if self.kind.data not in self.KINDS or len(self.numbers) != 4:
            raise VerifyException(f"an extent is one of {', '.join(self.KINDS)} and 4 numbers")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(self.kind.data)
            for number in self.numbers:
                printer.print_string(f", {number.data}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            kind = StringAttr(parser.parse_str_literal())
            numbers = []
            for _ in range(4):
                parser.parse_punctuation(",")
                numbers.append(IntAttr(parser.parse_integer()))
            return [kind, ArrayAttr(numbers)]


@irdl_attr_definition
class PlaceAttr(ParametrizedAttribute):
    """Where a tile lies: `#tile.place<"ub", 512, 128, 2>` is twice 128 bytes from byte 512 of `ub`.

    Copies lie one behind the other; steps of a loop that are in flight take turns.
    """

    name = "tile.place"
    space: StringAttr = param_def(base(StringAttr))
    numbers: ArrayAttr[IntAttr] = param_def()

    @staticmethod
    def of(space: str, offset: int, size: int, copies: int) -> PlaceAttr:
        numbers = ArrayAttr([IntAttr(n) for n in (offset, size, copies)])
        return PlaceAttr(StringAttr(space), numbers)

    def fields(self) -> tuple[str, int, int, int]:
        """(space, offset, bytes, copies)."""
        offset, size, copies = self.numbers.data
        return self.space.data, offset.data, size.data, copies.data

    def end(self) -> int:
        """The first byte behind all copies."""
        _, offset, size, copies = self.fields()
        return offset + size * copies

    def overlaps(self, other: PlaceAttr) -> bool:
        """Whether the two have a byte in common."""
        if self.space.data != other.space.data:
            return False
        return self.fields()[1] < other.end() and other.fields()[1] < self.end()

    def verify(self) -> None:
        if self.space.data in ("", DEVICE):
            raise VerifyException(f"a place is in on-chip memory, got {self.space.data}")
        if len(self.numbers) != 3:
            raise VerifyException("a place is a space, an offset, bytes and copies")
        offset, size, copies = (n.data for n in self.numbers)
        if offset < 0 or size < 1 or copies < 1:
            raise VerifyException(f"a place is somewhere and not empty, got {self.fields()}")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string_literal(self.space.data)
            for number in self.numbers:
                printer.print_string(f", {number.data}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            space = StringAttr(parser.parse_str_literal())
            numbers = []
            for _ in range(3):
                parser.parse_punctuation(",")
                numbers.append(IntAttr(parser.parse_integer()))
            return [space, ArrayAttr(numbers)]
