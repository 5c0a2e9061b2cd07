"""The attributes of the sched dialect: what an action costs, and which wave of experts it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr, IntAttr
from xdsl.ir import Attribute, ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException


@irdl_attr_definition
class CostAttr(ParametrizedAttribute):
    """When a task runs and what it moves: `#sched.cost<start = 0, duration = 950, ...>`.

    start and duration in nanoseconds from the start of the program; floating-point operations;
    bytes of device memory; bytes on the wire.
    """

    name = "sched.cost"
    numbers: ArrayAttr[IntAttr] = param_def()

    FIELDS: ClassVar[tuple[str, ...]] = ("start", "duration", "flops", "bytes", "wire")

    @staticmethod
    def of(start: int, duration: int, flops: int = 0, bytes: int = 0, wire: int = 0) -> CostAttr:
        return CostAttr(ArrayAttr([IntAttr(n) for n in (start, duration, flops, bytes, wire)]))

    @property
    def start(self) -> int:
        return self.numbers.data[0].data

    @property
    def end(self) -> int:
        return self.start + self.numbers.data[1].data

    def fields(self) -> dict[str, int]:
        return {key: number.data for key, number in zip(self.FIELDS, self.numbers, strict=True)}

    def verify(self) -> None:
        if len(self.numbers) != len(self.FIELDS) or any(n.data < 0 for n in self.numbers):
            raise VerifyException(f"a cost is {', '.join(self.FIELDS)}, none below 0")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(", ".join(f"{k} = {n}" for k, n in self.fields().items()))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        numbers = []
        with parser.in_angle_brackets():
            for position, key in enumerate(cls.FIELDS):
                if position:
                    parser.parse_punctuation(",")
                parser.parse_keyword(key)
                parser.parse_punctuation("=")
                numbers.append(IntAttr(parser.parse_integer()))
        return [ArrayAttr(numbers)]


@irdl_attr_definition
class WaveAttr(ParametrizedAttribute):
    """A run of the slots of a rank: `#sched.wave<1, slots 2 to 3 of 8>`, numbers from 0 on.

    The wave with number 0 begins at slot 0, the last one ends with the last slot.
    """

    name = "sched.wave"
    numbers: ArrayAttr[IntAttr] = param_def()

    @staticmethod
    def of(number: int, first: int, stop: int, width: int) -> WaveAttr:
        return WaveAttr(ArrayAttr([IntAttr(n) for n in (number, first, stop, width)]))

    @property
    def number(self) -> int:
        return self.numbers.data[0].data

    @property
    def slots(self) -> range:
        """The slots of the wave; ranks with fewer slots have fewer of them."""
        return range(self.numbers.data[1].data, self.numbers.data[2].data)

    @property
    def width(self) -> int:
        """The slots of all waves: those of the fullest rank."""
        return self.numbers.data[3].data

    @property
    def is_first(self) -> bool:
        return self.number == 0

    @property
    def is_last(self) -> bool:
        return self.slots.stop == self.width

    def verify(self) -> None:
        if len(self.numbers) != 4 or not 0 <= self.slots.start < self.slots.stop <= self.width:
            raise VerifyException("a wave is a number, and a run of the slots that there are")
        if self.number < 0 or self.is_first != (self.slots.start == 0):
            raise VerifyException("wave 0, and no other, begins at slot 0")

    def print_parameters(self, printer: Printer) -> None:
        first, last = self.slots.start, self.slots.stop - 1
        with printer.in_angle_brackets():
            printer.print_string(f"{self.number}, slots {first} to {last} of {self.width}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        with parser.in_angle_brackets():
            number = parser.parse_integer()
            parser.parse_punctuation(",")
            parser.parse_keyword("slots")
            first = parser.parse_integer()
            parser.parse_keyword("to")
            last = parser.parse_integer()
            parser.parse_keyword("of")
            width = parser.parse_integer()
        return [ArrayAttr([IntAttr(n) for n in (number, first, last + 1, width)])]
