"""What a step of a deployment does, read from a scheduled module: tasks, transfers, their order.

    work = step_work(module, entries)

Every task of a program is one item, every wave and each half of the sequences one of its own. What
depends on weights alone is computed once when they are loaded, and is no task of a step.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.ir import SSAValue

from supertile.ir import graph, sched
from supertile.ir.comm_route import Route
from supertile.ir.comm_work import bytes_of_row
from supertile.ir.locations import place_of
from supertile.ir.op import properties_of
from supertile.ir.sched import tensor_of
from supertile.ir.sched_shapes import program_shapes
from supertile.ir.tile_count import kernel_work
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import KernelWork, Size
from supertile.ir.types import StateAttr
from supertile.ir.work import bytes_of

EXCHANGED = ("dispatch", "combine")


@dataclass
class Item:
    """A task before it is costed: what it does, and the tasks that it waits for."""

    action: sched.Action
    waits: tuple[int, ...]
    source: str
    work: KernelWork | None = None
    """Of a launch, on the experts of all waves."""
    transfer: str = ""
    """Of a transfer: dispatch, combine, all_gather or all_reduce."""
    row: int = 0
    """Of a dispatch or a combine: bytes of one row."""
    routing: int = 0
    """Bytes that say where a row belongs."""
    route: Route | None = None
    slots: int = 1
    """Of a dispatch: experts that the fullest rank holds."""
    size: Size = 0
    """Of a collective: bytes that every rank of the group has in the end."""
    group: int = 1

    @property
    def half(self) -> int | None:
        """Which of two micro-batches; None: all sequences."""
        return self.action.half_number

    @property
    def wave(self) -> sched.WaveAttr | None:
        held = self.action
        return held.wave if isinstance(held, sched.Task | sched.Transfer) else None

    @property
    def part(self) -> str:
        """ "half 1, wave 2", of what is done in parts."""
        half, wave = self.half, self.wave
        marks = [] if half is None else [f"half {half + 1}"]
        return ", ".join(marks if wave is None else [*marks, f"wave {wave.number + 1}"])


@dataclass
class Stretch:
    """The tasks of a program, or of an entry before or behind its layers."""

    name: str
    program: sched.Program
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class StepWork:
    """All stretches of a step, and the order in which they run."""

    stretches: tuple[Stretch, ...]
    order: tuple[tuple[str, int], ...]
    prepared: int
    """Launches that depend on weights alone."""

    def works(self) -> Iterator[KernelWork]:
        for stretch in self.stretches:
            for item in stretch.items:
                if item.work is not None:
                    yield item.work


KnownWorks = dict[Hashable, KernelWork]
"""By kernel, shapes and labels of operands: schedules of one module have launches in common."""


def step_work(
    module: ModuleOp, entries: Sequence[str], known: KnownWorks | None = None
) -> StepWork:
    """The work of a step that calls the entries once each, over named sizes.

    `known` works, of the same kernels, are not counted again; those that are counted join them.
    """
    programs = {op.sym_name.data: op for op in module.ops if isinstance(op, sched.Program)}
    reader = _Reader({} if known is None else known)
    order: list[tuple[str, int]] = []
    for entry in entries:
        _read_entry(programs[entry], entry, programs, reader, order)
    held = [stretch for stretch in reader.stretches.values() if stretch.items]
    kept = {stretch.name for stretch in held}
    return StepWork(
        tuple(held), tuple((name, count) for name, count in order if name in kept), reader.prepared
    )


def _read_entry(
    program: sched.Program,
    entry: str,
    programs: Mapping[str, sched.Program],
    reader: _Reader,
    order: list[tuple[str, int]],
) -> None:
    parts = reader.read(program, [f"{entry}: before layers", f"{entry}: behind layers"])
    order.append((parts[0], 1))
    for op in program.actions:
        if not isinstance(op, sched.Layers):
            continue
        names = properties_of(op)["functions"]
        for name in dict.fromkeys(names):
            reader.read(programs[name], [name])
        for kind in properties_of(op)["kinds"]:
            name = names[kind]
            if order[-1][0] == name:
                order[-1] = (name, order[-1][1] + 1)
            else:
                order.append((name, 1))
    order.append((parts[1], 1))


class _Reader:
    """Reads programs once each into stretches."""

    def __init__(self, works: KnownWorks) -> None:
        self.stretches: dict[str, Stretch] = {}
        self.works = works
        self.prepared: int = 0

    def read(self, program: sched.Program, names: list[str]) -> list[str]:
        """The stretches of a program: one, or one on each side of its layers."""
        if names[0] in self.stretches:
            return names
        walk = _Walk(program, self.works)
        for name in names:
            self.stretches[name] = Stretch(name, program)
        number = 0
        for op in program.body.block.ops:
            if isinstance(op, sched.Layers):
                number += 1
                walk.pass_layers()
            else:
                stretch = self.stretches[names[min(number, len(names) - 1)]]
                walk.visit(op, stretch)
        self.prepared += walk.prepared
        return names


class _Walk:
    """One pass over a program: what each piece of memory is, and who is no task of a step."""

    def __init__(self, program: sched.Program, works: KnownWorks) -> None:
        self.kernels = kernels_of(program)
        self.shapes = program_shapes(program, self.kernels)
        self.works = works
        self.labels: dict[SSAValue, str] = {}
        self.fixed: set[SSAValue] = set()
        """Memory whose contents follow from weights alone."""
        self.prepared = 0
        self.numbers: dict[sched.Action, int] = {}
        arguments = zip(program.body.block.args, program.arguments, strict=False)
        for value, held in arguments:
            self.labels[value] = _state_name(held)

    def pass_layers(self) -> None:
        """Behind the layers nothing waits for what came before them."""
        self.numbers.clear()

    def visit(self, op: object, stretch: Stretch) -> None:
        match op:
            case graph.Weight():
                self.labels[op.result] = op.checkpoint.data
                self.fixed.add(op.result)
            case sched.View():
                self._is_like(op.result, op.x)
            case sched.Task():
                self._task(op, stretch)
            case sched.Transfer():
                self._transfer(op, stretch)
            case sched.Copy():
                self._is_like(op.outputs[0], op.inputs[0])

    def _is_like(self, value: SSAValue, source: SSAValue) -> None:
        self.labels[value] = self.labels.get(source, "")
        if source in self.fixed:
            self.fixed.add(value)

    def _task(self, op: sched.Task, stretch: Stretch) -> None:
        inputs = op.operands_of_kernel
        if inputs and all(value in self.fixed for value in inputs):
            self.prepared += 1
            for value in op.outputs:
                self._is_like(value, inputs[0])
            return
        shapes = [self.shapes[value] for value in inputs]
        labels = [self.labels.get(value, "") for value in inputs]
        key = (op.kernel.data, tuple(shapes), tuple(labels))
        if key not in self.works:
            self.works[key] = kernel_work(self.kernels[op.kernel.data], shapes, labels)
        self._add(stretch, Item(op, self._waits(op), place_of(op.location), self.works[key]))

    def _transfer(self, op: sched.Transfer, stretch: Stretch) -> None:
        kind = op.kind.data
        if kind == "share":  # rows that the rank has: an action, but no task
            self._is_like(op.outputs[0], op.inputs[0])
            return
        item = Item(op, self._waits(op), place_of(op.location), transfer=kind)
        item.route = None if op.route is None else op.route.route
        if kind not in EXCHANGED:
            assert op.ranks is not None
            item.group = op.ranks.value.data
            item.size = bytes_of(tensor_of(op.inputs[0]), self.shapes[op.outputs[0]])
        else:
            item.row = bytes_of_row(tensor_of(op.inputs[0]))
        if kind == "dispatch":
            row_weight, origin = (op.outputs[1], op.outputs[-1])
            item.routing = sum(bytes_of_row(tensor_of(value)) for value in (row_weight, origin))
            assert op.placement is not None
            item.slots = op.placement.width
        self._add(stretch, item)

    def _waits(self, op: sched.Action) -> tuple[int, ...]:
        """Tasks to wait for; through actions that are no tasks of a step, what those wait for."""
        found: set[int] = set()
        seen: set[sched.Action] = set()
        waiting = op.awaited
        while waiting:
            held = waiting.pop()
            if held in self.numbers:
                found.add(self.numbers[held])
            elif held not in seen and not isinstance(held, sched.Layers):
                seen.add(held)
                waiting += held.awaited
        return tuple(sorted(found))

    def _add(self, stretch: Stretch, item: Item) -> None:
        self.numbers[item.action] = len(stretch.items)
        stretch.items.append(item)


def _state_name(held: object) -> str:
    state = held.data.get("graph.state") if isinstance(held, DictionaryAttr) else None
    return state.state.data if isinstance(state, StateAttr) else ""
