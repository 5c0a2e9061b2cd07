"""schedule.json: the step in the Chrome trace event format, which ui.perfetto.dev opens.

One process is one device; every rank runs the same programs, so rank 0 stands for all. Its threads
are the layers, the kernels, each engine and memory, and each domain of links. Arrows are waits of
one lane for another. Counters show the time on which only links are busy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from supertile.targets.output.step import COMPUTE_LANE, EXPOSED, exposed_intervals
from supertile.targets.output.tracks import (
    Slice,
    Track,
    duration_of,
    rows_by_name,
    track_names,
    tracks_of,
)
from supertile.targets.timeline import NANO, Program, Task, Timeline

EVENT_LIMIT = 20_000
"""Above it, each program is drawn where it runs first and last, and is one slice elsewhere."""
PROCESS = 1
LAYERS = 1  # the thread whose slices are whole programs
NOT_DRAWN = "layers not drawn"
# At one moment: a slice before the counters and arrows that belong to it.
ORDER = {"M": 0, "X": 1, "C": 2, "s": 3, "f": 4}

Event = dict[str, object]


@dataclass(frozen=True)
class Run:
    """`count` runs of a program in a row from `start` nanoseconds on, drawn in full or not."""

    program: Program
    first: int
    """Number of the first of them in the step."""
    count: int
    start: int
    drawn: bool


@dataclass(frozen=True)
class Picture:
    """What a program looks like, made once and shifted to each of its runs."""

    tracks: list[Track]
    events: list[Event]
    """With `ts` in nanoseconds from the start of the program."""
    exposed: int
    """Nanoseconds on which only links are busy."""


def schedule_text(timeline: Timeline, limit: int = EVENT_LIMIT) -> str:
    """The file: one event a line, ordered by time; `limit` as `EVENT_LIMIT`."""
    threads = _threads(timeline)
    pictures = {p.name: _picture(timeline, p, threads) for p in timeline.programs}
    runs = _runs(timeline, pictures, limit)
    events = [*_names(timeline, threads), *_shifted(runs, pictures)]
    shown = "all of the step" if all(run.drawn for run in runs) else "each program first and last"
    about = {
        "model": timeline.model,
        "config": timeline.config,
        "machine": timeline.machine,
        "deployment": timeline.deployment,
        "drawn": shown,
    }
    made: dict[int, str] = {}
    lines = ",\n".join(_event_text(event, made) for event in events)
    return f'{{"displayTimeUnit":"ns","otherData":{_json(about)},"traceEvents":[\n{lines}\n]}}\n'


_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _event_text(event: Event, made: dict[int, str]) -> str:
    """An event as JSON. Its arguments, which come last, are the same object in every run of a
    program: their text is `made` once."""
    arguments = event.get("args")
    if arguments is None:
        return _json(event)
    if id(arguments) not in made:
        made[id(arguments)] = _json(arguments)
    return _json({**event, "args": 0}).removesuffix("0}") + made[id(arguments)] + "}"


# ---- which runs are drawn ----------------------------------------------------------------------


def _runs(timeline: Timeline, pictures: dict[str, Picture], limit: int) -> list[Run]:
    total = sum((len(pictures[name].events) + 1) * count for name, count in timeline.order)
    singles = _singles(timeline)
    if total <= limit:
        return singles
    first = {run.program.name: run.first for run in reversed(singles)}
    last = {run.program.name: run.first for run in singles}
    runs: list[Run] = []
    for run in singles:
        name = run.program.name
        if run.first in (first[name], last[name]):
            runs.append(run)
        elif runs and not runs[-1].drawn and runs[-1].program is run.program:
            before = runs.pop()
            runs.append(Run(run.program, before.first, before.count + 1, before.start, False))
        else:
            runs.append(Run(run.program, run.first, 1, run.start, False))
    return runs


def _singles(timeline: Timeline) -> list[Run]:
    runs: list[Run] = []
    now = 0
    for name, count in timeline.order:
        program = timeline.program(name)
        for _ in range(count):
            runs.append(Run(program, len(runs), 1, now, True))
            now += duration_of(program)
    return runs


# ---- the events of one program -----------------------------------------------------------------


def _threads(timeline: Timeline) -> dict[tuple[str, str, int], int]:
    """(role, name, copy) of a track -> thread number, top to bottom."""
    names = track_names(timeline)
    found = {key for p in timeline.programs for key in rows_by_name(tracks_of(p, names))}
    order = sorted(found, key=lambda key: (names.index(key[:2]), key[2]))
    return {key: number for number, key in enumerate(order, LAYERS + 1)}


def _picture(
    timeline: Timeline, program: Program, threads: dict[tuple[str, str, int], int]
) -> Picture:
    tracks = tracks_of(program, track_names(timeline))
    events: list[Event] = []
    places: dict[int, tuple[int, Slice]] = {}
    for key, track in rows_by_name(tracks).items():
        for one in track.slices:
            events.append(_slice(program.tasks[one.task], track, threads[key], one))
            if track.role == "lane":
                places[one.task] = threads[key], one
    events += _arrows(program, places)
    spans = [(round(start * NANO), round(end * NANO)) for start, end in exposed_intervals(program)]
    for start, end in spans:
        events += [_counter(EXPOSED, start, 1), _counter(EXPOSED, end, 0)]
    return Picture(tracks, events, sum(end - start for start, end in spans))


def _slice(task: Task, track: Track, thread: int, one: Slice) -> Event:
    lane = track.role == "lane"
    return {
        "ph": "X",
        "name": task.title,
        "cat": task.kind,
        "ts": one.start,
        "dur": one.duration,
        "pid": PROCESS,
        "tid": thread,
        "args": _arguments(task) if lane else {"kind": task.kind, "task us": task.duration * 1e6},
    }


def _arguments(task: Task) -> Event:
    """What Perfetto shows of a selected task."""
    return {
        "kind": task.kind,
        "bound": task.bound,
        "formula": task.formula,
        "launch us": task.launch * 1e6,
        "flops": task.flops,
        "bytes": dict(task.bytes),
        "wire bytes": task.wire_bytes,
        "messages": task.messages,
        "busy us": {name: seconds * 1e6 for name, seconds in task.busy.items()},
        "figures": list(task.figures),
        "source": task.source,
    }


def _arrows(program: Program, places: dict[int, tuple[int, Slice]]) -> Iterator[Event]:
    """From the end of a task to the start of one on another lane that waits for it."""
    for number, task in enumerate(program.tasks):
        for waited in task.waits:
            if program.tasks[waited].lane == task.lane:
                continue
            (source, before), (target, after) = places[waited], places[number]
            shared = {"name": "wait", "cat": "wait", "pid": PROCESS}
            # An arrow belongs to the slice that is open at its time, so it leaves just before.
            leaving = max(before.start, before.end - 1)
            yield {"ph": "s", "ts": leaving, "tid": source, **shared}
            yield {"ph": "f", "bp": "e", "ts": after.start, "tid": target, **shared}


def _counter(name: str, time: int, value: int) -> Event:
    return {"ph": "C", "name": name, "ts": time, "pid": PROCESS, "args": {"now": value}}


# ---- the whole step ----------------------------------------------------------------------------


def _names(timeline: Timeline, threads: dict[tuple[str, str, int], int]) -> Iterator[Event]:
    """The names and the order of the process and its threads."""
    process = f"rank 0 of {timeline.ranks}: {timeline.machine}, one {timeline.device_unit}"
    yield _named("process_name", {"name": process})
    titles = {LAYERS: "layers"}
    for (role, name, copy), thread in threads.items():
        link = role == "lane" and name != COMPUTE_LANE
        title = f"link: {name}" if link else "kernels" if role == "lane" else f"busy: {name}"
        titles[thread] = f"{title} ({copy + 1})" if copy else title
    for thread, title in titles.items():
        yield _named("thread_name", {"name": title}, thread)
        yield _named("thread_sort_index", {"sort_index": thread}, thread)


def _named(what: str, arguments: Event, thread: int | None = None) -> Event:
    place: Event = {"pid": PROCESS} if thread is None else {"pid": PROCESS, "tid": thread}
    return {"ph": "M", "name": what, **place, "args": arguments}


def _shifted(runs: list[Run], pictures: dict[str, Picture]) -> list[Event]:
    """All events of the step by time, in microseconds; each arrow with a number of its own."""
    events: list[Event] = []
    exposed = arrows = 0
    for run in runs:
        picture = pictures[run.program.name]
        events += _layer(run)
        for event in picture.events if run.drawn else ():
            moved = {**event, "ts": run.start + _time(event)}
            if event["ph"] in ("s", "f"):
                moved["id"] = arrows // 2
                arrows += 1
            events.append(moved)
        exposed += picture.exposed * run.count
        end = run.start + run.count * duration_of(run.program)
        total = _counter(f"{EXPOSED}, total", end, exposed)
        events.append({**total, "args": {"us": exposed / 1000}})
    events.sort(key=lambda event: (_time(event), ORDER[str(event["ph"])]))
    return [_in_microseconds(event) for event in events]


def _layer(run: Run) -> Iterator[Event]:
    """The slice of a run on the track of the layers, and the count of what is not drawn."""
    duration = run.count * duration_of(run.program)
    name = run.program.name if run.drawn else f"{run.count} x {run.program.name}, not drawn"
    place: Event = {"ts": run.start, "dur": duration, "pid": PROCESS, "tid": LAYERS}
    arguments: Event = {"number in the step": run.first, "times": run.count}
    yield {"ph": "X", "name": name, "cat": "layer", **place, "args": arguments}
    if not run.drawn:
        yield _counter(NOT_DRAWN, run.start, run.count)
        yield _counter(NOT_DRAWN, run.start + duration, 0)


def _time(event: Event) -> int:
    time = event["ts"]
    assert isinstance(time, int)
    return time


def _in_microseconds(event: Event) -> Event:
    times = {key: value / 1000 for key in ("ts", "dur") if isinstance(value := event.get(key), int)}
    return {**event, **times}
