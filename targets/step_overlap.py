"""A step with its communication hidden: the tasks of a layer in waves, or for two micro-batches.

    in waves    dispatch, experts and combine are n tasks each; wave i of one waits for wave i of
                what it waits for, and for its own wave i - 1

In two micro-batches one run of a layer has all tasks twice, in this order on each lane:

    first half to its dispatch; what the second half did not end in the layer before; second half to
    its dispatch; experts of both; combine of the first half and what is behind it

so that the second half is a combine behind: it runs under the next layer's attention of the first.
The first layer that dispatches has nothing left over from before it ("..., first"), and behind the
last one what is left over runs alone ("..., rest").
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xdsl.dialects.builtin import ModuleOp

from supertile.ir import sched
from supertile.targets.cost.values import number_text
from supertile.targets.deploy import spread
from supertile.targets.machine_types import Machine
from supertile.targets.step import WHOLE, Costs, Sizes, Wave, timed
from supertile.targets.step_work import Item, StepWork, Stretch
from supertile.targets.timeline import Task

FIRST, REST = ", first", ", rest"


@dataclass(frozen=True)
class Overlap:
    """How communication is hidden: options of the pass `overlap-comm`."""

    microbatches: int = 1
    waves: int = 1

    @property
    def text(self) -> str:
        batches, waves = f"{self.microbatches} batches", f"{self.waves} waves"
        named = [batches] * (self.microbatches > 1) + [waves] * (self.waves > 1)
        return " of ".join(named) or "none"


NO_OVERLAP = Overlap()


@dataclass
class StepCosts:
    """What the items of a step take: with all sequences of a rank, and with one half of them.

    Tasks that were costed are kept: the ways of hiding communication have most in common.
    """

    machine: Machine
    whole: Sizes
    halves: tuple[Sizes, ...] = ()
    """Of two micro-batches; none where there is one sequence."""
    costs: dict[int, Costs] = field(default_factory=dict)
    tasks: dict[Hashable, tuple[Item, Task]] = field(default_factory=dict)
    """By the identity of their item, which is held so that no other gets it."""

    def task(self, item: Item, half: int | None, wave: Wave = WHOLE) -> Task:
        # All waves behind the first one cost alike.
        key = (id(item), half, min(wave.number, 1), wave.slots, wave.width)
        if key not in self.tasks:
            sizes = self.whole if half is None else self.halves[half]
            costs = self.costs.setdefault(id(sizes), Costs())
            self.tasks[key] = item, costs.task(item, self.machine, sizes, wave)
        return self.tasks[key][1]

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(note for held in self.costs.values() for note in held.notes))


@dataclass(frozen=True)
class Piece:
    """A task to be: an item of a stretch, for one micro-batch, one wave of it."""

    item: int
    half: int
    wave: Wave
    waits: tuple[int, ...]
    """Pieces of the same program."""


@dataclass(frozen=True)
class CostedProgram:
    """The tasks of a program with their times, and the item that each belongs to."""

    stretch: Stretch
    items: tuple[int, ...]
    tasks: tuple[Task, ...]

    @property
    def duration(self) -> float:
        return max((task.end for task in self.tasks), default=0.0)


@dataclass
class CostedStep:
    """All programs of a step by name, and their order."""

    programs: dict[str, CostedProgram] = field(default_factory=dict)
    order: list[tuple[str, int]] = field(default_factory=list)

    @property
    def duration(self) -> float:
        return sum(count * self.programs[name].duration for name, count in self.order)

    def of_stretches(self) -> dict[str, list[tuple[int, Task]]]:
        """The tasks of each stretch, as it mostly runs, with the numbers of their items."""
        found: dict[str, list[tuple[int, Task]]] = {}
        for held in sorted(self.programs.values(), key=lambda one: -len(one.tasks)):
            tasks = list(zip(held.items, held.tasks, strict=True))
            found.setdefault(held.stretch.name, tasks)
        return found


def overlap_of(module: ModuleOp) -> Overlap:
    """What the pass has written to a scheduled module."""
    layers = [op.microbatches for op in module.walk() if isinstance(op, sched.Layers)]
    transfers = [op.waves for op in module.walk() if isinstance(op, sched.Transfer)]
    return Overlap(
        *(max((held.value.data for held in own if held), default=1) for own in (layers, transfers))
    )


# ---- the programs of a step --------------------------------------------------------------------


def costed_step(work: StepWork, overlap: Overlap, costs: StepCosts) -> CostedStep:
    """Every program with its times. Without a second sequence there is one micro-batch."""
    return _Coster(work, overlap, costs).step()


class _Coster:
    def __init__(self, work: StepWork, overlap: Overlap, costs: StepCosts) -> None:
        self.stretches = {one.name: one for one in work.stretches}
        self.work = work
        self.waves = overlap.waves
        self.split = overlap.microbatches > 1 and len(costs.halves) > 1
        self.costs = costs
        self.found = CostedStep()

    def step(self) -> CostedStep:
        names = ["", *(name for name, count in self.work.order for _ in range(count)), ""]
        for before, name, behind in zip(names, names[1:], names[2:], strict=False):
            stretch = self.stretches[name]
            if not (self.split and stretch.is_layer):
                self._add(name, stretch, [(0, range(len(stretch.items)))])
                continue
            parts = parts_of(stretch)
            self._add_window(name, stretch, parts, fresh=not self._is_open(before))
            if parts.tail and not self._is_open(behind):
                self._add(name + REST, stretch, [(1, parts.tail)])
        return self.found

    def _is_open(self, name: str) -> bool:
        """Whether the second half of a program ends in the next one."""
        stretch = self.stretches.get(name)
        return stretch is not None and stretch.is_layer and bool(parts_of(stretch).tail)

    def _add_window(self, name: str, stretch: Stretch, parts: Parts, fresh: bool) -> None:
        units: list[tuple[int, Iterable[int]]] = [(0, parts.head)]
        units += [] if fresh else [(1, parts.tail)]
        units += [(1, parts.head), (0, parts.middle), (1, parts.middle), (0, parts.tail)]
        self._add(name + (FIRST if fresh and parts.tail else ""), stretch, units)

    def _add(self, name: str, stretch: Stretch, units: Sequence[tuple[int, Iterable[int]]]) -> None:
        if name not in self.found.programs:
            pieces = _pieces(stretch, units, self.waves)
            tasks = timed([self._task(stretch, piece) for piece in pieces])
            items = tuple(piece.item for piece in pieces)
            self.found.programs[name] = CostedProgram(stretch, items, tuple(tasks))
        order = self.found.order
        if order and order[-1][0] == name:
            order[-1] = (name, order[-1][1] + 1)
        else:
            order.append((name, 1))

    def _task(self, stretch: Stretch, piece: Piece) -> Task:
        half = piece.half if self.split and stretch.is_layer else None
        task = self.costs.task(stretch.items[piece.item], half, piece.wave)
        marks = [f"half {piece.half + 1}"] * (half is not None)
        marks += [f"wave {piece.wave.number + 1}"] * (piece.wave.slots < piece.wave.width)
        return replace(task, part=", ".join(marks), waits=piece.waits)


# ---- parts of a layer --------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """Items of a layer: to its dispatch and beside it, behind dispatch, from combine on."""

    head: list[int]
    middle: list[int]
    tail: list[int]


def parts_of(stretch: Stretch) -> Parts:
    items = range(len(stretch.items))
    sent = _behind(stretch, _transfers(stretch, "dispatch"))
    back = _behind(stretch, _transfers(stretch, "combine"))
    tail = back | _transfers(stretch, "combine")
    middle = sent - tail
    return Parts(
        [n for n in items if n not in middle and n not in tail], sorted(middle), sorted(tail)
    )


def _transfers(stretch: Stretch, kind: str) -> set[int]:
    return {n for n, item in enumerate(stretch.items) if item.transfer == kind}


def _behind(stretch: Stretch, items: set[int]) -> set[int]:
    """All that waits for some of the items, directly or not."""
    found: set[int] = set()
    for number, item in enumerate(stretch.items):
        if any(wait in items or wait in found for wait in item.waits):
            found.add(number)
    return found


def waved(stretch: Stretch) -> set[int]:
    """The items that run in waves: dispatch, combine, and what lies between them."""
    middle, last = set(parts_of(stretch).middle), _transfers(stretch, "combine")
    needed, waiting = set[int](), list(last)
    while waiting:
        waits = [n for n in stretch.items[waiting.pop()].waits if n in middle - needed]
        needed.update(waits)
        waiting += waits
    return needed | last | _transfers(stretch, "dispatch")


# ---- pieces ------------------------------------------------------------------------------------


def _pieces(
    stretch: Stretch, units: Sequence[tuple[int, Iterable[int]]], waves: int
) -> list[Piece]:
    """The pieces of (half, items) one after the other: on a lane, what could start alike does so.

    What is waited for and does not come before was done with in the program before; what waits for
    nothing else in the second half waits for what is left over there.
    """
    width = max((item.slots for item in stretch.items), default=1)
    runs = spread(width, min(waves, width))
    in_waves = waved(stretch) if len(runs) > 1 else set[int]()
    place: dict[tuple[int, int, int], int] = {}
    pieces: list[Piece] = []
    left: dict[int, list[int]] = {}
    for half, items in units:
        before = left.get(half, [])
        for item in items:
            for wave in range(len(runs) if item in in_waves else 1):
                held = Wave(wave, runs[wave], width) if item in in_waves else WHOLE
                waits = _waits(
                    stretch.items[item], half, wave, item in in_waves, range(len(runs)), place
                )
                if wave:
                    waits.append(place[half, item, wave - 1])
                place[half, item, wave] = len(pieces)
                pieces.append(Piece(item, half, held, tuple(sorted(waits or before))))
        left.setdefault(half, _ends(pieces, half))
    return pieces


def _waits(
    item: Item,
    half: int,
    wave: int,
    waved: bool,
    waves: range,
    place: Mapping[tuple[int, int, int], int],
) -> list[int]:
    """Of what an item waits for, the same wave where that has waves, else all of it."""
    found = []
    for wait in item.waits:
        last = max((number for number in waves if (half, wait, number) in place), default=-1)
        if last >= 0:
            found.append(place[half, wait, wave if waved and last else last])
    return found


def _ends(pieces: Sequence[Piece], half: int) -> list[int]:
    """The pieces of a half that no other waits for."""
    waited = {wait for piece in pieces for wait in piece.waits}
    return [n for n, piece in enumerate(pieces) if piece.half == half and n not in waited]


# ---- texts -------------------------------------------------------------------------------------


def overlap_text(chosen: Overlap, seconds: float, others: Mapping[Overlap, float]) -> str:
    """`4 waves 57.1 ms (none 63 ms, 2 batches 71.2 ms)`: what was chosen, and the other ways."""
    told = ", ".join(f"{one.text} {number_text(time, 's')}" for one, time in others.items())
    return f"{chosen.text} {number_text(seconds, 's')}" + (f" ({told})" if told else "")
