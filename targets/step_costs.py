"""The costs of a scheduled step: every task of its programs with the time at which it runs.

step = costed_step(step_work(module, entries), costs)
annotate_cost(step, "hbm")          # the cost of every action, in the module
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

from xdsl.dialects.builtin import ModuleOp

from supertile.ir import sched
from supertile.targets.cost.values import number_text
from supertile.targets.machine_types import Machine
from supertile.targets.step import WHOLE, Costs, Sizes, Wave, timed
from supertile.targets.step_work import Item, StepWork, Stretch
from supertile.targets.timeline import NANO, Task


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


def overlap_of(module: ModuleOp) -> Overlap:
    """How a scheduled module hides its communication."""
    batches, waves = [1], [1]
    for op in module.walk():
        if isinstance(op, sched.Layers) and op.microbatches is not None:
            batches.append(op.microbatches.value.data)
        if isinstance(op, sched.Transfer) and op.wave is not None:
            waves.append(op.wave.number + 1)
    return Overlap(max(batches), max(waves))


def overlap_text(chosen: Overlap, seconds: float, others: Mapping[Overlap, float]) -> str:
    """`4 waves 57.1 ms (none 63 ms, 2 batches 71.2 ms)`: what was chosen, and the other ways."""
    told = ", ".join(f"{one.text} {number_text(time, 's')}" for one, time in others.items())
    return f"{chosen.text} {number_text(seconds, 's')}" + (f" ({told})" if told else "")


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
        """An item, for one half of the sequences or all of them."""
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
class CostedProgram:
    """The tasks of a stretch with their times, one for each of its items."""

    stretch: Stretch
    tasks: tuple[Task, ...]

    @property
    def duration(self) -> float:
        return max((task.end for task in self.tasks), default=0.0)


@dataclass(frozen=True)
class CostedStep:
    """All stretches of a step by name, and their order."""

    programs: dict[str, CostedProgram]
    order: tuple[tuple[str, int], ...]

    @property
    def duration(self) -> float:
        return sum(count * self.programs[name].duration for name, count in self.order)


def costed_step(work: StepWork, costs: StepCosts) -> CostedStep:
    """Every stretch with the times of its tasks."""
    programs = {}
    for stretch in work.stretches:
        tasks = [_task(item, costs) for item in stretch.items]
        programs[stretch.name] = CostedProgram(stretch, tuple(timed(tasks)))
    return CostedStep(programs, work.order)


def _task(item: Item, costs: StepCosts) -> Task:
    held = costs.task(item, item.half, Wave.at(item.wave))
    return replace(held, waits=item.waits, part=item.part)


# ---- in the module -----------------------------------------------------------------------------


def annotate_cost(step: CostedStep, memory: str) -> None:
    """Write start, duration, FLOPs and bytes of `memory` to every action of the programs.

    Layers take as long as all their programs, and what is behind them starts at their end. What is
    no task of a step, as it depends on weights alone or moves nothing, takes no time.
    """
    durations = {name: _nanoseconds(held.duration) for name, held in step.programs.items()}
    tasks: dict[sched.Program, dict[sched.Action, Task]] = {}
    for held in step.programs.values():
        pairs = zip(held.stretch.items, held.tasks, strict=True)
        own = tasks.setdefault(held.stretch.program, {})
        own.update({item.action: task for item, task in pairs})
    for program, done in tasks.items():
        _annotate(program, done, durations, memory)


def _annotate(
    program: sched.Program,
    tasks: Mapping[sched.Action, Task],
    durations: Mapping[str, int],
    memory: str,
) -> None:
    ends: dict[sched.Action, int] = {}
    offset = 0
    for op in program.actions:
        if isinstance(op, sched.Layers):
            start, duration = max(ends.values(), default=0), _layers_time(op, durations)
            op.cost = sched.CostAttr.of(start, duration)
            offset = start + duration
        elif op in tasks:
            op.cost = _cost(tasks[op], offset, memory)
        else:
            op.cost = sched.CostAttr.of(max([offset, *(ends[one] for one in op.awaited)]), 0)
        ends[op] = op.cost.end


def _layers_time(op: sched.Layers, durations: Mapping[str, int]) -> int:
    names = [symbol.root_reference.data for symbol in op.functions]
    return sum(durations.get(names[kind], 0) for kind in op.kinds.get_values())


def _cost(task: Task, offset: int, memory: str) -> sched.CostAttr:
    return sched.CostAttr.of(
        start=offset + _nanoseconds(task.start),
        duration=_nanoseconds(task.duration),
        flops=round(task.flops),
        bytes=round(task.bytes.get(memory, 0.0)),
        wire=round(task.wire_bytes),
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANO)
