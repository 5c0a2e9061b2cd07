"""Why a figure of a deployment is what it is: formula, numbers, parameters and their sources.

names = explainable(timeline)               # tasks by name, and the fields of the summary
about = explain(timeline, machine, "dispatch")
print("\\n".join(explanation_lines(about)))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

from supertile.targets.cost.evidence import evidence_of, source_of
from supertile.targets.machine_text import figure_text
from supertile.targets.machine_types import Machine
from supertile.targets.output.critical import criticality
from supertile.targets.output.ops import Operation, operations_of
from supertile.targets.output.step import (
    COMPUTE_LANE,
    counts_of,
    own_seconds,
    split_step,
    step_duration,
)
from supertile.targets.output.summary import NOTICEABLE
from supertile.targets.output.units import (
    bytes_text,
    label_text,
    number_text,
    seconds_text,
    share_text,
    value_text,
)
from supertile.targets.timeline import Program, Task, Timeline

SHOWN = 12
"""Parts of a figure that are listed; the rest is summed up."""


@dataclass(frozen=True)
class Parameter:
    """A figure of the machine that a time rests on."""

    path: str
    value: str
    evidence: str
    source: str
    note: str


@dataclass(frozen=True)
class Part:
    """What makes up a figure: a name, its amount as text, and its share of the whole."""

    name: str
    amount: str
    share: float


@dataclass(frozen=True)
class Explanation:
    """One figure: a task's time, or a field of the summary."""

    name: str
    title: str
    """What it is, in a sentence."""
    value: str
    formula: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    critical: tuple[str, ...] = ()
    """What decides the time: of a task its slack, of a step the longest chain of each program."""
    parameters: tuple[Parameter, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def explainable(timeline: Timeline) -> dict[str, str]:
    """Name -> what it is in a few words: tasks, the longest first, then fields of the summary."""
    step = step_duration(timeline)
    names: dict[str, str] = {}
    for one in operations_of(timeline):
        each, share = seconds_text(one.task.duration), share_text(one.own / step if step else 0.0)
        text = f"{one.task.kind}, {each} each, {one.count} a step, {share} of it"
        names[one.task.name] = f"{names[one.task.name]}; {text}" if one.task.name in names else text
    given = {key: value for key, value in timeline.summary.items() if value is not None}
    return names | {key: value_text(key, value) for key, value in given.items()}


def explain(timeline: Timeline, machine: Machine, name: str) -> list[Explanation]:
    """One explanation for each way in which the named task is costed, or one for a field."""
    tasks = [one for one in operations_of(timeline) if one.task.name == name]
    if tasks:
        return [_task(timeline, machine, one) for one in tasks]
    return [_field(timeline, machine, name)]


# ---- tasks -------------------------------------------------------------------------------------


def _task(timeline: Timeline, machine: Machine, one: Operation) -> Explanation:
    task, step = one.task, step_duration(timeline)
    busy = [Part(name, f"{seconds_text(held)} if alone", _ratio(held, task.duration))
            for name, held in task.busy.items()]  # fmt: skip
    if task.launch:
        share = _ratio(task.launch, task.duration)
        busy.append(Part("launch", seconds_text(task.launch), share))
    own = f"{seconds_text(one.own)} of it not hidden, {share_text(_ratio(one.own, step))}"
    title = (
        f"{task.kind} in {', '.join(one.programs)}: {one.count} a step, {own} of the step; "
        f"bound by {task.bound or 'what is not known'}"
    )
    return Explanation(
        name=task.name,
        title=title,
        value=f"{seconds_text(task.duration)} each",
        formula=tuple(task.formula.splitlines()),
        parts=tuple(busy),
        critical=tuple(_slack(timeline, one)),
        parameters=_parameters(machine, task.figures),
    )


def _slack(timeline: Timeline, one: Operation) -> Iterator[str]:
    """How much later the task could end in each program that has it, where that differs."""
    told: dict[str, list[str]] = {}
    for name in one.programs:
        program = timeline.program(name)
        for number, slack in enumerate(criticality(program).slack):
            task = program.tasks[number]
            if _costs(task) == _costs(one.task):
                text = f"slack {seconds_text(slack)}" if slack else "on the critical path"
                told.setdefault(f"{task.part}: {text}" if task.part else text, []).append(name)
    for text, names in told.items():
        yield f"{text} in {', '.join(dict.fromkeys(names))}"


def _costs(task: Task) -> tuple[str, str, float]:
    """What tasks have in common that count as one operation."""
    return task.name, task.formula, task.duration


def _chains(timeline: Timeline) -> Iterator[str]:
    """The critical path of each program, tasks in a row of one kind of lane counted together."""
    for name in counts_of(timeline):
        program = timeline.program(name)
        found = criticality(program)
        runs: list[tuple[str, list[Task]]] = []
        for number in found.path:
            task = program.tasks[number]
            kind = "kernels" if task.lane == COMPUTE_LANE else task.title
            if not runs or runs[-1][0] != kind or kind != "kernels":
                runs.append((kind, []))
            runs[-1][1].append(task)
        texts = []
        for kind, tasks in runs:
            seconds = seconds_text(sum(task.duration for task in tasks))
            several = kind == "kernels" and len(tasks) > 1
            texts.append(f"{len(tasks)} kernels {seconds}" if several else
                         f"{tasks[0].title} {seconds}")  # fmt: skip
        yield f"{name}: {', '.join(texts)}"


def _parameters(machine: Machine, paths: tuple[str, ...]) -> tuple[Parameter, ...]:
    figures = ((path, machine.figure(path)) for path in paths)
    return tuple(
        Parameter(
            path, figure_text(one), evidence_of(machine, path), source_of(machine, path), one.note
        )
        for path, one in figures
    )


# ---- fields ------------------------------------------------------------------------------------

Amounts = Callable[[Program], list[float]]


def _times(program: Program) -> list[float]:
    return own_seconds(program)


def _exposed(program: Program) -> list[float]:
    own = zip(program.tasks, own_seconds(program), strict=True)
    return [0.0 if task.lane == COMPUTE_LANE else seconds for task, seconds in own]


def _hidden(program: Program) -> list[float]:
    own = zip(program.tasks, own_seconds(program), strict=True)
    return [0.0 if task.lane == COMPUTE_LANE else task.duration - held for task, held in own]


def _attribute(name: str) -> Amounts:
    return lambda program: [float(getattr(task, name)) for task in program.tasks]


def _launched(program: Program) -> list[float]:
    return [float(task.lane == COMPUTE_LANE and not task.continues) for task in program.tasks]


# Fields of the summary that are sums over tasks: how much of it each task of a program is.
SUMS: dict[str, tuple[Amounts, Callable[[float], str]]] = {
    **dict.fromkeys(
        (
            "step_ms",
            "time_per_output_token_ms",
            "tokens_per_second_per_device",
            "time_to_first_token_ms",
            "prefill_tokens_per_second_per_device",
        ),
        (_times, seconds_text),
    ),
    "exposed_communication_ms": (_exposed, seconds_text),
    "hidden_communication_ms": (_hidden, seconds_text),
    "messages": (_attribute("messages"), number_text),
    "wire_bytes": (_attribute("wire_bytes"), bytes_text),
    "launches": (_launched, number_text),
}


def _field(timeline: Timeline, machine: Machine, name: str) -> Explanation:
    value = timeline.summary[name]
    return Explanation(
        name=name,
        title=timeline.definitions.get(name, ""),
        value=value_text(name, value),
        formula=tuple(_formula(timeline, name)),
        parts=tuple(_parts(timeline, name)),
        critical=tuple(_chains(timeline)) if SUMS.get(name, (None,))[0] is _times else (),
        parameters=_parameters(machine, _figures(timeline, name)),
    )


def _formula(timeline: Timeline, name: str) -> Iterator[str]:
    """The runs of the programs that a time adds up from, and what the step is spent on."""
    if SUMS.get(name, (None,))[0] is not _times:
        return
    counts = counts_of(timeline)
    runs = [f"{count} x {seconds_text(timeline.program(one).duration)} {one}"
            for one, count in counts.items()]  # fmt: skip
    step = step_duration(timeline)
    yield f"step = {' + '.join(runs)} = {seconds_text(step)}"
    split = ((part, seconds) for part, seconds in split_step(timeline).items() if seconds)
    yield "of it " + ", ".join(
        f"{share_text(_ratio(seconds, step))} {part}" for part, seconds in split
    )


def _parts(timeline: Timeline, name: str) -> Iterator[Part]:
    if name in SUMS:
        amounts, text = SUMS[name]
        yield from _summed(timeline, amounts, text)
    elif name.startswith("memory_") or name == "fits":
        whole = timeline.memory.capacity if name == "fits" else timeline.memory.total
        for part, size in timeline.memory.parts:
            yield Part(part, bytes_text(size), _ratio(size, whole))
    elif isinstance(value := timeline.summary[name], Mapping):
        for part, held in value.items():
            yield Part(label_text(str(part)), value_text(str(part), held), 0.0)


def _summed(timeline: Timeline, amounts: Amounts, text: Callable[[float], str]) -> Iterator[Part]:
    """By task name, the largest first; equal ones in the order of the step."""
    counts = counts_of(timeline)
    found: dict[str, float] = {}
    for program in timeline.programs:
        for task, amount in zip(program.tasks, amounts(program), strict=True):
            found[task.name] = found.get(task.name, 0.0) + counts[program.name] * amount
    ranked = sorted((held for held in found.items() if held[1]), key=lambda held: -held[1])
    whole = sum(found.values())
    for name, amount in ranked[:SHOWN]:
        yield Part(name, text(amount), _ratio(amount, whole))
    rest = sum(amount for _, amount in ranked[SHOWN:])
    if rest:
        yield Part(f"{len(ranked) - SHOWN} more", text(rest), _ratio(rest, whole))


def _figures(timeline: Timeline, name: str) -> tuple[str, ...]:
    """The figures behind 5 % of the step, for what follows from its time."""
    follows = SUMS.get(name, (None,))[0] in (_times, _exposed) or name == "evidence"
    if not follows:
        return ()
    ordered = sorted(timeline.figures, key=lambda figure: (-figure.share, figure.path))
    if name == "exposed_communication_ms":
        return tuple(one.path for one in ordered if one.path.startswith("domains."))
    matter = (one for one in ordered if one.share >= NOTICEABLE)
    return tuple(one.path for one in matter)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


# ---- as text -----------------------------------------------------------------------------------


def explanation_lines(about: Explanation) -> Iterator[str]:
    yield f"{about.name}: {about.value}"
    yield f"  {about.title}"
    yield from _section("formula", about.formula)
    width = max((len(part.name) for part in about.parts), default=0)
    amount = max((len(part.amount) for part in about.parts), default=0)
    yield from _section(
        "made up of",
        [
            f"{part.name:<{width}}  {part.amount:>{amount}}"
            + (f"  {share_text(part.share):>7}" if part.share else "")
            for part in about.parts
        ],
    )
    yield from _section("critical path", about.critical)
    yield from _section("parameters", [line for one in about.parameters for line in _lines(one)])


def _lines(one: Parameter) -> Iterator[str]:
    yield f"{one.path} = {one.value}  [{one.evidence}, {one.source}]"
    if one.note:
        yield f"  {one.note}"


def _section(title: str, lines: tuple[str, ...] | list[str]) -> Iterator[str]:
    if lines:
        yield f"  {title}"
        yield from (f"    {line}" for line in lines)
