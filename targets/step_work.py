"""What a step of a deployment does, read from a tiled module: launches, transfers, their order.

    work = step_work(module, entries)           # behind the passes of the tiled level
    work = with_events(work, module)            # behind build-schedule

What depends on weights alone is computed once when they are loaded, and is no task.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.comm_route import Route
from supertile.ir.comm_work import CopyBytes, copy_bytes, group_bytes
from supertile.ir.locations import place_of
from supertile.ir.op import properties_of
from supertile.ir.tile_count import kernel_work
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import KernelWork, Size
from supertile.ir.types import StateAttr
from supertile.ir.work import function_shapes


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
