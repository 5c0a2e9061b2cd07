"""One step of a deployment as tasks on lanes, from a tiled module: what runs when, at what cost.

    timeline = step_timeline(module, machine, deployment, config, names)

Kernels take all cores of a device and run one after the other on the lane `compute`; transfers
run on the lane of their outermost link, beside kernels that do not wait for them. A task starts
once what it waits for has ended and its lane is free; of those that could start first, the first
in program order does. What depends on weights alone is computed once when they are loaded, and is
no task.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.comm_route import Route
from supertile.ir.comm_work import ARRIVED, CopyBytes, copy_bytes, group_bytes
from supertile.ir.locations import place_of
from supertile.ir.op import properties_of
from supertile.ir.tile_count import kernel_work
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import Extent, KernelWork, Size
from supertile.ir.types import StateAttr, type_of
from supertile.ir.work import bytes_of, function_shapes
from supertile.targets.cost.kernel import kernel_time
from supertile.targets.cost.link import (
    LinkTime,
    all_gather_time,
    all_reduce_time,
    transfer_time,
)
from supertile.targets.cost.route import Exchange, route_time
from supertile.targets.cost.values import Value, number_text, value_of
from supertile.targets.machine_types import Machine
from supertile.targets.timeline import Program, Task

COMPUTE = "compute"


@dataclass
class Item:
    """A task before it is costed: what it does, and the tasks that it waits for."""

    number: int
    """Of the launches, transfers and layers of its function."""
    waits: tuple[int, ...]
    source: str
    work: KernelWork | None = None
    """Of a launch."""
    transfer: str = ""
    """Of a transfer: dispatch, combine, all_gather or all_reduce."""
    each: CopyBytes | None = None
    """Of a dispatch or a combine."""
    route: Route | None = None
    slots: int = 1
    """Of a dispatch: experts that the fullest rank holds."""
    size: Size = 0
    """Of a collective: bytes that every rank of the group has in the end."""
    group: int = 1


class Wave(NamedTuple):
    """A run of the slots of a rank, and the transfer or launch of their rows."""

    number: int = 0
    slots: int = 1
    width: int = 1
    """Slots of all waves."""

    def of(self, sizes: Sizes) -> Sizes:
        share = self.slots / self.width
        if share == 1:
            return sizes
        values = {**sizes.values, ARRIVED: sizes.values[ARRIVED] * share}
        return replace(sizes, values=values, copies=sizes.copies * share, share=share)

    def part(self, work: KernelWork) -> KernelWork:
        """The work of a launch on the experts of these slots."""
        if self.slots == self.width:
            return work
        return replace(
            work,
            phases=tuple(
                replace(phase, grid=tuple(map(self._extent, phase.grid))) for phase in work.phases
            ),
            read=tuple(map(self._operand, work.read)),
            held=tuple(map(self._operand, work.held)),
        )

    def _extent(self, extent: Extent) -> Extent:
        return replace(extent, groups=self.slots) if extent.groups == self.width else extent

    def _operand(self, operand: tuple[str, Size]) -> tuple[str, Size]:
        label, size = operand
        of_experts = "{e}" in label and isinstance(size, int)
        return (label, size * self.slots // self.width) if of_experts else operand


WHOLE = Wave()


@dataclass
class Stretch:
    """The tasks of a function, or of an entry before or behind its layers."""

    name: str
    function: str
    items: list[Item] = field(default_factory=list)

    @property
    def is_layer(self) -> bool:
        return self.name == self.function


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


# ---- from the module ---------------------------------------------------------------------------


def step_work(module: ModuleOp, entries: Sequence[str]) -> StepWork:
    """The work of a step that calls the entries once each, over named sizes."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    reader = _Reader()
    order: list[tuple[str, int]] = []
    for entry in entries:
        _read_entry(functions[entry], entry, functions, reader, order)
    held = [stretch for stretch in reader.stretches.values() if stretch.items]
    kept = {stretch.name for stretch in held}
    return StepWork(
        tuple(held), tuple((name, count) for name, count in order if name in kept), reader.prepared
    )


