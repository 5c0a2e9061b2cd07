"""How a deployment hides its communication: the ways, what each takes, and the choice.

    choice = choose_overlap(work, costs, "auto")
    choice.chosen                             options of the pass overlap-comm

The number of waves is searched for: the recurrence of `overlap.py` orders all numbers by the time
of dispatch, experts and combine alone, and the whole step is costed for the best of them and for
that of the reference policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from supertile.ir.comm_work import ARRIVED
from supertile.targets.cost.chance import expected_blocks
from supertile.targets.cost.values import value_of
from supertile.targets.deploy import spread
from supertile.targets.overlap import reference_waves, wave_time
from supertile.targets.step import Wave
from supertile.targets.step_overlap import NO_OVERLAP, Overlap, StepCosts, costed_step, waved
from supertile.targets.step_work import Item, StepWork, Stretch

Way = Literal["none", "waves", "batches", "both", "auto"]
WAYS: tuple[str, ...] = get_args(Way)
TRIED = 3
"""Numbers of waves for which a whole step is costed, the reference policy's aside."""
MATTERS = 1e-3
"""A way that gains less than this share of a step is not worth its parts."""


@dataclass(frozen=True)
class OverlapChoice:
    """The ways that are possible, what a step takes with each, and the one to go."""

    seconds: dict[Overlap, float]
    chosen: Overlap


def choose_overlap(work: StepWork, costs: StepCosts, way: str = "auto") -> OverlapChoice:
    """The fastest way, or the given one where it is possible: waves need two experts on a rank,
    two micro-batches two sequences, and both of them several ranks."""
    stretch = next((one for one in work.stretches if waved(one)), None)
    seconds = {NO_OVERLAP: costed_step(work, NO_OVERLAP, costs).duration}
    kinds = {"none": NO_OVERLAP}
    halves = (None, 0) if len(costs.halves) > 1 else (None,)
    if stretch is None or costs.whole.ranks == 1:
        return OverlapChoice(seconds, NO_OVERLAP)
    for half in halves:
        plain = NO_OVERLAP if half is None else Overlap(microbatches=2)
        if half is not None:
            kinds["batches"] = plain
            seconds[plain] = costed_step(work, plain, costs).duration
        ways = [replace(plain, waves=waves) for waves in _tried(stretch, costs, half)]
        found = {one: costed_step(work, one, costs).duration for one in ways}
        if found:
            best = min(found, key=lambda one: (found[one], one.waves))
            kinds["waves" if half is None else "both"] = best
            seconds[best] = found[best]
    return OverlapChoice(
        seconds, _fastest(seconds) if way == "auto" else kinds.get(way, NO_OVERLAP)
    )


def _fastest(seconds: dict[Overlap, float]) -> Overlap:
    """The fastest; a simpler way, which comes before, where that takes hardly longer."""
    least = min(seconds.values())
    return next(one for one, time in seconds.items() if time <= least * (1 + MATTERS))


# ---- waves -------------------------------------------------------------------------------------


def _tried(stretch: Stretch, costs: StepCosts, half: int | None) -> list[int]:
    """Numbers of waves to cost whole steps for."""
    slots = max(item.slots for item in stretch.items)
    items = [stretch.items[number] for number in sorted(waved(stretch))]
    kinds = ("dispatch", "", "combine")
    parts = [[item for item in items if item.transfer == kind] for kind in kinds]
    times: dict[int, float] = {}
    for waves in range(2, slots + 1):
        runs = [Wave(n, own, slots) for n, own in enumerate(spread(slots, waves))]
        dispatch, experts, combine = (
            [_seconds(costs, own, half, wave) for wave in runs] for own in parts
        )
        times[waves] = float(wave_time(dispatch, experts, combine, duplex=False))
    best = sorted(times, key=lambda waves: (times[waves], waves))[:TRIED]
    reference = _reference(stretch, costs, half)
    return sorted({*best, *([reference] if reference > 1 else [])})


def _seconds(costs: StepCosts, items: Sequence[Item], half: int | None, wave: Wave) -> float:
    return sum(costs.task(item, half, wave).duration for item in items)


def _reference(stretch: Stretch, costs: StepCosts, half: int | None) -> int:
    """The waves of the reference policy, from the tiles of the first product."""
    slots = max(item.slots for item in stretch.items)
    values = (costs.whole if half is None else costs.halves[half]).values
    works = [stretch.items[number].work for number in sorted(waved(stretch))]
    work = next(
        (one for one in works if one and any("{e}" in label for label, _ in one.read)), None
    )
    engine = costs.machine.engine("matrix")
    if work is None or engine is None or engine.cores.value is None:
        return 1
    tiles = 1.0
    for extent in work.phases[0].grid:
        size = float(value_of(extent.size, values))
        grouped = extent.groups is not None
        tiles *= (
            expected_blocks(size, slots, extent.step) / slots
            if grouped
            else -(-size // extent.step)
        )
    return reference_waves(slots, float(values[ARRIVED]) / slots, tiles, engine.cores.value)
