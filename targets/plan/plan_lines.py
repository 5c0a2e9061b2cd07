"""What the terminal shows of a plan: a short table, each row with what it means below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import numpy as np

from supertile.targets.output.units import bytes_text, seconds_text
from supertile.targets.placement.expert_map import Floats, over_mean
from supertile.targets.plan.comparison import EPLB, PLANNED, StepFigures
from supertile.targets.plan.planned import Planned


def plan_lines(planned: Planned) -> Iterator[str]:
    """The table and the notes of a plan."""
    yield f"{planned.model} on {planned.machine}: {planned.deployment}"
    yield planned.slots_text
    yield f"loads: {planned.loads_source}, {len(planned.layers)} layers"
    method = f"{planned.shares} shares, least {planned.objective} of the fullest rank"
    yield f"planned in {planned.seconds:.2f} s: {method}, seed {planned.seed}"
    yield ""
    yield from _table(_rows(planned))
    yield ""
    if planned.gain:
        yield planned.gain
    yield from _legend(planned)
    over = f"{planned.over_bound.mean():.4f} x its lower bound, {planned.over_bound.max():.4f} x"
    yield f"least {planned.objective}: {over} in the worst layer"
    if planned.expected is not None:
        yield f"expected: balancedness as {planned.scenarios}"
    if planned.moves is not None:
        moved = bytes_text(planned.moved_bytes)
        yield f"moves from the plan in use: {len(planned.moves):,} experts, {moved}"
    yield from planned.communication
    yield from (f"note: {note}" for note in planned.notes)


def _rows(planned: Planned) -> Iterator[tuple[str, ...]]:
    """The names of the columns, a row for each placement, and what none can beat."""
    expected = {
        planned.before_name: planned.expected_before,
        EPLB: planned.expected_baseline,
        PLANNED: planned.expected,
    }
    steps = ("layer time", "step", "tokens/s") if planned.steps else ()
    held_out = () if planned.expected is None else ("expected",)
    yield ("placement", "load / mean", "worst", "balancedness", "rank time", *steps, *held_out)
    for name, one in planned.sides():
        seconds = seconds_text(float(planned.layer_seconds(one).mean()))
        cells = (name, *_numbers(over_mean(planned.loads[name]).max(axis=1)), seconds)
        yield (*cells, *_step_cells(planned.steps.get(name)), *_mean(expected.get(name)))
    least = seconds_text(float(planned.bound_seconds.mean()))
    yield ("lower bound", *_bound_figures(planned), least)


def _step_cells(step: StepFigures | None) -> tuple[str, ...]:
    if step is None:
        return ()
    times = (seconds_text(step.layer_seconds), seconds_text(step.step_seconds))
    return (*times, f"{step.tokens_per_second_per_device:,.1f}")


def _mean(expected: Floats | None) -> tuple[str, ...]:
    return () if expected is None else (f"{expected.mean():.4f}",)


def _numbers(fullest: Floats) -> tuple[str, ...]:
    """Of the fullest rank over the mean [L]: the mean, the worst, and the mean of the inverse."""
    numbers = (fullest.mean(), fullest.max(), (1 / fullest).mean())
    return tuple(f"{number:.4f}" for number in numbers)


def _bound_figures(planned: Planned) -> tuple[str, ...]:
    mean = planned.loads[PLANNED].mean(axis=1)
    return _numbers(np.where(mean > 0, planned.bound / np.where(mean > 0, mean, 1.0), 1.0))


def _table(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """The rows in columns, as wide as what is in them."""
    cells = list(rows)
    widths = [max(map(len, column)) for column in zip_longest(*cells, fillvalue="")]
    for first, *others in cells:
        shown = (f"  {cell:>{width}}" for cell, width in zip(others, widths[1:], strict=False))
        yield f"{first:<{widths[0]}}" + "".join(shown)


def _legend(planned: Planned) -> Iterator[str]:
    yield "load / mean: fullest rank over the average one, mean over layers; worst: of the worst"
    yield "  layer; balancedness: the inverse; rank time: experts of the slowest rank, then wire of"
    yield "  the fullest"
    if planned.steps:
        tokens = "prompt tokens" if planned.phase == "prefill" else "tokens"
        yield "layer time: how long dispatch, experts or combine of a layer run, chance included;"
        yield f"  tokens/s: {tokens} per second per {planned.device_unit}, of the whole step"
    if planned.engine is not None:
        yield f"{planned.engine.title} loads the plan: {planned.engine.fact('split.rule').note}"
