"""The operations of a step as a table: equal tasks of all its programs counted together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from supertile.targets.output.step import counts_of, own_seconds, part_of, parts_of_names
from supertile.targets.timeline import Task, Timeline


@dataclass(frozen=True)
class Operation:
    """Tasks that are the same work, by the same formula. Work and times are those of one task."""

    task: Task
    program: str
    """Where it is seen first, with its number there."""
    number: int
    programs: tuple[str, ...]
    """All the programs that have it."""
    part: str
    """What bounds it, as in `step.PARTS`."""
    count: int
    """Tasks in a step."""
    seconds: float
    """Of all of them in a step."""
    own: float
    """The part of `seconds` that no kernel hides (`step.own_seconds`)."""

    @property
    def hidden(self) -> float:
        return max(0.0, self.seconds - self.own)


def operations_of(timeline: Timeline) -> list[Operation]:
    """The operations of a step, the longest first."""
    parts, counts = parts_of_names(timeline), counts_of(timeline)
    found: dict[tuple[object, ...], Operation] = {}
    for program in timeline.programs:
        seconds = own_seconds(program)
        for number, task in enumerate(program.tasks):
            count = counts[program.name]
            key = (task.name, task.kind, task.lane, task.bound, task.formula, task.duration)
            old = found.get(key)
            place = (old.program, old.number) if old else (program.name, number)
            programs = tuple(
                dict.fromkeys((*old.programs, program.name) if old else (program.name,))
            )
            own = count * seconds[number] + (old.own if old else 0.0)
            count += old.count if old else 0
            part = part_of(task, parts)
            found[key] = Operation(task, *place, programs, part, count, count * task.duration, own)
    used = [operation for operation in found.values() if operation.count]
    return sorted(used, key=lambda one: (-one.own, one.task.name, one.program, one.number))


@dataclass
class Kind:
    """The operations of one kind, in seconds of a step."""

    own: dict[str, float] = field(default_factory=dict)
    """Part -> time that no kernel hides."""
    hidden: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.own.values())


def kinds_of(operations: list[Operation]) -> Mapping[str, Kind]:
    """The kinds of a step by name, the longest first."""
    kinds: dict[str, Kind] = {}
    for one in operations:
        kind = kinds.setdefault(one.task.kind, Kind())
        kind.own[one.part] = kind.own.get(one.part, 0.0) + one.own
        kind.hidden += one.hidden
    return dict(sorted(kinds.items(), key=lambda item: (-item[1].total, item[0])))


def intensity(task: Task, memory: str) -> float | None:
    """FLOP for each byte through the main memory; None if it moves none."""
    moved = task.bytes.get(memory, 0.0)
    return task.flops / moved if moved else None