def _read_entry(
    function: FuncOp,
    entry: str,
    functions: Mapping[str, FuncOp],
    reader: _Reader,
    order: list[tuple[str, int]],
) -> None:
    parts = reader.read(function, [f"{entry}: before layers", f"{entry}: behind layers"])
    order.append((parts[0], 1))
    for op in function.body.block.ops:
        if not isinstance(op, graph.Layers):
            continue
        names = properties_of(op)["functions"]
        for name in dict.fromkeys(names):
            reader.read(functions[name], [name])
        for kind in properties_of(op)["kinds"]:
            name = names[kind]
            if order[-1][0] == name:
                order[-1] = (name, order[-1][1] + 1)
            else:
                order.append((name, 1))
    order.append((parts[1], 1))


class _Reader:
    """Reads functions once each into stretches."""

    def __init__(self) -> None:
        self.stretches: dict[str, Stretch] = {}
        self.works: dict[Hashable, KernelWork] = {}
        self.prepared = 0

    def read(self, function: FuncOp, names: list[str]) -> list[str]:
        """The stretches of a function: one, or one on each side of its layers."""
        if names[0] in self.stretches:
            return names
        walk = _Walk(function, self.works)
        for name in names:
            self.stretches[name] = Stretch(name, function.sym_name.data)
        number = 0
        for op in function.body.block.ops:
            if isinstance(op, graph.Layers):
                number += 1
                walk.pass_layers()
            else:
                walk.visit(op, self.stretches[names[min(number, len(names) - 1)]])
        self.prepared += walk.prepared
        return names


class _Walk:
    """One pass over a function: who makes each value, and which values are weights."""

    def __init__(self, function: FuncOp, works: dict[Hashable, KernelWork]) -> None:
        self.function = function
        self.works = works
        self.shapes = function_shapes(function)
        self.kernels = kernels_of(function)
        self.maker: dict[SSAValue, int] = {}
        self.labels: dict[SSAValue, str] = {}
        self.prepared = 0
        self.number = 0
        for number, argument in enumerate(function.body.block.args):
            self.labels[argument] = _state_name(function, argument, number)

    def pass_layers(self) -> None:
        """Behind the layers nothing waits for what came before them."""
        self.maker.clear()
        self.number += 1

    def visit(self, op: Operation, stretch: Stretch) -> None:
        match op:
            case graph.Weight():
                self.labels[op.result] = op.checkpoint.data
            case graph.Reshape():
                self._pass_on(op.x, op.result)
            case tile.Launch():
                self._launch(op, stretch)
            case comm.Dispatch() | comm.Combine():
                self._transfer(op, stretch)
            case comm.AllGather() | comm.AllReduce():
                self._collective(op, stretch)
            case comm.Share():
                self._pass_on(op.x, op.result)  # rows that the rank has: no task, but an action
                self.number += 1
            case graph.Constant() | ReturnOp():
                return
            case _:
                raise ValueError(f"{op.name} is no part of a tiled function")

    def _pass_on(self, value: SSAValue, result: SSAValue) -> None:
        self.labels[result] = self.labels.get(value, "")
        if value in self.maker:
            self.maker[result] = self.maker[value]

    def _transfer(self, op: comm.Dispatch | comm.Combine, stretch: Stretch) -> None:
        name = op.name.removeprefix("comm.")
        waits, each = self._waits(op), _copy_bytes(op)
        route = None if op.route is None else op.route.route
        item = Item(
            self.number, waits, place_of(op.location), transfer=name, each=each, route=route
        )
        if isinstance(op, comm.Dispatch):
            item.slots = op.placement.width
        self._add(op, item, stretch)
        self.number += 1

    def _collective(self, op: comm.AllGather | comm.AllReduce, stretch: Stretch) -> None:
        name, size = op.name.removeprefix("comm."), group_bytes(op, self.shapes)
        group, place = op.ranks.value.data, place_of(op.location)
        waits = self._waits(op)
        item = Item(self.number, waits, place, transfer=name, size=size, group=group)
        self._add(op, item, stretch)
        self.number += 1

    def _launch(self, op: tile.Launch, stretch: Stretch) -> None:
        number, self.number = self.number, self.number + 1
        if op.operands and all(self._is_weight(value) for value in op.operands):
            self.prepared += 1
            for result in op.results:
                self.labels[result] = self.labels[op.operands[0]]
            return
        shapes = [self.shapes[value] for value in op.operands]
        labels = [self.labels.get(value, "") for value in op.operands]
        key = (op.kernel.data, tuple(shapes), tuple(labels))
        if key not in self.works:
            self.works[key] = kernel_work(self.kernels[op.kernel.data], shapes, labels)
        self._add(
            op, Item(number, self._waits(op), place_of(op.location), self.works[key]), stretch
        )

    def _is_weight(self, value: SSAValue) -> bool:
        return bool(self.labels.get(value)) and not isinstance(value, BlockArgument)

    def _waits(self, op: Operation) -> tuple[int, ...]:
        return tuple(sorted({self.maker[value] for value in op.operands if value in self.maker}))

    def _add(self, op: Operation, item: Item, stretch: Stretch) -> None:
        for result in op.results:
            self.maker[result] = len(stretch.items)
        stretch.items.append(item)


