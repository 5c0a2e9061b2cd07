"""One step of a deployment as tasks on lanes, from its work: what runs when, at what cost.

Kernels take all cores of a device and run one after the other on the lane `compute`; transfers
run on the lane of their outermost link, beside kernels that do not wait for them. A task starts
once what it waits for has ended and its lane is free; of those that could start first, the first
in program order does. Which tasks there are, and what they wait for, is the program's.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from supertile.ir import sched
from supertile.ir.comm_work import ARRIVED
from supertile.ir.tile_work import Extent, KernelWork, Size
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
from supertile.targets.step_work import EXCHANGED, Item
from supertile.targets.timeline import NANO, Program, Task

COMPUTE = "compute"


class Wave(NamedTuple):
    """A run of the slots of a rank, and the transfer or launch of their rows."""

    number: int = 0
    slots: int = 1
    width: int = 1
    """Slots of all waves."""

    @staticmethod
    def at(wave: sched.WaveAttr | None) -> Wave:
        """The wave of an action; None: all slots."""
        return WHOLE if wave is None else Wave(wave.number, len(wave.slots), wave.width)

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
        return Exchange(
            operation=item.transfer,
            ranks=self.ranks,
            experts=self.experts,
            choices=self.choices,
            tokens=self.copies / (self.choices * self.tail * self.share),
            tail=self.tail,
            share=self.share,
            row=item.row,
            routing=item.routing,
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
        own = (item.row, item.routing, item.route, item.size, item.group)
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
        of_kind = _exchange_time if item.transfer in EXCHANGED else _collective_time
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
    # Where the lane's own latency is unknown, it counts as assumed: another stands for it.
    names = [task.lane, *([] if found is None else [found.name])]
    path = [f"domains.{name}.latency" for name in names]
    seconds = max(0.0, task.duration - start) + flag
    return replace(
        task,
        duration=seconds,
        launch=0.0,
        figures=tuple(dict.fromkeys((*task.figures, *path))),
        formula=f"{task.formula}\na later wave: {number_text(flag, 's')} for a flag in place of "
        f"{number_text(start, 's')} of start-up\n= {number_text(seconds, 's')}",
    )


def _lane(time: LinkTime, machine: Machine) -> str:
    """The outermost link that carries bytes."""
    carrying = [domain.name for domain in machine.domains if domain.name in time.busy]
    return carrying[-1] if carrying else time.bound


# ---- time --------------------------------------------------------------------------------------


def timed(tasks: Sequence[Task]) -> list[Task]:
    """The tasks with starts: as early as waits and lanes allow, in whole nanoseconds.

    Of tasks that could start alike on a lane the first one in order does.
    """
    durations = [round(task.duration * NANO) for task in tasks]
    starts = _starts(tasks, durations)
    return [
        replace(task, start=start / NANO, duration=duration / NANO)
        for task, start, duration in zip(tasks, starts, durations, strict=True)
    ]


def _starts(tasks: Sequence[Task], durations: Sequence[int]) -> list[int]:
    free: dict[str, int] = {}
    starts: dict[int, int] = {}
    behind: dict[int, list[int]] = {}
    for number, task in enumerate(tasks):
        for other in set(task.waits):
            behind.setdefault(other, []).append(number)
    missing = [len(set(task.waits)) for task in tasks]
    earliest = {number: 0 for number, count in enumerate(missing) if not count}
    while earliest:
        start, chosen = min(
            (max(ready, free.get(tasks[n].lane, 0)), n) for n, ready in earliest.items()
        )
        del earliest[chosen]
        starts[chosen] = start
        free[tasks[chosen].lane] = start + durations[chosen]
        for other in behind.get(chosen, ()):
            missing[other] -= 1
            if not missing[other]:
                earliest[other] = max(starts[n] + durations[n] for n in tasks[other].waits)
    return [starts[n] for n in range(len(tasks))]


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
