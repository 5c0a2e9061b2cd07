"""What ranks exchange, whoever runs them: all in this process, or each in one of its own.

A comm op is two functions of one rank: `send` makes a parcel for each rank, `receive` makes the
results of the parcels that came. `comm_ops.py` has them; between the two is a communicator.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from xdsl.ir import Operation

Column = list[Any]
"""The values of one operand, or of one result, on the ranks of this process."""


class Communicator(Protocol):
    """Ranks that run the same program in step."""

    place: str
    """What the program is at, for who is told of a rank that does not answer."""

    @property
    def size(self) -> int:
        """How many ranks there are."""
        ...

    @property
    def ranks(self) -> Sequence[int]:
        """Those that this process runs, ascending."""
        ...

    def run(
        self, kind: type[Operation], columns: Sequence[Column], properties: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        """The results of a comm op for each rank of this process, of its operands there."""
        ...

    def gather(self, values: Column) -> Column:
        """The values of all ranks, of those of this process: arrays, or tuples of arrays."""
        ...


class InProcess:
    """All ranks in this process: nothing can wait for anything, so nothing can hang."""

    place = ""

    def __init__(self, size: int) -> None:
        self.size = size
        self.ranks = range(size)

    def run(
        self, kind: type[Operation], columns: Sequence[Column], properties: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        from supertile.runtime.comm_ops import FUNCTIONS

        return FUNCTIONS[kind](*columns, **properties)

    def gather(self, values: Column) -> Column:
        return values
