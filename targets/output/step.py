"""Where a step's time goes: every moment of it belongs to exactly one part.

A moment on which kernels run belongs to what bounds the kernel: compute, memory, or launch. One on
which only links are busy is exposed communication. One on which nothing runs is idle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from supertile.targets.timeline import Program, Task, Timeline

COMPUTE_LANE = "compute"
EXPOSED = "exposed communication"
PARTS: Mapping[str, str] = {
    "compute": "kernels that a matrix, vector or special-function engine bounds",
    "memory": "kernels that a memory bounds: reading or writing takes longer than computing",
    "launch": "kernels that are over before their launch cost is",
    EXPOSED: "only links are busy: the cores wait for transfers",
    "other": "kernels whose bound is not among the figures of the machine",
    "idle": "nothing runs",
}
"""Part -> what it is; together they are the whole step."""

# The first two words of a figure's path say what a name in `Task.busy` is.
TABLES = {"engines": "compute", "memories": "memory", "domains": EXPOSED}
KINDS = {"matrix": "compute", "vector": "compute", "special": "compute", "launch": "launch"}


@dataclass(frozen=True)
class Call:
    """`count` runs of one program in a row, from `start` on, in seconds."""

    program: Program
    count: int
    start: float

    @property
    def duration(self) -> float:
        return self.count * self.program.duration


def calls_of(timeline: Timeline) -> list[Call]:
    """The runs of the step in execution order."""
    calls, now = [], 0.0
    for name, count in timeline.order:
        calls.append(Call(timeline.program(name), count, now))
        now += calls[-1].duration
    return calls


def counts_of(timeline: Timeline) -> dict[str, int]:
    """How often each program runs in a step."""
    counts = {program.name: 0 for program in timeline.programs}
    for name, count in timeline.order:
        counts[name] += count
    return counts


def step_duration(timeline: Timeline) -> float:
    """Seconds of the whole step."""
    return sum(call.duration for call in calls_of(timeline))


def parts_of_names(timeline: Timeline) -> dict[str, str]:
    """Engine, memory or domain -> the part of the step that it can bound.

    Told by the figures used: "memories.hbm.read" makes "hbm" a memory.
    """
    tasks = [task for program in timeline.programs for task in program.tasks]
    paths = {figure.path for figure in timeline.figures}
    paths |= {path for task in tasks for path in task.figures}
    parts = {task.lane: EXPOSED for task in tasks if task.lane != COMPUTE_LANE}
    for table, name in (path.split(".")[:2] for path in sorted(paths) if "." in path):
        parts |= {name: TABLES[table]} if table in TABLES else {}
    return {**parts, **KINDS}


def part_of(task: Task, parts: Mapping[str, str]) -> str:
    """The part that the time of a task belongs to while no kernel hides it."""
    return EXPOSED if task.lane != COMPUTE_LANE else parts.get(task.bound, "other")


def own_seconds(program: Program) -> list[float]:
    """For each task, the time that counts as its own: a transfer's while no kernel runs.

    Kernels that run at once share the time, and so do transfers. The sum is less than the
    program's duration by the time on which nothing runs.
    """
    own = [0.0] * len(program.tasks)
    for start, end, running in _moments(program.tasks):
        kernels = [n for n in running if program.tasks[n].lane == COMPUTE_LANE]
        for number in kernels or running:
            own[number] += (end - start) / len(kernels or running)
    return own


def split_program(program: Program, parts: Mapping[str, str]) -> dict[str, float]:
    """Part -> seconds, in the order of `PARTS`; their sum is the program's duration."""
    split = dict.fromkeys(PARTS, 0.0)
    for task, seconds in zip(program.tasks, own_seconds(program), strict=True):
        split[part_of(task, parts)] += seconds
    idle = (end - start for start, end, running in _moments(program.tasks) if not running)
    return {**split, "idle": sum(idle)}


def split_step(timeline: Timeline) -> dict[str, float]:
    """Part -> seconds of the whole step."""
    parts, counts = parts_of_names(timeline), counts_of(timeline)
    total = dict.fromkeys(PARTS, 0.0)
    for program in timeline.programs:
        for part, seconds in split_program(program, parts).items():
            total[part] += counts[program.name] * seconds
    return total


def exposed_intervals(program: Program) -> list[tuple[float, float]]:
    """Intervals, in seconds, on which tasks run but no kernel; those that touch are joined."""
    joined: list[tuple[float, float]] = []
    for start, end, running in _moments(program.tasks):
        if not running or any(program.tasks[n].lane == COMPUTE_LANE for n in running):
            continue
        if joined and joined[-1][1] == start:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _moments(tasks: Iterable[Task]) -> Iterator[tuple[float, float, list[int]]]:
    """(start, end, numbers of the tasks that run all the while), from 0 to the last end."""
    changes: list[tuple[float, int]] = []
    for number, task in enumerate(tasks):
        changes += [(task.start, number), (task.end, number)]
    running: set[int] = set()
    now = 0.0
    for time, number in sorted(changes):
        if time > now:
            yield now, time, sorted(running)
            now = time
        running ^= {number}  # a task's first change is its start, its second its end
