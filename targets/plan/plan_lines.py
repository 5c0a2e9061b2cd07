"""What the terminal shows of a plan: a short table, each row with what it means below."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from supertile.targets.output.units import bytes_text, seconds_text
from supertile.targets.placement.expert_map import Floats, over_mean
from supertile.targets.plan.planned import PLANNED, Planned

HEAD = ("placement", "load / mean", "worst", "balancedness", "worst", "rank time", "expected")


def plan_lines(planned: Planned) -> Iterator[str]:
    """The table and the notes of a plan."""
    yield f"{planned.model} on {planned.machine}: {planned.deployment}"
    yield planned.slots_text
    yield f"loads: {planned.loads_source}, {len(planned.layers)} layers"
    method = f"{planned.shares} shares, least {planned.objective} of the fullest rank"
    yield f"planned in {planned.seconds:.2f} s: {method}, seed {planned.seed}"
    yield ""
    yield _row(HEAD)
    expected = {
        planned.before_name: planned.expected_before,
        "EPLB": planned.expected_baseline,
        PLANNED: planned.expected,
    }
    for name, one in planned.sides():
        seconds = seconds_text(float(planned.rank_seconds(one).mean()))
        yield _row((name, *_figures(planned.loads[name]), seconds, _mean(expected.get(name))))
    least = seconds_text(float(planned.bound_seconds.mean()))
    yield _row(("lower bound", *_bound_figures(planned), least))
    yield ""
    yield "load / mean: fullest rank over the average one, mean over layers; balancedness: its"
    yield "  inverse; worst: of the worst layer; rank time: experts and wire of the slowest rank"
    if planned.engine is not None:
        yield f"{planned.engine.title} loads the plan: {planned.engine.fact('split.rule').note}"
    over = f"{planned.over_bound.mean():.4f} x its lower bound, {planned.over_bound.max():.4f} x"
    yield f"least {planned.objective}: {over} in the worst layer"
    if planned.expected is not None:
        yield f"expected: balancedness as {planned.scenarios}"
    if planned.moves is not None:
        moved = bytes_text(planned.moved_bytes)
        yield f"moves from the plan in use: {len(planned.moves):,} experts, {moved}"
    yield from planned.communication
    yield from (f"note: {note}" for note in planned.notes)


def _mean(expected: Floats | None) -> str:
    return "" if expected is None else f"{expected.mean():.4f}"


def _figures(loads: Floats) -> tuple[str, ...]:
    return _numbers(over_mean(loads).max(axis=1))


def _numbers(fullest: Floats) -> tuple[str, ...]:
    """Of the fullest rank over the mean [L], and of its inverse: the mean and the worst."""
    numbers = (fullest.mean(), fullest.max(), (1 / fullest).mean(), (1 / fullest).min())
    return tuple(f"{number:.4f}" for number in numbers)


def _bound_figures(planned: Planned) -> tuple[str, ...]:
    mean = planned.loads[PLANNED].mean(axis=1)
    return _numbers(np.where(mean > 0, planned.bound / np.where(mean > 0, mean, 1.0), 1.0))


def _row(cells: tuple[str, ...]) -> str:
    first, *others = cells
    return (f"{first:<14}" + "".join(f"{cell:>13}" for cell in others)).rstrip()
