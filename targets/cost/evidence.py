"""How far a result can be trusted: on which figures of the machine it rests, and on whose word.

A figure's share is that of the step in tasks whose deciding term rests on it; a launch time counts
only for the launches. Of the figures behind 5 % of the step or more the weakest decides:

    verified           all are measured
    partly verified    the weakest is the maker's word, or derived from other figures: a derived
                       figure does not say from which, and may rest on a vendor's
    unverified         one is assumed, or unknown to the machine file: something stands for it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from supertile.targets.machine_text import figure_text
from supertile.targets.machine_types import EVIDENCE, UNKNOWN, Machine
from supertile.targets.timeline import FigureUse, Program, Task

ASSUMED = "assumed"
STAND_IN = "no source: something stands for it, see the notes"
MATTERS = 0.05
VERDICTS = {
    "measured": "verified",
    "vendor": "partly verified",
    "derived": "partly verified",
    "assumed": "unverified",
    UNKNOWN: "unverified",
}
LAUNCHES = "parameters.launch_"


def figure_uses(
    programs: Sequence[Program], order: Sequence[tuple[str, int]], machine: Machine
) -> tuple[FigureUse, ...]:
    """Every figure that the step rests on, the most important first."""
    shares = figure_shares(programs, order)
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    return tuple(_use(machine, path, share) for path, share in ranked)


def figure_shares(
    programs: Sequence[Program], order: Sequence[tuple[str, int]]
) -> dict[str, float]:
    """Path of a figure -> its share of the time of all tasks of a step."""
    counts: dict[str, int] = {}
    for name, count in order:
        counts[name] = counts.get(name, 0) + count
    seconds: dict[str, float] = {}
    total = 0.0
    for program in (one for one in programs if one.name in counts):
        times = counts[program.name]
        for task in program.tasks:
            total += times * task.duration
            for path, part in _parts(task).items():
                seconds[path] = seconds.get(path, 0.0) + times * part
    return {path: part / total for path, part in seconds.items()} if total else {}


def verdict(uses: Sequence[FigureUse]) -> str:
    """verified, partly verified or unverified; unverified if no figure matters."""
    matter = [use.evidence for use in uses if use.share >= MATTERS]
    order = (*EVIDENCE, UNKNOWN)
    return VERDICTS[max(matter, key=order.index)] if matter else VERDICTS[UNKNOWN]


def _parts(task: Task) -> Mapping[str, float]:
    """Seconds of the task for each of its figures."""
    rest = task.duration - task.launch
    return {
        path: task.launch if path.startswith(LAUNCHES) else rest
        for path in dict.fromkeys(task.figures)
    }


def evidence_of(machine: Machine, path: str) -> str:
    """That of a figure that a cost rests on: what stands for an unknown one is assumed."""
    figure = machine.figure(path)
    return ASSUMED if figure.value is None else figure.evidence


def source_of(machine: Machine, path: str) -> str:
    figure = machine.figure(path)
    return STAND_IN if figure.value is None else figure.source


def _use(machine: Machine, path: str, share: float) -> FigureUse:
    value = figure_text(machine.figure(path))
    return FigureUse(path, value, source_of(machine, path), evidence_of(machine, path), share)
