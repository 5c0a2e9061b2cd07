"""What the scripts of report.html draw and show, as JSON within the page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from supertile.targets.output.step import (
    PARTS,
    calls_of,
    counts_of,
    exposed_intervals,
    own_seconds,
    part_of,
    parts_of_names,
    split_program,
    step_duration,
)
from supertile.targets.output.tracks import duration_of, track_names, tracks_of
from supertile.targets.output.units import bytes_text, scaled_text, seconds_text, share_text
from supertile.targets.timeline import NANO, Program, Task, Timeline

CALL_LIMIT = 400
"""Runs of programs that the overview draws one by one; above it, those in a row are one."""


class Texts:
    """Each text once; whoever uses it holds its number. Longer ones than `limit` are cut."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        short = text if len(text) <= self.limit else text[: self.limit] + " ..."
        return self.numbers.setdefault(short, len(self.numbers))


def report_data(timeline: Timeline, text_limit: int) -> dict[str, object]:
    """The data of the page; times in nanoseconds. Formulas are cut after `text_limit`."""
    texts = Texts(text_limit)
    ordered = sorted(timeline.figures, key=lambda figure: (-figure.share, figure.path))
    paths = [figure.path for figure in ordered]
    paths += sorted({p for one in timeline.programs for t in one.tasks for p in t.figures})
    numbers = {path: number for number, path in enumerate(dict.fromkeys(paths))}
    programs = [_program(timeline, program, texts, numbers) for program in timeline.programs]
    return {
        "parts": list(PARTS),
        "programs": programs,
        "calls": _calls(timeline),
        "figures": _figures(timeline, numbers),
        "texts": list(texts.numbers),
    }


def script_text(data: object) -> str:
    """JSON that is safe inside <script>: no markup can start in it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _program(
    timeline: Timeline, program: Program, texts: Texts, numbers: Mapping[str, int]
) -> dict[str, object]:
    parts, step = parts_of_names(timeline), step_duration(timeline)
    count = counts_of(timeline)[program.name]
    split = split_program(program, parts)
    return {
        "name": program.name,
        "count": count,
        "duration": duration_of(program),
        "share": _ratio(count * program.duration, step),
        "split": [_ratio(split[part], program.duration) for part in PARTS],
        "rows": [
            {
                "title": track.title,
                "role": track.role,
                "bars": [[one.task, one.start, one.duration] for one in track.slices],
            }
            for track in tracks_of(program, track_names(timeline))
        ],
        "exposed": [
            [round(start * NANO), round(end * NANO)] for start, end in exposed_intervals(program)
        ],
        "tasks": [
            {
                "name": texts(task.title),
                "kind": texts(task.kind),
                "part": list(PARTS).index(part_of(task, parts)),
                "time": seconds_text(task.duration),
                "share": share_text(_ratio(count * seconds, step)),
                "facts": [[texts(name), texts(text)] for name, text in _facts(task, program)],
                "formula": texts(task.formula),
                "figures": [numbers[path] for path in task.figures],
            }
            for task, seconds in zip(program.tasks, own_seconds(program), strict=True)
        ],
    }


def _facts(task: Task, program: Program) -> Iterator[tuple[str, str]]:
    """The lines of a task's details: what it does, from when, and what it waits for."""
    yield "bound by", task.bound or "not known"
    if task.route:
        yield "route", task.route
    yield "starts at", f"{seconds_text(task.start)} in {program.name}"
    if task.launch:
        yield "launch", seconds_text(task.launch)
    for name, seconds in task.busy.items():
        yield f"busy: {name}", f"{seconds_text(seconds)} if alone"
    if task.flops:
        yield "work", scaled_text(task.flops, "FLOP")
    for name, size in task.bytes.items():
        yield f"bytes: {name}", bytes_text(size)
        if task.flops and size:
            yield f"intensity: {name}", f"{scaled_text(task.flops / size, 'FLOP/B')}"
    if task.wire_bytes or task.messages:
        sent = f"{bytes_text(task.wire_bytes)} in {scaled_text(task.messages, 'messages')}"
        yield "sent", sent
    if task.waits:
        yield "waits for", ", ".join(program.tasks[number].title for number in task.waits)
    if task.source:
        yield "model file", task.source


def _calls(timeline: Timeline) -> list[list[int]]:
    """[program, start, duration, runs in it] of the overview."""
    places = {program.name: number for number, program in enumerate(timeline.programs)}
    apart = sum(count for _, count in timeline.order) <= CALL_LIMIT
    calls, now = [], 0
    for call in calls_of(timeline):
        pieces = [1] * call.count if apart else [call.count]
        for count in pieces:
            duration = count * duration_of(call.program)
            calls.append([places[call.program.name], now, duration, count])
            now += duration
    return calls


def _figures(timeline: Timeline, numbers: Mapping[str, int]) -> list[dict[str, object]]:
    """The figures by number; those that only tasks name have no more than their path."""
    known = {figure.path: figure for figure in timeline.figures}
    rows: list[dict[str, object]] = []
    for path in numbers:
        figure = known.get(path)
        rows.append(
            {"path": path}
            if figure is None
            else {
                "path": path,
                "value": figure.value,
                "source": figure.source,
                "evidence": figure.evidence,
                "share": share_text(figure.share),
            }
        )
    return rows


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
