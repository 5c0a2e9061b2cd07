"""From the tasks of a step to the figures of a deployment, each with one sentence that defines it.

A device is one rank: the smallest part that runs on its own (`Machine.device_unit`). A field that
does not apply to the phase is None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from supertile.targets.cost.memory import Fit
from supertile.targets.cost.sizes import load_of
from supertile.targets.deploy import Deployment, Model
from supertile.targets.machine_types import Machine
from supertile.targets.timeline import MemoryUse, Program, Task

COMPUTE = "compute"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Step:
    """What the fields are computed from."""

    programs: Mapping[str, Program]
    counts: Mapping[str, int]
    """Program -> how often it runs in a step."""
    deployment: Deployment
    calls: int
    """Steps that a prompt takes."""
    memory: MemoryUse
    fit: Fit
    evidence: str
    unit: str
    graph_launch: float | None

    @property
    def seconds(self) -> float:
        return self.over(lambda program: program.duration)

    def over(self, part: Callable[[Program], float]) -> float:
        """A part of every program, as often as it runs."""
        return sum(count * part(self.programs[name]) for name, count in self.counts.items())

    @property
    def sequences(self) -> int:
        return self.deployment.batch * self.deployment.dp

    @property
    def is_decode(self) -> bool:
        return self.deployment.phase == "decode"

    @property
    def tokens(self) -> float:
        """Tokens that a sequence gains in a step."""
        return 1 + (self.deployment.mtp or 0.0)


def totals(
    programs: Sequence[Program],
    order: Sequence[tuple[str, int]],
    deployment: Deployment,
    model: Model,
    machine: Machine,
    memory: MemoryUse,
    fit: Fit,
    evidence: str,
) -> tuple[dict[str, object], dict[str, str]]:
    """The fields of the summary, in order, and the sentence of each.

    `evidence` is `evidence.verdict`. Every program of `order` is among `programs`.
    """
    counts: dict[str, int] = {}
    for name, count in order:
        counts[name] = counts.get(name, 0) + count
    step = Step(
        programs={program.name: program for program in programs},
        counts=counts,
        deployment=deployment,
        calls=load_of(deployment, model).calls,
        memory=memory,
        fit=fit,
        evidence=evidence,
        unit=machine.device_unit,
        graph_launch=machine.figure("parameters.graph_launch").value,
    )
    summary = {name: rule(step) for name, (rule, _) in FIELDS.items()}
    definitions = {name: text.format(unit=step.unit) for name, (_, text) in FIELDS.items()}
    return summary, definitions


# ---- the fields -------------------------------------------------------------------------------


def _step_ms(step: Step) -> float:
    return step.seconds * 1e3


def _time_per_output_token_ms(step: Step) -> float | None:
    return step.seconds * 1e3 / step.tokens if step.is_decode else None


def _tokens_per_second_per_device(step: Step) -> float | None:
    if not step.is_decode or not step.seconds:
        return None
    return step.sequences * step.tokens / step.seconds / step.deployment.ranks


def _time_to_first_token_ms(step: Step) -> float | None:
    return None if step.is_decode else step.calls * step.seconds * 1e3


def _prefill_tokens_per_second_per_device(step: Step) -> float | None:
    if step.is_decode or not step.seconds:
        return None
    prompt = step.sequences * step.deployment.context
    return prompt / (step.calls * step.seconds) / step.deployment.ranks


def _exposed_communication_ms(step: Step) -> float:
    return step.over(exposed_seconds) * 1e3


def _hidden_communication_ms(step: Step) -> float:
    return step.over(hidden_seconds) * 1e3


def _graph_launch_ms(step: Step) -> float | None:
    return None if step.graph_launch is None else step.graph_launch * 1e3


def _messages(step: Step) -> float:
    return step.over(lambda program: sum(task.messages for task in program.tasks))


def _wire_bytes(step: Step) -> float:
    return step.over(lambda program: sum(task.wire_bytes for task in program.tasks))


def _launches(step: Step) -> float:
    return step.over(_kernels)


def _launches_per_layer(step: Step) -> dict[str, int]:
    return {name: _kernels(step.programs[name]) for name in step.counts}


FIELDS: dict[str, tuple[Callable[[Step], object], str]] = {
    "step_ms": (
        _step_ms,
        "Milliseconds of one step: a decode step of all sequences with its drafts, or one call "
        "on a chunk of every prompt.",
    ),
    "time_per_output_token_ms": (
        _time_per_output_token_ms,
        "Milliseconds for each accepted token of one sequence: step / (1 + accepted drafts).",
    ),
    "tokens_per_second_per_device": (
        _tokens_per_second_per_device,
        "Accepted output tokens of all sequences a second, over all devices; one is a {unit}.",
    ),
    "time_to_first_token_ms": (
        _time_to_first_token_ms,
        "Milliseconds for a whole prompt, all its chunks, without waiting for other requests.",
    ),
    "prefill_tokens_per_second_per_device": (
        _prefill_tokens_per_second_per_device,
        "Prompt tokens of all sequences a second, over all devices; one is a {unit}.",
    ),
    "exposed_communication_ms": (
        _exposed_communication_ms,
        "Milliseconds of a step on which links are busy and no kernel runs.",
    ),
    "hidden_communication_ms": (
        _hidden_communication_ms,
        "Milliseconds of a step on which links are busy while kernels run.",
    ),
    "graph_launch_ms": (
        _graph_launch_ms,
        "Milliseconds to launch a captured graph of kernels, once a step; not part of the step.",
    ),
    "messages": (
        _messages,
        "Messages that the fullest {unit} sends to others in one step: one for each row, packed or "
        "not, and each part of a collective.",
    ),
    "wire_bytes": (_wire_bytes, "Bytes that the fullest {unit} sends to others in one step."),
    "launches": (_launches, "Kernels that a {unit} launches in one step."),
    "launches_per_layer": (
        _launches_per_layer,
        "Kernels launched in one run of each program: of a layer of each kind, and at the ends.",
    ),
    "device_unit": (
        lambda step: step.unit,
        "What one device is, and so one rank: the smallest part that runs on its own.",
    ),
    "memory_bytes_by_purpose": (
        lambda step: dict(step.memory.parts),
        "Bytes of the memory of the fullest {unit}, by purpose.",
    ),
    "memory_bytes_per_device": (
        lambda step: step.memory.total,
        "Bytes of the memory of the fullest {unit}, in all.",
    ),
    "memory_capacity_bytes": (
        lambda step: step.memory.capacity,
        "Bytes of memory that a {unit} has for programs.",
    ),
    "fits": (lambda step: step.memory.fits, "Whether the total is within the capacity."),
    "largest_batch": (
        lambda step: step.fit.batch,
        "Sequences of a rank that fit at this context, whatever batch is asked; 0: none.",
    ),
    "largest_context": (
        lambda step: step.fit.context,
        "Tokens of a sequence that fit at this batch, up to the positions of the model; 0: none.",
    ),
    "evidence": (
        lambda step: step.evidence,
        "The weakest evidence among the figures behind 5 % of the step or more.",
    ),
}


# ---- parts of a program -----------------------------------------------------------------------


def exposed_seconds(program: Program) -> float:
    """The time on which a transfer runs and no kernel does."""
    kernels = _union(task for task in program.tasks if task.lane == COMPUTE)
    both = _union(program.tasks)
    return min(_link_seconds(program), max(0.0, _length(both) - _length(kernels)))


def hidden_seconds(program: Program) -> float:
    """The time on which a transfer and a kernel run."""
    return _link_seconds(program) - exposed_seconds(program)


def _link_seconds(program: Program) -> float:
    return _length(_union(task for task in program.tasks if task.lane != COMPUTE))


def _union(tasks: Iterable[Task]) -> list[Interval]:
    """The times on which some task runs, disjoint and in order."""
    joined: list[Interval] = []
    for start, end in sorted((task.start, task.end) for task in tasks):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def _length(intervals: Iterable[Interval]) -> float:
    return sum(end - start for start, end in intervals)


def _kernels(program: Program) -> int:
    return sum(task.lane == COMPUTE and not task.continues for task in program.tasks)
