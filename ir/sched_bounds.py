"""The largest call that a program is made for, and the most that each named size is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from supertile.ir.expert_plan import AnyPlacement
from supertile.ir.formula import Formula
from supertile.ir.sched_memory import Tensor, device_bytes, runtime_bytes


@dataclass(frozen=True)
class Bounds:
    """The largest call: tokens of all sequences of a rank, sequences of a rank, tokens of one."""

    tokens: int
    batch: int
    context: int
    memory: str

    @property
    def of_a_half(self) -> Bounds:
        """Of one of two micro-batches: half of the sequences, which may have all of the tokens."""
        return replace(self, batch=-(-self.batch // 2))

    @property
    def numbers(self) -> list[int]:
        return [self.tokens, self.batch, self.context]

    def most(self, name: str, arrived: int) -> int:
        """The largest value of a named size; `arrived` rows of experts reach a rank."""
        exact = {"T": self.tokens, "B": self.batch, "arrived": arrived}
        if name in exact:
            return exact[name]
        if name.startswith("S:"):
            return -(-self.context // int(name.removeprefix("S:")))
        if name.startswith("seen"):
            return int(name.removeprefix("seen")) + self.tokens
        if name.startswith("share"):
            return -(-self.tokens // int(name.removeprefix("share")))
        if name.startswith("windows"):
            return self._windows(int(name.removeprefix("windows")))
        raise ValueError(f"nothing bounds the size {name}")

    def size(self, size: Formula | int, arrived: int) -> int:
        """The largest value of a size."""
        if isinstance(size, int):
            return size
        number = size.evaluate({name: self.most(name, arrived) for name in size.names})
        assert isinstance(number, int), f"{size} is no whole number"
        return number

    def arrived(self, tokens: Formula | int, choices: int, placement: AnyPlacement) -> int:
        """The most rows that a rank gets: one for each token of any rank and slot, or choice."""
        return placement.ranks * self.size(tokens, 0) * min(choices, placement.width)

    def bytes_of(self, kind: Tensor, shape: Sequence[Formula | int], arrived: int) -> int:
        """The most bytes of a value of a type with this shape, in the memory of the program."""
        count = device_bytes if self.memory == "device" else runtime_bytes
        return count(kind, [self.size(size, arrived) for size in shape])

    def _windows(self, ratio: int) -> int:
        """n tokens of a sequence complete at most ceil(n / ratio) windows: worst in many rows."""
        rows = min(self.batch, self.tokens)
        return rows + (self.tokens - rows) // ratio
