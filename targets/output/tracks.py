"""Rows of a picture of one program: a track for each lane, and for each engine kept busy.

Slices of one track never overlap: what would goes to a second track of the same name. Times are
whole nanoseconds from the start of the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from supertile.targets.output.step import COMPUTE_LANE, EXPOSED, parts_of_names
from supertile.targets.timeline import NANO, Program, Task, Timeline


@dataclass(frozen=True)
class Slice:
    """What one task does on one track."""

    task: int
    """Number in the program."""
    start: int
    duration: int

    @property
    def end(self) -> int:
        return self.start + self.duration


@dataclass(frozen=True)
class Track:
    """One row. Lanes show whole tasks, engines and memories the time that they work for them."""

    name: str
    role: str
    """"lane" or "busy"."""
    copy: int = 0
    """0, then 1, 2, ... for what overlaps the first."""
    slices: list[Slice] = field(default_factory=list, compare=False)

    @property
    def title(self) -> str:
        return self.name if not self.copy else f"{self.name} ({self.copy + 1})"


def track_names(timeline: Timeline) -> list[tuple[str, str]]:
    """(role, name) of every track, top to bottom: kernels, engines, memories, then links."""
    parts = parts_of_names(timeline)
    tasks = [task for program in timeline.programs for task in program.tasks]
    lanes = dict.fromkeys(task.lane for task in tasks if task.lane != COMPUTE_LANE)
    busy = dict.fromkeys(name for task in tasks for name in task.busy if name not in lanes)
    order = ("compute", "memory", "other", EXPOSED)
    engines = sorted(busy, key=lambda name: (order.index(parts.get(name, "other")), name))
    names = [("lane", COMPUTE_LANE)] if any(task.lane == COMPUTE_LANE for task in tasks) else []
    names += [("busy", name) for name in engines]
    return names + [("lane", name) for name in sorted(lanes)]


def tracks_of(program: Program, names: Iterable[tuple[str, str]]) -> list[Track]:
    """The tracks of a program that have slices, in the order of `names`."""
    tracks: list[Track] = []
    for role, name in names:
        tracks += _packed(role, name, _slices(program.tasks, role, name))
    return tracks


def duration_of(program: Program) -> int:
    """Nanoseconds."""
    return round(program.duration * NANO)


def _slices(tasks: tuple[Task, ...], role: str, name: str) -> list[Slice]:
    if role == "lane":
        return [_whole(number, task) for number, task in enumerate(tasks) if task.lane == name]
    return [_busy(number, task, name) for number, task in enumerate(tasks) if task.busy.get(name)]


def _whole(number: int, task: Task) -> Slice:
    start = round(task.start * NANO)
    return Slice(number, start, round(task.end * NANO) - start)


def _busy(number: int, task: Task, name: str) -> Slice:
    """An engine works after the launch, at the latest so that it ends with the task."""
    whole = _whole(number, task)
    duration = min(round(task.busy[name] * NANO), whole.duration)
    delay = min(round(task.launch * NANO), whole.duration - duration)
    return Slice(number, whole.start + delay, duration)


def _packed(role: str, name: str, slices: list[Slice]) -> list[Track]:
    """Each slice on the first track that is free; rounding may cost a nanosecond of it."""
    tracks: list[Track] = []
    for one in sorted(slices, key=lambda one: (one.start, one.task)):
        free = next((track for track in tracks if _fits(track, one)), None)
        if free is None:
            free = Track(name, role, len(tracks))
            tracks.append(free)
        late = free.slices[-1].end - one.start if free.slices else 0
        moved = max(0, late)
        free.slices.append(Slice(one.task, one.start + moved, max(0, one.duration - moved)))
    return tracks


def _fits(track: Track, one: Slice) -> bool:
    return track.slices[-1].end <= one.start + 1


def rows_by_name(tracks: Iterable[Track]) -> Mapping[tuple[str, str, int], Track]:
    """Tracks by what makes two of them one row in different programs."""
    return {(track.role, track.name, track.copy): track for track in tracks}
