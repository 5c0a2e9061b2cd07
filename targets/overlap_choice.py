"""How a deployment hides its communication: the ways, what each takes, and the choice.

    choice = choose_overlap(scheduled, costs, "auto")
    choice.chosen                             options of the pass overlap-comm

What a way takes is the time of the step that was scheduled for it. The number of waves is searched
for: the recurrence of `overlap.py` orders all numbers by the time of dispatch, experts and combine
alone, and steps are scheduled for the best of them and for that of the reference policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from supertile.ir.comm_work import ARRIVED
from supertile.ir.errors import UserError
from supertile.ir.even_parts import even_parts
from supertile.targets.cost.chance import expected_blocks
from supertile.targets.cost.values import value_of
from supertile.targets.overlap import reference_waves, wave_time
from supertile.targets.step import Wave
from supertile.targets.step_costs import NO_OVERLAP, Overlap, StepCosts, costed_step
from supertile.targets.step_work import Item, StepWork, Stretch

Way = Literal["none", "waves", "batches", "both", "auto"]
WAYS: tuple[str, ...] = get_args(Way)
MOST_WAVES = 16
"""More gain next to nothing, and each adds a dispatch, a combine and kernels to the programs."""
IMPOSSIBLE = ("pass.waves", "pass.microbatches")
MATTERS = 1e-3
"""A way that gains less than this share of a step is not worth its parts."""

Scheduled = Callable[[Overlap], StepWork]
"""The work of the step as it is scheduled for a way."""


@dataclass(frozen=True)
class OverlapChoice:
    """The ways that are possible, what a step takes with each, and the one to go."""

    seconds: dict[Overlap, float]
    chosen: Overlap
    refused: tuple[UserError, ...] = ()
    """Why ways were left out that the layers of the model do not allow."""


def choose_overlap(scheduled: Scheduled, costs: StepCosts, way: str = "auto") -> OverlapChoice:
    """The fastest way, or the given one where it is possible: waves need two experts on a rank,
    two micro-batches two sequences, and both of them several ranks.

    All ways are told of, so all are scheduled.
    """
    plain = scheduled(NO_OVERLAP)
    seconds = {NO_OVERLAP: costed_step(plain, costs).duration}
    stretch = next((one for one in plain.stretches if exchanged(one)), None)
    if stretch is None or costs.whole.ranks == 1:
        return OverlapChoice(seconds, NO_OVERLAP)
    kinds, refused = {"none": NO_OVERLAP}, list[UserError]()
    for name, way_of_kind in _candidates(stretch, costs):
        try:
            found = {one: costed_step(scheduled(one), costs).duration for one in way_of_kind}
        except UserError as error:
            if way == name or error.code not in IMPOSSIBLE:
                raise
            refused.append(error)
            continue
        best = min(found, key=lambda one: (found[one], one.waves))
        kinds[name], seconds[best] = best, found[best]
    chosen = _fastest(seconds) if way == "auto" else kinds.get(way, NO_OVERLAP)
    return OverlapChoice(seconds, chosen, tuple(refused))


def _candidates(stretch: Stretch, costs: StepCosts) -> Iterator[tuple[str, list[Overlap]]]:
    """For each kind of way that is possible, what to schedule steps for."""
    halves = len(costs.halves) > 1
    if found := _tried(stretch, costs, None):
        yield "waves", [Overlap(1, waves) for waves in found]
    if halves:
        yield "batches", [Overlap(2)]
    if halves and (found := _tried(stretch, costs, 0)):
        yield "both", [Overlap(2, waves) for waves in found]


def _fastest(seconds: dict[Overlap, float]) -> Overlap:
    """The fastest; a simpler way, which comes before, where that takes hardly longer."""
    least = min(seconds.values())
    return next(one for one, time in seconds.items() if time <= least * (1 + MATTERS))


# ---- waves -------------------------------------------------------------------------------------


def exchanged(stretch: Stretch) -> list[Item]:
    """Dispatch, combine, and what lies between them: what would run in waves."""
    items = stretch.items
    first = {n for n, item in enumerate(items) if item.transfer == "dispatch"}
    sent = _behind(items, first)
    last = {n for n, item in enumerate(items) if item.transfer == "combine"}
    needed, waiting = set[int](), list(last)
    while waiting:
        waits = [n for n in items[waiting.pop()].waits if n in sent - needed]
        needed.update(waits)
        waiting += waits
    return [items[n] for n in sorted(first | needed | last)]


def _behind(items: Sequence[Item], first: set[int]) -> set[int]:
    """All that waits for some of the items, directly or not."""
    found: set[int] = set()
    for number, item in enumerate(items):
        if any(wait in first or wait in found for wait in item.waits):
            found.add(number)
    return found


def _tried(stretch: Stretch, costs: StepCosts, half: int | None) -> list[int]:
    """Numbers of waves to schedule whole steps for."""
    slots = max(item.slots for item in stretch.items)
    items = exchanged(stretch)
    kinds = ("dispatch", "", "combine")
    parts = [[item for item in items if item.transfer == kind] for kind in kinds]
    times: dict[int, float] = {}
    for waves in range(2, min(slots, MOST_WAVES) + 1):
        runs = [Wave(n, own, slots) for n, own in enumerate(even_parts(slots, waves))]
        dispatch, experts, combine = (
            [_seconds(costs, own, half, wave) for wave in runs] for own in parts
        )
        times[waves] = float(wave_time(dispatch, experts, combine, duplex=False))
    best = sorted(times, key=lambda waves: (times[waves], waves))[:1]
    reference = min(_reference(stretch, costs, half), MOST_WAVES)
    return sorted({*best, *([reference] if reference > 1 else [])})


def _seconds(costs: StepCosts, items: Sequence[Item], half: int | None, wave: Wave) -> float:
    return sum(costs.task(item, half, wave).duration for item in items)


def _reference(stretch: Stretch, costs: StepCosts, half: int | None) -> int:
    """The waves of the reference policy, from the tiles of the first product."""
    slots = max(item.slots for item in stretch.items)
    values = (costs.whole if half is None else costs.halves[half]).values
    works = [item.work for item in exchanged(stretch)]
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