def _state_name(function: FuncOp, argument: SSAValue, number: int) -> str:
    held = function.arg_attrs.data[number] if function.arg_attrs else None
    state = held.data.get("graph.state") if isinstance(held, DictionaryAttr) else None
    return state.state.data if isinstance(state, StateAttr) else ""


def _copy_bytes(op: comm.Dispatch | comm.Combine) -> CopyBytes:
    """The bytes of a row through a dispatch and the combine that belongs to it."""
    if isinstance(op, comm.Dispatch):
        use = next(iter(op.origin.uses)).operation
        assert isinstance(use, comm.Combine)
        return copy_bytes(op, use)
    assert isinstance(op.origin, OpResult)
    assert isinstance(op.origin.op, comm.Dispatch)
    return copy_bytes(op.origin.op, op)


# ---- from the schedule -------------------------------------------------------------------------


def with_events(work: StepWork, module: ModuleOp) -> StepWork:
    """The tasks with the waits of the programs of a scheduled module, sharing of memory included.

    A program has one action for each launch and transfer of its function, in order; then copies.
    """
    programs = {op.sym_name.data: op for op in module.ops if isinstance(op, sched.Program)}
    if not programs:
        return work
    held = [_with_events(stretch, programs[stretch.function]) for stretch in work.stretches]
    return replace(work, stretches=tuple(held))


def _with_events(stretch: Stretch, program: sched.Program) -> Stretch:
    actions = program.actions
    numbers = {actions[item.number]: n for n, item in enumerate(stretch.items)}
    items = [replace(item, waits=_events(actions[item.number], numbers)) for item in stretch.items]
    return replace(stretch, items=items)


def _events(action: sched.Action, numbers: Mapping[sched.Action, int]) -> tuple[int, ...]:
    """Tasks to wait for; through actions that are no tasks of the stretch, what those wait for."""
    found: set[int] = set()
    seen: set[sched.Action] = set()
    waiting = action.awaited
    while waiting:
        held = waiting.pop()
        if held in numbers:
            found.add(numbers[held])
        elif held not in seen and not isinstance(held, sched.Layers):
            seen.add(held)
            waiting += held.awaited
    return tuple(sorted(found))


# ---- costs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """What a step is costed at."""

    values: Mapping[str, Value]
    touched: Mapping[str, Value]
    """Label of an expert weight -> the share of its experts that have rows."""
    copies: float
    """Rows that the fullest rank sends or receives in one direction, its own included."""
    ranks: int
    experts: int = 1
    choices: int = 1
    tail: float = 1.0
    """Rows of the fullest rank over the average; `copies` has it."""
    share: float = 1.0
    """Of the experts: a wave; `copies` has it."""

    def exchange(self, item: Item) -> Exchange:
        """What a transfer carries."""
        assert item.each is not None
        outward = item.transfer == "dispatch"
        return Exchange(
            operation=item.transfer,
            ranks=self.ranks,
            experts=self.experts,
            choices=self.choices,
            tokens=self.copies / (self.choices * self.tail * self.share),
            tail=self.tail,
            share=self.share,
            row=item.each.out if outward else item.each.back,
            routing=item.each.routing if outward else 0,
        )


