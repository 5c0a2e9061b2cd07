"""Runs programs with NumPy: tasks in any order that their events allow, in the planned bytes.

    executor = ScheduledExecutor(plan, weights, order=random_order(seed))

The arena of a program is one array of bytes. Before every call all of them are 0xFF, which is NaN,
so that a task that runs before what it needs, or in bytes that others still need, changes numbers.
Sizes that shapes tell are settled before the first task runs, as a host does that launches kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.ir import OpResult, SSAValue

from supertile.ir import comm, sched
from supertile.ir.errors import UserError
from supertile.ir.group_layout import WHOLE
from supertile.ir.sched import tensor_of
from supertile.ir.tile_access import COUNTED
from supertile.ir.types import ELEMENT_NAMES, is_scaled
from supertile.runtime import comm_ops
from supertile.runtime.execute import ROUNDING, ExecutionError, Executor
from supertile.runtime.graph_ops import reshape
from supertile.runtime.lockstep import (
    LockstepExecutor,
    by_part,
    merged,
    placed_properties,
    shown_of,
)
from supertile.runtime.microbatches import Given, halves_of, in_halves
from supertile.runtime.plan import FunctionPlan, Step, is_watched
from supertile.runtime.sched_plan import POISON, Bytes, ProgramPlan, overwrite, place
from supertile.runtime.tile_execute import allocate

Order = Callable[[ProgramPlan], Sequence[Step]]

TRANSFERS = {op.name.removeprefix("comm."): op for op in comm.OPS}


def program_order(program: ProgramPlan) -> Sequence[Step]:
    """The order in which the text has the tasks."""
    return program.actions


def random_order(seed: int) -> Order:
    """One of the orders that the events allow, another one in each call."""
    generator = np.random.default_rng(seed)

    def order(program: ProgramPlan) -> Sequence[Step]:
        waiting = {step.op: {*_awaited(step)} for step in program.actions}
        steps = {step.op: step for step in program.actions}
        chosen = []
        while waiting:
            ready = [op for op, awaited in waiting.items() if not awaited & waiting.keys()]
            op = ready[generator.integers(len(ready))]
            del waiting[op]
            chosen.append(steps[op])
        return chosen

    return order


def _awaited(step: Step) -> list[sched.Action]:
    assert isinstance(step.op, sched.Action)
    return step.op.awaited


@dataclass
class ScheduledExecutor(Executor):
    """An executor of programs; functions of other levels run as they do there."""

    order: Order = program_order
    planned: bool = True
    """Whether buffers lie in the arena. Without it each has memory of its own, so that calls of any
    size run, in programs that count the bytes of a device too; what shares bytes is not tried."""
    arenas: dict[tuple[str, int], Bytes] = field(default_factory=dict)
    """By program and rank; undefined between calls."""

    def _run(
        self, function: FunctionPlan, arguments: list[Any], layer: int | None, prefix: str
    ) -> list[Any]:
        if not isinstance(function, ProgramPlan):
            return super()._run(function, arguments, layer, prefix)
        call = _Call(self, [self], function, layer, prefix)
        return call.run([arguments], [{}])[0]


class ScheduledRanks(LockstepExecutor):
    """Programs on many ranks: each task on all of them in turn, transfers on all at once."""

    whole: ScheduledExecutor

    def __init__(self, whole: ScheduledExecutor, ranks: int) -> None:
        super().__init__(whole, ranks)

    def call(self, entry: str, arguments: Sequence[list[Any]]) -> list[list[Any]]:
        program = self.plan.functions[entry]
        if not isinstance(program, ProgramPlan):
            return super().call(entry, arguments)
        self.whole.begin_call()
        call = _Call(self.whole, self.ranks, program, None, self.plan.prefix(entry))
        return call.run(arguments, [{} for _ in arguments])


@dataclass
class _Frame:
    """The memory of a call on one rank: values with settled sizes, and the bytes of buffers."""

    values: dict[SSAValue, Any]
    memory: dict[SSAValue, Bytes]

    def value(self, held: SSAValue) -> Any:
        if isinstance(held, OpResult) and isinstance(held.op, sched.View):
            return reshape(self.value(held.op.x), tuple(held.op.shape.get_values()))
        if held not in self.values:
            raise ExecutionError("a task reads what no task has made")
        return self.values[held]

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

    def values_of(self, held: Sequence[SSAValue]) -> list[Any]:
        return [self.value(value) for value in held]


class _Call:
    """One call of a program, on all ranks."""

    def __init__(
        self,
        executor: ScheduledExecutor,
        ranks: Sequence[Executor],
        program: ProgramPlan,
        layer: int | None,
        prefix: str,
    ) -> None:
        if executor.planned and program.program.memory.data != "runtime":
            raise UserError("run.schedule_memory", name=program.name)
        self.executor = executor
        self.ranks = ranks
        self.program = program
        self.layer = layer
        self.prefix = prefix
        self.frames: list[_Frame] = []

    def run(
        self, arguments: Sequence[list[Any]], outputs: Sequence[dict[SSAValue, Any]]
    ) -> list[list[Any]]:
        """The results of each rank; `outputs` are memory for them, if there is any."""
        for rank, (own, given) in enumerate(zip(arguments, outputs, strict=True)):
            self.frames.append(self._frame(rank, own, given, len(arguments) // len(self.ranks)))
        for step in self.program.actions:
            self._settle(step)
        for step in self.executor.order(self.program):
            self._guarded(step)
            self._watched(step)
        return [frame.values_of(self.program.program.end.values) for frame in self.frames]

    def _frame(
        self, rank: int, arguments: list[Any], outputs: dict[SSAValue, Any], parts: int
    ) -> _Frame:
        """Memory for a rank, or for one of `parts` parts of the sequences of a rank."""
        program = self.program.program
        values = dict(zip(program.body.block.args, arguments, strict=False)) | outputs
        frame = _Frame(values, self._buffers(rank) if self.executor.planned else {})
        for step in self.program.steps:
            if step.weight is not None:
                held = self.ranks[rank // parts].weights(step.weight, self.layer)
                frame.values[step.op.results[0]] = self._weight(step, held)
        return frame

    def _buffers(self, rank: int) -> dict[SSAValue, Bytes]:
        """The bytes of each buffer, all of them undefined."""
        program, arenas = self.program.program, self.executor.arenas
        key = self.program.name, rank
        if key not in arenas:
            arenas[key] = np.empty(program.arena.value.data, np.uint8)
        arena = arenas[key]
        arena.fill(POISON)
        buffers = [op for op in program.body.block.ops if isinstance(op, sched.Buffer)]
        return {op.result: arena[slice(*op.span)] for op in buffers}

    def _weight(self, step: Step, held: Any) -> Any:
        if step.name is None or self.executor.watch is None:
            return held
        return self.executor.watch(self.prefix + step.name, held, step)

    # ---- sizes ---------------------------------------------------------------------------------

    def _settle(self, step: Step) -> None:
        """The sizes of what an action writes, as far as they follow from what is there."""
        for frame in self.frames:
            match step.op:
                case sched.Task():
                    self._settle_task(frame, step.op)
                case sched.Copy():
                    if frame.has(step.op.inputs[0]):
                        frame.make(step.op.outputs[0], frame.value(step.op.inputs[0]).shape)
                case sched.Layers():
                    if all(frame.has(value) for value in step.op.carried):
                        _settle_layers(frame, step.op)

    def _settle_task(self, frame: _Frame, op: sched.Task, running: bool = False) -> None:
        if not op.outputs or not (running or self._is_settled(frame, op)):
            return
        shapes = self.program.kernels[op.kernel.data].own_results(frame.values_of(op.inputs))
        for output, (_, shape) in zip(op.outputs, shapes, strict=True):
            frame.make(output, shape)

    def _is_settled(self, frame: _Frame, op: sched.Task) -> bool:
        """Whether all inputs have their sizes, and numbers that count are there from the start."""
        counted = [
            op.inputs[argument]
            for kind, argument, *_ in self.program.kernels[op.kernel.data].extents
            if kind in COUNTED
        ]
        own = set(self.program.program.body.block.args)
        return all(map(frame.has, op.inputs)) and own.issuperset(counted)

    # ---- actions -------------------------------------------------------------------------------

    def _guarded(self, step: Step) -> None:
        try:
            self._action(step)
        except (ExecutionError, UserError, MemoryError):
            raise
        except Exception as error:
            place = f"{step.source} " if step.source else ""
            raise ExecutionError(
                f"{place}{step.op.name} in @{self.program.name}: {error}"
            ) from error

    def _action(self, step: Step) -> None:
        match step.op:
            case sched.Task():
                for frame in self.frames:
                    self._task(frame, step.op)
            case sched.Copy():
                self._settle(step)
                for frame in self.frames:
                    overwrite(frame.value(step.op.outputs[0]), frame.value(step.op.inputs[0]))
            case sched.Transfer():
                self._transfer(step, step.op)
            case sched.Layers():
                self._settle(step)
                self._layers(step, step.op)

    def _task(self, frame: _Frame, op: sched.Task) -> None:
        self._settle_task(frame, op, running=True)
        kernel = self.program.kernels[op.kernel.data]
        kernel.launch(frame.values_of(op.inputs), frame.values_of(op.outputs))

    def _transfer(self, step: Step, op: sched.Transfer) -> None:
        properties = placed_properties(step, self.layer)
        given = {key: properties[key] for key in ("placement", "ranks") if key in properties}
        function = comm_ops.FUNCTIONS[TRANSFERS[op.kind.data]]

        def communicate(frames: list[_Frame]) -> Sequence[Any]:
            columns = zip(*[frame.values_of(op.inputs) for frame in frames], strict=True)
            return function(*map(list, columns), **given)

        results = by_part(len(self.frames) // len(self.ranks), communicate, self.frames)
        for frame, held in zip(self.frames, results, strict=True):
            for output, value in zip(op.outputs, held, strict=True):
                frame.make(output, value.shape)
                overwrite(frame.value(output), _rounded(value, output))

    def _layers(self, step: Step, op: sched.Layers) -> None:
        """Every layer in order; its state is its row of each stack that its program uses."""
        ranks = [
            Given(*map(frame.values_of, (op.carried, op.shared, op.states)))
            for frame in self.frames
        ]
        targets = [
            [Given(frame.values_of(held), [], []) for frame in self.frames]
            for held in (op.outputs, op.spares)
        ]
        halves = halves_of(self.executor.plan, step, ranks)
        if halves:
            ranks, *targets = (
                in_halves(self.executor.plan, step, held, halves) for held in (ranks, *targets)
            )
        self._run_layers(step, ranks, targets)
        if not step.properties["kinds"]:
            self._passed_on(op, [given.carried for given in ranks])

    def _run_layers(
        self, step: Step, groups: Sequence[Given], targets: Sequence[Sequence[Given]]
    ) -> None:
        """`targets` are outputs and spares of each rank, or of each half of each rank."""
        kinds, rows = step.properties["kinds"], [0] * len(groups[0].states)
        carried = [given.carried for given in groups]
        for number, kind in enumerate(kinds):
            name, uses = step.properties["functions"][kind], step.properties["uses"][kind]
            program = self.executor.plan.functions[name]
            assert isinstance(program, ProgramPlan), f"@{name} is no program"
            arguments = []
            for given, own in zip(groups, carried, strict=True):
                held = [given.states[stack][rows[stack]] for stack in uses]
                arguments.append([*own, *given.shared, number, *held])
            for stack in uses:
                rows[stack] += 1
            # The last layer writes the outputs, the one before it the spares.
            carried = [held.carried for held in targets[(len(kinds) - number) % 2 == 0]]
            memory = [dict(zip(program.program.outputs, own, strict=True)) for own in carried]
            prefix = f"{step.properties['label']}.{number}."
            _Call(self.executor, self.ranks, program, number, prefix).run(arguments, memory)

    def _passed_on(self, op: sched.Layers, carried: list[list[Any]]) -> None:
        for frame, own in zip(self.frames, carried, strict=True):
            for output, value in zip(op.outputs, own, strict=True):
                overwrite(frame.value(output), value)

    # ---- those who look on ---------------------------------------------------------------------

    def _watched(self, step: Step) -> None:
        """Named values as they are when their task ends; what comes back takes their place."""
        watch = self.executor.watch
        if watch is None:
            return
        for named, held in self.program.named.get(step.op, []):
            if not is_watched(named):
                continue
            group = self.executor.plan.group
            shown = shown_of(named, len(self.frames), len(self.ranks), group)
            values = [self.frames[n].value(held) for n in shown]
            whole = values[0] if len(values) == 1 else merged(values)
            back = watch(f"{self.prefix}{named.name}", whole, named)
            if back is whole:
                continue
            _write_back(values, back)
            if named.layout == WHOLE:
                self._copy_in_groups(held, shown)

    def _copy_in_groups(self, held: SSAValue, shown: Sequence[int]) -> None:
        """What the first rank of a group has, to the others."""
        parts, group = len(self.frames) // len(self.ranks), self.executor.plan.group
        for n in shown:
            for frame in self.frames[n + parts : n + group * parts : parts]:
                overwrite(frame.value(held), self.frames[n].value(held))


def _rounded(value: Any, output: SSAValue) -> Any:
    """What a transfer computes, in the format of its memory; what it copies is in that already."""
    kind = tensor_of(output)
    element = "" if is_scaled(kind) else ELEMENT_NAMES[kind.element_type]
    return ROUNDING[element](value) if element in ROUNDING else value


def _settle_layers(frame: _Frame, op: sched.Layers) -> None:
    """What layers carry keeps its sizes."""
    for targets in (op.outputs, op.spares):
        for target, value in zip(targets, op.carried, strict=True):
            frame.make(target, frame.value(value).shape)


def _write_back(values: list[Any], whole: Any) -> None:
    """Each rank gets its rows of a value for all of them."""
    start = 0
    for held in values:
        part = whole if len(values) == 1 else whole[start : start + len(held)]
        overwrite(held, part)
        start += held.shape[0] if held.shape else 1
