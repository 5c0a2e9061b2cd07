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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.rewriter import Rewriter

from supertile.ir import graph, sched, tile
from supertile.ir.op import python_value
from supertile.ir.sched_bounds import Bounds
from supertile.passes.rewriting import Equivalence, Pass, count, rewrites_of
from supertile.passes.schedule_memory import plan_arena, spans_of
from supertile.passes.schedule_program import Frame, ProgramBuilder, frame_of
from supertile.passes.schedule_sizes import buffer_bytes
from supertile.passes.schedule_steps import LeftPieces, Reading, read_function
from supertile.passes.schedule_waves import expand_waves
from supertile.passes.schedule_windows import Layer, windows_of


@dataclass(frozen=True)
class BuildSchedule(Pass):
    """func.func -> sched.program."""

    name = "build-schedule"
    equivalence: ClassVar[Equivalence] = "exact"
    takes: ClassVar[tuple[str, ...]] = ("tiled",)

    tokens: int = count(16)
    batch: int = count(1)
    context: int = count(4096)
    memory: Literal["device", "runtime"] = "device"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        bounds = Bounds(self.tokens, self.batch, self.context, self.memory)
        builder = _Builder(op, bounds)
        for program, function in builder.programs():
            op.body.block.insert_op_before(program, function)
            for _ in program.actions:
                rewrites_of(ctx).count("schedule a task")
        for function in builder.functions.values():
            Rewriter.erase_op(function)


class _Builder:
    """The programs of a module."""

    def __init__(self, module: ModuleOp, bounds: Bounds) -> None:
        self.bounds = bounds
        self.functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
        self.kernels = {op.sym_name.data: op for op in module.ops if isinstance(op, tile.Kernel)}
        calls = [op for function in self.functions.values() for op in function.body.block.ops]
        layers = [op for op in calls if isinstance(op, graph.Layers)]
        split = [op for op in layers if op.microbatches is not None and len(op.kinds)]
        self.windows = {op: windows_of(op, self._layers(op)) for op in split}
        self.whole = {
            python_value(symbol)
            for op in layers
            if op not in self.windows
            for symbol in op.functions
        }
        """The functions that layers run as they are."""

    def programs(self) -> Iterator[tuple[sched.Program, FuncOp]]:
        """Each program, and the function that it stands for or belongs to."""
        windows = {one.name: one for found in self.windows.values() for one in found.programs}
        lagging = {one.function.sym_name.data for one in windows.values()}
        left = {
            op: list(zip(found.slots, found.bytes, strict=True))
            for op, found in self.windows.items()
        }
        for name, function in self.functions.items():
            for one in windows.values():
                if one.function is function:
                    yield self._program(one.frame(), one.reading()), function
            if name not in lagging or name in self.whole:
                reading = self._read(function, self.bounds, left)
                yield self._program(frame_of(function, reading), reading), function

    def _layers(self, op: graph.Layers) -> dict[str, Layer]:
        """The functions of layers that run in two micro-batches."""
        found = {}
        for symbol in op.functions:
            function = self.functions[python_value(symbol)]
            bounds, count = self.bounds.of_a_half, len(op.carried)
            reading = self._read(function, bounds, {})
            returned = function.get_return_op()
            assert returned is not None
            values = returned.operands[:count]
            sizes = buffer_bytes(function, reading.shapes, values, bounds)
            passed = {
                root: sizes[value] for root, value in zip(reading.results, values, strict=False)
            }
            found[function.sym_name.data] = Layer(function, reading, count, passed)
        return found

    def _read(self, function: FuncOp, bounds: Bounds, left: LeftPieces) -> Reading:
        reading = read_function(function, self.kernels, bounds, left)
        expand_waves(reading, function, self.kernels, bounds)
        return reading

    def _program(self, frame: Frame, reading: Reading) -> sched.Program:
        properties = {op: window.properties() for op, window in self.windows.items()}
        arena = plan_arena(reading.steps, reading.edges, spans_of(reading.steps, reading.sizes))
        return ProgramBuilder(frame, reading, arena, self.bounds, properties).build()