@dataclass
class Costs:
    """Tasks by what they do, at one set of sizes: equal launches cost the same."""

    tasks: dict[Hashable, Task] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)

    def task(self, item: Item, machine: Machine, sizes: Sizes, wave: Wave = WHOLE) -> Task:
        """What an item takes, or a wave of it: later ones belong to what the first one started."""
        if item.work is not None:
            made = self._kernel(wave.part(item.work), machine, wave.of(sizes))
            if wave.number:
                made = replace(made, duration=made.duration - made.launch, launch=0.0)
        else:
            made = self._sent(item, machine, wave.of(sizes))
            if wave.number:
                start = self._sent(item, machine, replace(sizes, copies=0.0)).duration
                made = _announced(made, start, machine)
        continues = wave.number > 0
        return replace(made, waits=item.waits, source=item.source, continues=continues)

    def _sent(self, item: Item, machine: Machine, sizes: Sizes) -> Task:
        own = (item.each, item.route, item.size, item.group)
        key = (item.transfer, *own, sizes.copies, sizes.share)
        if key not in self.tasks:
            self.tasks[key] = self._transfer(item, machine, sizes)
        return self.tasks[key]

    def _kernel(self, work: KernelWork, machine: Machine, sizes: Sizes) -> Task:
        # Launches of one kernel on operands of the same sizes.
        key = (work.symbol, work.read, work.written, work.held)
        if key not in self.tasks:
            time = kernel_time(work, machine, sizes.values, sizes.touched)
            self.notes.update(dict.fromkeys(time.notes))
            self.tasks[key] = Task(
                name=work.symbol,
                kind=work.kind,
                lane=COMPUTE,
                start=0.0,
                duration=float(time.duration),
                waits=(),
                busy={name: float(seconds) for name, seconds in time.busy.items()},
                launch=time.launch,
                bound=str(time.bound),
                flops=float(time.flops),
                bytes={name: float(size) for name, size in time.bytes.items()},
                formula=time.formula,
                figures=time.figures,
            )
        return self.tasks[key]

    def _transfer(self, item: Item, machine: Machine, sizes: Sizes) -> Task:
        of_kind = _collective_time if item.each is None else _exchange_time
        time = of_kind(item, machine, sizes)
        self.notes.update(dict.fromkeys(time.notes))
        return Task(
            name=item.transfer,
            kind="communication",
            lane=_lane(time, machine),
            start=0.0,
            duration=float(time.duration),
            waits=(),
            busy={name: float(seconds) for name, seconds in time.busy.items()},
            launch=time.launch,
            bound=time.bound,
            wire_bytes=float(time.wire_bytes),
            messages=float(time.messages),
            formula=time.formula,
            figures=time.figures,
            route="" if item.route is None else str(item.route),
        )


def _exchange_time(item: Item, machine: Machine, sizes: Sizes) -> LinkTime:
    """The time of a dispatch or a combine."""
    held = sizes.exchange(item)
    if item.route is not None:
        return route_time(machine, held, item.route)
    size = held.copies * (held.row + held.routing)
    return transfer_time(machine, sizes.ranks, held.copies, size, item.transfer)


def _collective_time(item: Item, machine: Machine, sizes: Sizes) -> LinkTime:
    """The time of what a group does together, over the innermost domains that hold it."""
    times = {"all_gather": all_gather_time, "all_reduce": all_reduce_time}
    return times[item.transfer](machine, item.group, value_of(item.size, sizes.values))


def _announced(task: Task, start: float, machine: Machine) -> Task:
    """A later wave of a transfer: in place of its start-up a flag, after the link's latency."""
    domains = machine.domains[[one.name for one in machine.domains].index(task.lane) :]
    known = (one for one in domains if one.latency.value is not None)
    found = next(known, None)
    flag = start if found is None else min(start, found.latency.value or 0.0)
    path = () if found is None else (f"domains.{found.name}.latency",)
    return replace(
        task,
        duration=max(0.0, task.duration - start) + flag,
        launch=0.0,
        figures=tuple(dict.fromkeys((*task.figures, *path))),
        formula=f"{task.formula}\na later wave: {number_text(flag, 's')} for a flag in place of "
        f"{number_text(start, 's')} of start-up",
    )


