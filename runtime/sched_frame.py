"""The memory of one call of a program on one rank: values, and the parts of them that are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.ir import OpResult, SSAValue

from supertile.ir import sched
from supertile.ir.sched import tensor_of
from supertile.runtime.execute import ExecutionError
from supertile.runtime.graph_ops import reshape
from supertile.runtime.microbatches import Half, halves_of
from supertile.runtime.plan import Argument
from supertile.runtime.sched_plan import Bytes, ProgramPlan, place
from supertile.runtime.tile_execute import allocate


@dataclass(frozen=True)
class Sequences:
    """The halves of the sequences of a call, and which memory has a part for each."""

    halves: tuple[Half, ...] = ()
    arguments: dict[SSAValue, Argument] = field(default_factory=dict)
    results: frozenset[SSAValue] = frozenset()

    @staticmethod
    def of(plan: ProgramPlan, arguments: Sequence[Any]) -> Sequences:
        """Those of a window that is called with these arguments; none of any other program."""
        if plan.halves is None:
            return Sequences()
        results, left = plan.halves
        held = plan.arguments[: len(plan.arguments) - left]
        return Sequences(
            halves_of(held, arguments),
            dict(zip(plan.program.body.block.args, held, strict=False)),
            frozenset(plan.program.outputs[:results]),
        )

    def part(self, held: SSAValue, value: Any, half: int) -> Any:
        if held in self.results:
            return self.halves[half].rows(value)
        argument = self.arguments.get(held)
        return value if argument is None else self.halves[half].part(argument, value)


@dataclass
class Frame:
    """Values with settled sizes, and the bytes of buffers."""

    values: dict[SSAValue, Any]
    memory: dict[SSAValue, Bytes]
    sequences: Sequences = field(default_factory=Sequences)
    parts: dict[tuple[SSAValue, int], Any] = field(default_factory=dict)
    """What a half uses of a value that was asked for: views, made once."""

    def value(self, held: SSAValue, half: int | None = None) -> Any:
        """A value, or what one half of the sequences uses of it."""
        if isinstance(held, OpResult) and isinstance(held.op, sched.View):
            return reshape(self.value(held.op.x, half), tuple(held.op.shape.get_values()))
        if held not in self.values:
            raise ExecutionError("a task reads what no task has made")
        if half is None:
            return self.values[held]
        if (held, half) not in self.parts:
            self.parts[held, half] = self.sequences.part(held, self.values[held], half)
        return self.parts[held, half]

    def has(self, held: SSAValue) -> bool:
        while isinstance(held, OpResult) and isinstance(held.op, sched.View):
            held = held.op.x
        return held in self.values

    def make(self, held: SSAValue, shape: Sequence[int]) -> None:
        """Settle the size of a value that is to be written."""
        if held in self.values:
            return
        kind = tensor_of(held)
        memory = self.memory.get(held)
        self.values[held] = allocate(kind, shape) if memory is None else place(memory, kind, shape)

    def values_of(self, held: Sequence[SSAValue], half: int | None = None) -> list[Any]:
        return [self.value(value, half) for value in held]

    def rows_of(self, counts: SSAValue, wave: sched.WaveAttr) -> slice:
        """Where the rows of a wave lie: behind those of the slots before."""
        ends = np.cumsum(self.value(counts))
        slots = wave.slots
        start = int(ends[slots.start - 1]) if slots.start else 0
        return slice(start, int(ends[slots.stop - 1]))
