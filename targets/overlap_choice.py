"""How a deployment hides its communication: the ways, what each takes, and the choice.

    choice = choose_overlap(work, machine, sizes, "auto")
    choice.chosen                             options of the pass overlap-comm

The number of waves is searched for: the recurrence of `overlap.py` orders all numbers by the time
of dispatch, experts and combine alone, and the whole step is costed for the best of them and for
that of the reference policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from supertile.targets.cost.chance import expected_blocks
from supertile.targets.cost.values import ceil_divide, value_of
from supertile.targets.deploy import spread
from supertile.targets.machine_types import Machine
from supertile.targets.overlap import reference_waves, wave_time
from supertile.targets.step import Costs, Item, Sizes, StepWork, Stretch, Wave
from supertile.targets.step_overlap import NO_OVERLAP, Overlap, StepSizes, costed_step, waved

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


def choose_overlap(work: StepWork, machine: Machine, sizes: StepSizes, way: str = "auto") -> OverlapChoice:
    """The fastest way, or the given one where it is possible: waves need two experts on a rank,
    two micro-batches two sequences, and both of them several ranks."""
    stretch = next((one for one in work.stretches if waved(one)), None)
    seconds = {NO_OVERLAP: costed_step(work, NO_OVERLAP, machine, sizes).duration}
    if stretch is None or sizes.whole.ranks == 1:
        return OverlapChoice(seconds, NO_OVERLAP)
    kinds = {"none": NO_OVERLAP}
    for name, batches in (("waves", 1), ("batches", 2)):
        if batches > 1 and len(sizes.halves) < batches:
            continue
        own = sizes.halves[0] if batches > 1 else sizes.whole
        ways = [Overlap(batches, waves) for waves in _tried(stretch, machine, own)]
        if batches > 1:
            kinds["batches"] = Overlap(batches)
            seconds[kinds["batches"]] = costed_step(work, Overlap(batches), machine, sizes).duration
        found = {one: costed_step(work, one, machine, sizes).duration for one in ways}
        if found:
            best = min(found, key=lambda one: (found[one], one.waves))
            kinds["both" if batches > 1 else name] = best
            seconds[best] = found[best]
    if way != "auto":
        return OverlapChoice(seconds, kinds.get(way, NO_OVERLAP))
    return OverlapChoice(seconds, _fastest(seconds))


def _fastest(seconds: dict[Overlap, float]) -> Overlap:
    """The fastest; a simpler way, which comes before, where that takes hardly longer."""
    least = min(seconds.values())
    return next(one for one, time in seconds.items() if time <= least * (1 + MATTERS))


# ---- waves -------------------------------------------------------------------------------------


def _tried(stretch: Stretch, machine: Machine, sizes: Sizes) -> list[int]:
    """Numbers of waves to cost whole steps for."""
    slots = max(item.slots for item in stretch.items)
    times = {waves: _expert_time(stretch, waves, machine, sizes) for waves in range(2, slots + 1)}
    best = sorted(times, key=lambda waves: (times[waves], waves))[:TRIED]
    reference = _reference(stretch, machine, sizes)
    return sorted({*best, *([reference] if reference > 1 else [])})


def _expert_time(stretch: Stretch, waves: int, machine: Machine, sizes: Sizes) -> float:
    """Seconds from the first row that leaves to the last that is back, alone on a device."""
    costs, slots = Costs(), max(item.slots for item in stretch.items)
    runs = [Wave(n, own, slots) for n, own in enumerate(spread(slots, waves))]

    def seconds(items: Sequence[Item]) -> list[float]:
        return [
            sum(costs.task(item, machine, sizes, wave).duration for item in items) for wave in runs
        ]

    held = [stretch.items[number] for number in sorted(waved(stretch))]
    parts = [[item for item in held if item.transfer == kind] for kind in ("dispatch", "", "combine")]
    return float(wave_time(*map(seconds, parts), duplex=False))


def _reference(stretch: Stretch, machine: Machine, sizes: Sizes) -> int:
    """The waves of the reference policy, from the tiles of the first product."""
    slots = max(item.slots for item in stretch.items)
    for number in sorted(waved(stretch)):
        work = stretch.items[number].work
        if work is None or not any("{e}" in label for label, _ in work.read):
            continue
        tiles = 1.0
        for extent in work.phases[0].grid:
            size = value_of(extent.size, sizes.values)
            if extent.groups is None:
                tiles *= float(ceil_divide(size, extent.step))
            else:
                rows, tiles = size / slots, tiles * expected_blocks(size, slots, extent.step) / slots
        engine = machine.engine("matrix")
        cores = engine.cores.value if engine is not None else None
        return reference_waves(slots, rows, tiles, cores or 1.0)
    return 1
