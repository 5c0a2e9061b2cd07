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
from xdsl.ir import SSAValue

from supertile.ir import sched
from supertile.ir.errors import UserError
from supertile.ir.group_layout import WHOLE
from supertile.ir.tile_access import COUNTED
from supertile.runtime.execute import ExecutionError, Executor
from supertile.runtime.graph_ops import copied, take_rows
from supertile.runtime.lockstep import LockstepExecutor, merged, shown_of
from supertile.runtime.nonfinite import Tracker
from supertile.runtime.plan import FunctionPlan, Step, is_watched
from supertile.runtime.sched_frame import Frame, Sequences
from supertile.runtime.sched_plan import POISON, Bytes, Named, ProgramPlan, overwrite
from supertile.runtime.sched_transfer import transfer

Order = Callable[[ProgramPlan], Sequence[Step]]


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
        return _Call(self, [self], function, layer, [prefix]).run([arguments])[0]


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
        call = _Call(self.whole, self.ranks, program, None, [self.plan.prefix(entry)])
        return call.run(arguments)


@dataclass
class _Seen:
    """What the halves of a call have made of a named value, until both have."""

    values: dict[int, list[Any]] = field(default_factory=dict)
    """For each half those of all ranks."""


@dataclass(frozen=True)
class _Outside:
    """What a program is given on one rank, its arguments aside."""

    values: dict[SSAValue, Any] = field(default_factory=dict)
    """Results in memory of the caller."""
    memory: dict[SSAValue, Bytes] = field(default_factory=dict)
    """Bytes for results whose sizes the program settles."""


