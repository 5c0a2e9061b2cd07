"""Functions become programs: tasks on lanes, the events they wait for, and the bytes they use.

    %y = tile.launch %x, %w {kernel = "linear_1"} : (...) -> tensor<?x32xf32>
    %z = tile.launch %y {kernel = "cast_1"} : (...) -> tensor<?x32xbf16>
->
    %b = sched.buffer {offset = 0, bytes = 2048} : () -> !tile.ref<tensor<?x32xf32>>
    %0 = sched.task %x, %w, %b {kernel = "linear_1", lane = "compute"} : (...) -> !sched.event
    %1 = sched.task %b, %out, %0 {kernel = "cast_1", lane = "compute"} : (...) -> !sched.event

Kernels run on the lane `compute`, transfers on the lane `link`. A task waits for the tasks that
write what it reads, that read or write what it overwrites, and for no others. Buffers are made for
`tokens`, `batch` and `context`; `memory=runtime` counts bytes as the NumPy executor holds values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.rewriter import Rewriter

from supertile.ir import tile
from supertile.passes.rewriting import Equivalence, Pass, rewrites_of
from supertile.passes.schedule_memory import plan_arena, spans_of
from supertile.passes.schedule_program import ProgramBuilder
from supertile.passes.schedule_sizes import Bounds
from supertile.passes.schedule_steps import read_function


@dataclass(frozen=True)
class BuildSchedule(Pass):
    """func.func -> sched.program."""

    name = "build-schedule"
    equivalence: ClassVar[Equivalence] = "exact"

    tokens: int = 16
    batch: int = 1
    context: int = 4096
    memory: Literal["device", "runtime"] = "device"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        bounds = Bounds(self.tokens, self.batch, self.context, self.memory)
        kernels = {held.sym_name.data: held for held in op.ops if isinstance(held, tile.Kernel)}
        for function in [held for held in op.ops if isinstance(held, FuncOp)]:
            held = read_function(function, kernels, bounds)
            arena = plan_arena(held.steps, held.edges, spans_of(held.steps, held.sizes))
            program = ProgramBuilder(function, held, arena, bounds).build()
            op.body.block.insert_op_before(program, function)
            Rewriter.erase_op(function)
            for _ in held.steps:
                rewrites_of(ctx).count("schedule a task")