def _lane(time: LinkTime, machine: Machine) -> str:
    """The outermost link that carries bytes."""
    carrying = [domain.name for domain in machine.domains if domain.name in time.busy]
    return carrying[-1] if carrying else time.bound


# ---- time --------------------------------------------------------------------------------------


def timed(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with starts: as early as waits and lanes allow."""
    free: dict[str, float] = {}
    done: dict[int, Task] = {}
    behind: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        for other in set(task.waits):
            behind.setdefault(other, []).append(number)
    missing = [len(set(task.waits)) for task in tasks]
    earliest = {number: 0.0 for number, count in enumerate(missing) if not count}
    while earliest:
        start, chosen = min(
            (max(ready, free.get(tasks[n].lane, 0.0)), n) for n, ready in earliest.items()
        )
        del earliest[chosen]
        done[chosen] = replace(tasks[chosen], start=start)
        free[tasks[chosen].lane] = done[chosen].end
        for other in behind.get(chosen, ()):
            missing[other] -= 1
            if not missing[other]:
                earliest[other] = max(done[n].end for n in tasks[other].waits)
    return [done[n] for n in range(len(tasks))]


def program_of(name: str, tasks: Sequence[Task]) -> Program:
    """The tasks in order of start."""
    order = sorted(range(len(tasks)), key=lambda n: (tasks[n].start, n))
    place = {n: at for at, n in enumerate(order)}
    return Program(
        name,
        tuple(
            replace(tasks[n], waits=tuple(sorted(place[m] for m in tasks[n].waits))) for n in order
        ),
    )


def annotate_cost(
    work: StepWork,
    tasks: Mapping[str, Sequence[tuple[int, Task]]],
    module: ModuleOp,
    memory: str,
) -> None:
    """Write start, duration, FLOPs and bytes of `memory` of each item to its action.

    `tasks` has those of each stretch with the number of their item; several tasks of one, waves and
    micro-batches, count together from the start of the first on.
    """
    programs = {op.sym_name.data: op for op in module.ops if isinstance(op, sched.Program)}
    for stretch in work.stretches:
        if stretch.function not in programs:
            continue
        actions = programs[stretch.function].actions
        parts: dict[int, list[Task]] = {}
        for number, task in tasks[stretch.name]:
            parts.setdefault(number, []).append(task)
        for number, held in parts.items():
            actions[stretch.items[number].number].cost = sched.CostAttr.of(
                start=round(held[0].start * 1e9),
                duration=round(sum(task.duration for task in held) * 1e9),
                flops=round(sum(task.flops for task in held)),
                bytes=round(sum(task.bytes.get(memory, 0.0) for task in held)),
                wire=round(sum(task.wire_bytes for task in held)),
            )


# ---- memory ------------------------------------------------------------------------------------


class Activations:
    """The values made in a function that live at once; states and weights aside.

    Formulas are made once, so that many deployments can be asked about.
    """

    def __init__(self, function: FuncOp) -> None:
        shapes = function_shapes(function)
        kernels = kernels_of(function)
        ops = list(function.body.block.ops)
        last = {value: n for n, op in enumerate(ops) for value in op.operands}
        live: dict[SSAValue, Size] = {}
        sums: dict[Size, None] = {}
        for number, op in enumerate(ops):
            if isinstance(op, tile.Launch | comm.CommOp):
                for result in op.results:
                    if not _is_kept(op, result, kernels):
                        live[result] = bytes_of(type_of(result), shapes[result])
                sums[sum(live.values())] = None
            for value in op.operands:
                if last[value] == number:
                    live.pop(value, None)
        self.sums = tuple(sums)

    def peak(self, values: Mapping[str, Value]) -> float:
        """The most bytes at one time."""
        return max((float(value_of(size, values)) for size in self.sums), default=0.0)


def _is_kept(op: Operation, value: SSAValue, kernels: Mapping[str, tile.Kernel]) -> bool:
    """Whether a result is a state, which has memory of its own."""
    if not isinstance(op, tile.Launch):
        return False
    reuses = kernels[op.kernel.data].reuses.get_values()
    return any(
        held is value and reused >= 0 for held, reused in zip(op.results, reuses, strict=True)
    )
