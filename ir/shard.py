"""Which slice of a tensor a rank of a group has: of a weight, or of a state.

    #comm.shard<axis = 0, parts = 4, ranks = 4>

Groups are `ranks` ranks in a row, the first of them rank 0, `ranks`, 2 `ranks`, ... An axis is cut
into equal `parts`; where these are fewer than the ranks, neighbours have the same one.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import IntAttr
from xdsl.ir import ParametrizedAttribute
from xdsl.irdl import irdl_attr_definition, param_def
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

FIELDS = ("axis", "parts", "ranks")


@irdl_attr_definition
class ShardAttr(ParametrizedAttribute):
    """One of `parts` equal slices along `axis`, for each rank of a group of `ranks`."""

    name = "comm.shard"
    axis_: IntAttr = param_def()
    parts_: IntAttr = param_def()
    ranks_: IntAttr = param_def()

    @staticmethod
    def of(axis: int, parts: int, ranks: int) -> ShardAttr:
        return ShardAttr(IntAttr(axis), IntAttr(parts), IntAttr(ranks))

    @property
    def axis(self) -> int:
        return self.axis_.data

    @property
    def parts(self) -> int:
        return self.parts_.data

    @property
    def ranks(self) -> int:
        return self.ranks_.data

    def part(self, rank: int) -> int:
        """The number of the slice that a rank has, of all ranks."""
        return rank % self.ranks * self.parts // self.ranks

    def whole(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of the tensor from that of a slice."""
        return (*shape[: self.axis], shape[self.axis] * self.parts, *shape[self.axis + 1 :])

    def verify(self) -> None:
        if self.axis < 0 or self.parts < 1 or self.ranks < 1 or self.ranks % self.parts:
            raise VerifyException(f"{self.ranks} ranks do not share {self.parts} parts evenly")

    def print_parameters(self, printer: Printer) -> None:
        numbers = (self.axis, self.parts, self.ranks)
        with printer.in_angle_brackets():
            printer.print_string(
                ", ".join(f"{key} = {n}" for key, n in zip(FIELDS, numbers, strict=True))
            )

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[IntAttr]:
        numbers = []
        with parser.in_angle_brackets():
            for position, key in enumerate(FIELDS):
                if position:
                    parser.parse_punctuation(",")
                parser.parse_keyword(key)
                parser.parse_punctuation("=")
                numbers.append(IntAttr(parser.parse_integer()))
        return numbers