class _Call:
    """One call of a program, on all ranks."""

    def __init__(
        self,
        executor: ScheduledExecutor,
        ranks: Sequence[Executor],
        program: ProgramPlan,
        layer: int | None,
        prefixes: Sequence[str],
        seen: dict[str, _Seen] | None = None,
    ) -> None:
        """`prefixes` of the names of its values, and of those of the layer before."""
        if executor.planned and program.program.memory.data != "runtime":
            raise UserError("run.schedule_memory", name=program.name)
        self.executor = executor
        self.ranks = ranks
        self.program = program
        self.layer = layer
        self.prefixes = prefixes
        self.frames: list[Frame] = []
        self.ended: set[sched.Action] = set()
        self.seen = {} if seen is None else seen

    def run(
        self, arguments: Sequence[list[Any]], outside: Sequence[_Outside] = ()
    ) -> list[list[Any]]:
        """The results of each rank."""
        for rank, own in enumerate(arguments):
            given = outside[rank] if outside else _Outside()
            self.frames.append(self._frame(rank, own, given))
        for step in self.program.actions:
            self._settle(step)
        for step in self.executor.order(self.program):
            self._guarded(step)
            self._watched(step)
            if self.executor.tracker is not None:
                self._tracked(step, self.executor.tracker)
        ends = self.program.program.end.values
        return [frame.values_of(ends) for frame in self.frames]

    def _frame(self, rank: int, arguments: list[Any], outside: _Outside) -> Frame:
        program = self.program.program
        values = dict(zip(program.body.block.args, arguments, strict=False)) | outside.values
        memory = self._buffers(rank) if self.executor.planned else {}
        parts = Sequences.of(self.program, arguments)
        frame = Frame(values, memory | outside.memory, parts)
        for step in self.program.steps:
            if step.weight is not None:
                held = self.ranks[rank].weights(step.weight, self.layer)
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
        return self.executor.watch(self.prefixes[0] + step.name, held, step)

    # ---- sizes ---------------------------------------------------------------------------------

    def _settle(self, step: Step) -> None:
        """The sizes of what an action writes, as far as they follow from what is there."""
        for frame in self.frames:
            match step.op:
                case sched.Task():
                    self._settle_task(frame, step.op)
                case sched.Copy():
                    half = step.op.half_number
                    if frame.has(step.op.inputs[0]):
                        shape = frame.value(step.op.inputs[0], half).shape
                        frame.make(step.op.outputs[0], shape)
                case sched.Layers():
                    if all(frame.has(value) for value in step.op.carried):
                        _settle_layers(frame, step.op)

    def _settle_task(self, frame: Frame, op: sched.Task, running: bool = False) -> None:
        if not op.outputs or not (running or self._is_settled(frame, op)):
            return
        inputs = frame.values_of(op.operands_of_kernel, op.half_number)
        shapes = self.program.kernels[op.kernel.data].own_results(inputs)
        for output, (_, shape) in zip(op.outputs, shapes, strict=True):
            frame.make(output, shape)

    def _is_settled(self, frame: Frame, op: sched.Task) -> bool:
        """Whether all inputs have their sizes, and numbers that count are there from the start."""
        counted = [
            op.inputs[argument]
            for kind, argument, *_ in self.program.kernels[op.kernel.data].extents
            if kind in COUNTED
        ]
        own = set(self.program.program.body.block.args)
        return all(map(frame.has, op.operands_of_kernel)) and own.issuperset(counted)

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
                half = step.op.half_number
                for frame in self.frames:
                    source = frame.value(step.op.inputs[0], half)
                    overwrite(frame.value(step.op.outputs[0], half), source)
            case sched.Transfer():
                transfer(self.frames, step, step.op, self.layer)
            case sched.Layers():
                self._settle(step)
                if step.op.microbatches is None:
                    self._layers(step, step.op)
                else:
                    self._windows(step, step.op)

    def _tracked(self, step: Step, tracker: Tracker) -> None:
        """Show what an action read and wrote, but not waves of transfers: what reads their rows
        is looked at."""
        match step.op:
            case sched.Task():
                pairs = [self._operands(frame, step.op) for frame in self.frames]
            case sched.Copy() | sched.Transfer() if getattr(step.op, "wave", None) is None:
                half = step.op.half_number
                pairs = [
                    (frame.values_of(step.op.inputs, half), frame.values_of(step.op.outputs, half))
                    for frame in self.frames
                ]
            case _:
                return
        inputs, outputs = zip(*pairs, strict=True)
        tracker.look(step, self.layer, inputs, outputs)

    def _task(self, frame: Frame, op: sched.Task) -> None:
        self._settle_task(frame, op, running=True)
        self.program.kernels[op.kernel.data].launch(*self._operands(frame, op))

    def _operands(self, frame: Frame, op: sched.Task) -> tuple[list[Any], list[Any]]:
        """What a task reads and writes: of a wave the rows and slots that are its own."""
        inputs = frame.values_of(op.operands_of_kernel, op.half_number)
        outputs = frame.values_of(op.outputs, op.half_number)
        if op.wave is not None and op.split is not None:
            rows, split = frame.rows_of(op.inputs[-1], op.wave), op.split.get_values()
            slots = slice(op.wave.slots.start, op.wave.slots.stop)
            runs = [{sched.ROWS: rows, sched.SLOTS: slots}.get(one) for one in split]
            values = zip([*inputs, *outputs], runs, strict=True)
            parts = [value if run is None else take_rows(value, run) for value, run in values]
            inputs, outputs = parts[: len(inputs)], parts[len(inputs) :]
        return inputs, outputs

    # ---- layers --------------------------------------------------------------------------------

    def _layers(self, step: Step, op: sched.Layers) -> None:
        """Every layer in order; its state is its row of each stack that its program uses."""
        kinds, rows = step.properties["kinds"], [0] * len(op.states)
        carried = [frame.values_of(op.carried) for frame in self.frames]
        targets = [
            [frame.values_of(held) for frame in self.frames] for held in (op.outputs, op.spares)
        ]
        for number, kind in enumerate(kinds):
            program = self._program(step, kind)
            arguments = self._arguments(step, op, number, rows, carried)
            # The last layer writes the outputs, the one before it the spares.
            carried = targets[(len(kinds) - number) % 2 == 0]
            outside = [
                _Outside(dict(zip(program.program.outputs, own, strict=True))) for own in carried
            ]
            self._inner(step, program, number).run(arguments, outside)
        if not kinds:
            for frame in self.frames:
                for output, value in zip(op.outputs, frame.values_of(op.carried), strict=True):
                    overwrite(frame.value(output), value)

    def _windows(self, step: Step, op: sched.Layers) -> None:
        """Every window in order: all write the outputs in place, and leave pieces to the next."""
        kinds, rows = step.properties["kinds"], [0] * len(op.states)
        carried = [frame.values_of(op.carried) for frame in self.frames]
        left: list[dict[int, Any]] = [{} for _ in self.frames]
        seen: dict[str, _Seen] = {}
        for number, kind in enumerate(kinds):
            program = self._program(step, kind)
            read, written = (step.properties[name][kind] for name in ("left_in", "left_out"))
            arguments = self._arguments(step, op, number, rows, carried)
            for own, held in zip(arguments, left, strict=True):
                own += [held[slot] for slot in read]
            pieces = dict(zip(written, program.program.outputs[len(op.outputs) :], strict=True))
            outside = [
                _Outside(
                    dict(zip(program.program.outputs, frame.values_of(op.outputs), strict=False)),
                    self._left_memory(frame, op, pieces, number % 2),
                )
                for frame in self.frames
            ]
            call = self._inner(step, program, number, seen)
            call.run(arguments, outside)
            left = [{slot: frame.value(ref) for slot, ref in pieces.items()}
                    for frame in call.frames]  # fmt: skip

    def _left_memory(
        self, frame: Frame, op: sched.Layers, pieces: dict[int, SSAValue], odd: int
    ) -> dict[SSAValue, Bytes]:
        """Undefined bytes for what a window leaves: two sets take turns."""
        if not self.executor.planned:
            return {}
        held = op.spares[odd * len(op.spares) // 2 :]
        memory = {ref: frame.memory[held[slot]] for slot, ref in pieces.items()}
        for one in memory.values():
            one.fill(POISON)
        return memory

    def _program(self, step: Step, kind: int) -> ProgramPlan:
        name = step.properties["functions"][kind]
        program = self.executor.plan.functions[name]
        assert isinstance(program, ProgramPlan), f"@{name} is no program"
        return program

    def _arguments(
        self,
        step: Step,
        op: sched.Layers,
        number: int,
        rows: list[int],
        carried: Sequence[list[Any]],
    ) -> list[list[Any]]:
        """Those of layer `number` on each rank; `rows` of the stacks are taken."""
        uses = step.properties["uses"][step.properties["kinds"][number]]
        arguments = []
        for frame, own in zip(self.frames, carried, strict=True):
            states = frame.values_of(op.states)
            held = [states[stack][rows[stack]] for stack in uses]
            arguments.append([*own, *frame.values_of(op.shared), number, *held])
        for stack in uses:
            rows[stack] += 1
        return arguments

    def _inner(
        self,
        step: Step,
        program: ProgramPlan,
        number: int,
        seen: dict[str, _Seen] | None = None,
    ) -> _Call:
        label = step.properties["label"]
        prefixes = f"{label}.{number}.", f"{label}.{number - 1}."
        return _Call(self.executor, self.ranks, program, number, prefixes, seen)

    # ---- those who look on ---------------------------------------------------------------------

    def _watched(self, step: Step) -> None:
        """Named values as they are when they are whole; what comes back takes their place."""
        assert isinstance(step.op, sched.Action)
        self.ended.add(step.op)
        if self.executor.watch is None:
            return
        for named in self.program.named.get(step.op, []):
            if is_watched(named.step) and named.makers <= self.ended:
                self._show(named)

    def _show(self, named: Named) -> None:
        name = f"{self.prefixes[named.behind]}{named.step.name}"
        group, count = self.executor.plan.group, len(self.ranks)
        if named.half is None:
            shown = shown_of(named.step, count, group)
            values = [self.frames[n].value(named.value) for n in shown]
            back = self._shown(name, named.step, values)
            if back is None:
                return
            if len(named.makers) > 1:
                raise ExecutionError(f"{name} is made in waves: nothing can take its place")
            _write_back(values, back)
            if named.step.layout == WHOLE:
                self._copy_in_groups(named.value, shown)
            return
        seen = self.seen.setdefault(name, _Seen())
        seen.values[named.half] = [
            copied(frame.value(named.value, named.half)) for frame in self.frames
        ]
        if len(seen.values) == 2:
            del self.seen[name]
            both = [value for pair in zip(*(seen.values[n] for n in (0, 1)), strict=True)
                    for value in pair]  # fmt: skip
            values = [both[n] for n in shown_of(named.step, count, group, parts=2)]
            if self._shown(name, named.step, values) is not None:
                raise ExecutionError(f"{name} is made by halves: nothing can take its place")

    def _shown(self, name: str, step: Step, values: list[Any]) -> Any:
        """What is to take the place of a value; None: nothing."""
        assert self.executor.watch is not None
        whole = values[0] if len(values) == 1 else merged(values)
        back = self.executor.watch(name, whole, step)
        return None if back is whole else back

    def _copy_in_groups(self, held: SSAValue, shown: Sequence[int]) -> None:
        """What the first rank of a group has, to the others."""
        group = self.executor.plan.group
        for n in shown:
            for frame in self.frames[n + 1 : n + group]:
                overwrite(frame.value(held), self.frames[n].value(held))


def _settle_layers(frame: Frame, op: sched.Layers) -> None:
    """What layers carry keeps its sizes; what windows leave has those of each window."""
    spares = op.spares if op.microbatches is None else ()
    for targets in (op.outputs, spares):
        for target, value in zip(targets, op.carried, strict=False):
            frame.make(target, frame.value(value).shape)


def _write_back(values: list[Any], whole: Any) -> None:
    """Each rank gets its rows of a value for all of them."""
    start = 0
    for held in values:
        part = whole if len(values) == 1 else whole[start : start + len(held)]
        overwrite(held, part)
        start += held.shape[0] if held.shape else 1
