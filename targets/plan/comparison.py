"""What a step gains by a plan: placements under the same loads, each with a step costed whole.

The steps are those that `supertile compile` costs with the placement and the loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from supertile.targets.timeline import Program, Timeline

PLANNED, EPLB, ROUND_ROBIN = "planned", "EPLB", "round-robin"
"""Names of placements: the plan, what the engines' balancer makes of the loads, and experts dealt
to ranks in turn."""
IN_USE, START = "in use", "engine's start"
"""Names of the current placement: that of a plan, or the one that the engine starts with."""

RATES = ("tokens_per_second_per_device", "prefill_tokens_per_second_per_device")
"""Fields of a summary: one of them applies to a phase."""
LAYER_KINDS = ("dispatch", "combine")
EXPERTS = "experts"
EQUAL = 5e-4
"""Of a rate: a gain below this is none."""


@dataclass(frozen=True)
class StepFigures:
    """A step with a placement under loads."""

    layer_seconds: float
    """How long dispatch, experts or combine of a layer run: mean over layers."""
    step_seconds: float
    tokens_per_second_per_device: float
    """Accepted output tokens while decoding, prompt tokens in prefill."""

    def as_dict(self) -> dict[str, float]:
        return dict(vars(self))


def step_figures(timeline: Timeline, layers: int) -> StepFigures:
    """Those of a costed step; `layers` with experts run in it, draft layers among them."""
    counts: dict[str, int] = {}
    for name, count in timeline.order:
        counts[name] = counts.get(name, 0) + count
    seconds = sum(counts[program.name] * expert_seconds(program) for program in timeline.programs)
    step = timeline.summary["step_ms"]
    rate = next(value for key in RATES if (value := timeline.summary[key]) is not None)
    assert isinstance(step, float) and isinstance(rate, float)
    return StepFigures(seconds / layers, step / 1e3, rate)


def expert_seconds(program: Program) -> float:
    """How long dispatches, experts or combines of a program run: what runs at once counts once."""
    spans = sorted(
        (task.start, task.end)
        for task in program.tasks
        if task.name in LAYER_KINDS or task.kind == EXPERTS
    )
    seconds, reached = 0.0, 0.0
    for start, end in spans:
        seconds += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return seconds


def gain_text(steps: Mapping[str, StepFigures], current: str, unit: str, phase: str) -> str:
    """One sentence: tokens a second with the plan, beside EPLB and the current placement."""
    planned = steps[PLANNED].tokens_per_second_per_device
    tokens = "prompt tokens" if phase == "prefill" else "tokens"
    told = f"The plan gives {planned:,.0f} {tokens} per second per {unit}"
    return f"{told}, {' and '.join(_gains(steps, current))}."


def _gains(steps: Mapping[str, StepFigures], current: str) -> Iterator[str]:
    names = {EPLB: EPLB, current: f"the current placement ({current})"}
    for name, shown in names.items():
        if name in steps:
            gain = gain_over(steps, name)
            if abs(gain) < EQUAL:
                yield f"as many as {shown}"
            else:
                yield f"{_percent(abs(gain))} {'more' if gain > 0 else 'less'} than {shown}"


def gain_over(steps: Mapping[str, StepFigures], name: str) -> float:
    """Of tokens per second, as a part of those with the placement of this name."""
    planned, other = (steps[one].tokens_per_second_per_device for one in (PLANNED, name))
    return planned / other - 1


def _percent(gain: float) -> str:
    return f"{100 * gain:.1f} %" if gain < 0.1 else f"{100 * gain:.0f} %"
