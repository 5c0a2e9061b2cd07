"""What the figures of a plan must be: computed from its placement and loads, or held against each
other where a plan does not say its loads.

Sizes: L layers with experts, E experts, G ranks, P slots in all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import numpy as np

from supertile.ir.json_text import Steps
from supertile.targets.engines.engine import engine_named
from supertile.targets.placement.bounds import equal_bound, placement_bound
from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.plan.comparison import PLANNED
from supertile.targets.plan.plan_types import LayerPlan, PlanFile

WITHIN = 1e-9
"""Relative: sums in another order differ less, and mistakes more."""
PHASES = ("latency", "arithmetic", "weights", "wire")
OVERLAPPED, SERIAL = "overlapped", "serial"


class Contradiction(NamedTuple):
    """A figure that cannot be."""

    steps: Steps
    """Where the file says it."""
    expected: str
    found: float


def split_placement(plan: PlanFile) -> ExpertMap | None:
    """The placement with the shares that its figures are by; None where the engine's is unknown."""
    if not plan.engine:
        return plan.placement
    if plan.setting is None:
        return None
    return engine_named(plan.engine).split(plan.placement, plan.setting)


class LayerFigures(NamedTuple):
    """As `LayerPlan` has them."""

    balancedness: float
    bound: float
    ratio: float
    max_load: float


def layer_figures(split: ExpertMap, load: Floats, bound: Floats) -> list[LayerFigures]:
    """Of each layer, under loads [L, E] with the least largest load of a rank `bound` [L]."""
    largest, balancedness = split.loads(load).max(axis=1), split.balancedness(load)
    return [
        LayerFigures(
            balancedness=float(balancedness[row]),
            bound=float(bound[row]),
            ratio=float(largest[row] / bound[row]) if bound[row] else 1.0,
            max_load=float(largest[row]),
        )
        for row in range(len(load))
    ]


def contradiction(plan: PlanFile) -> Contradiction | None:
    """The first figure that contradicts the placement, its loads or another figure."""
    found = chain(
        *(_ranges(plan, index) for index in range(len(plan.layers))),
        _computed(plan),
        *(_related(layer, index) for index, layer in enumerate(plan.layers)),
        _compared(plan),
        _times(("bounds",), plan.bounds),
    )
    return next(found, None)


def _ranges(plan: PlanFile, index: int) -> Iterator[Contradiction]:
    """The mean of so many ranks is at least that part of the largest."""
    least, layer = 1 / plan.placement.ranks, plan.layers[index]
    for name in ("balancedness", "expected"):
        value = getattr(layer, name)
        if value is not None and not least * (1 - WITHIN) <= value <= 1 + WITHIN:
            expected = f"{least:.6g} to 1, as there are {plan.placement.ranks} ranks"
            yield Contradiction(("layers", index, name), expected, value)


def _computed(plan: PlanFile) -> Iterator[Contradiction]:
    """Balance and largest load, computed where the plan says its loads; no bound is below those of
    `placement.bounds`."""
    split = split_placement(plan)
    if plan.load is None or split is None:
        return
    own_shares = plan.shares == "weighted" or bool(plan.engine)
    least = (placement_bound if own_shares else equal_bound)(plan.load, plan.placement.slots)
    computed = layer_figures(split, plan.load, least)
    for index, (layer, figures) in enumerate(zip(plan.layers, computed, strict=True)):
        for name in ("balancedness", "max_load"):
            value, given = getattr(layer, name), getattr(figures, name)
            if not _same(value, given):
                expected = f"{given:.10g}, which the placement gives"
                yield Contradiction(("layers", index, name), expected, value)
        if layer.bound < least[index] * (1 - WITHIN):
            expected = f"{least[index]:.10g} or more, which no placement goes below"
            yield Contradiction(("layers", index, "bound"), expected, layer.bound)


def _related(layer: LayerPlan, index: int) -> Iterator[Contradiction]:
    """max_load = ratio x bound, and the bound is from the mean to the largest load."""
    ratio = layer.max_load / layer.bound if layer.bound else 1.0
    if not _same(layer.ratio, ratio):
        expected = f"{ratio:.10g}, max_load over bound"
        yield Contradiction(("layers", index, "ratio"), expected, layer.ratio)
    mean = layer.balancedness * layer.max_load
    if not mean * (1 - WITHIN) <= layer.bound <= layer.max_load * (1 + WITHIN):
        expected = f"{mean:.10g} to {layer.max_load:.10g}, from the mean to the largest load"
        yield Contradiction(("layers", index, "bound"), expected, layer.bound)


def _compared(plan: PlanFile) -> Iterator[Contradiction]:
    """A load over the mean is 1 to as many as there are ranks, and that of the plan follows from
    its layers; every placement has the same tokens in a step."""
    ranks, name = plan.placement.ranks, "load_over_mean"
    mean = float(np.mean([1 / layer.balancedness for layer in plan.layers]))
    for placement, figures in plan.comparison.items():
        steps: Steps = ("comparison", placement, name)
        value = figures.get(name)
        if value is None:
            continue
        if placement == PLANNED and not _same(value, mean):
            expected = f"{mean:.10g}, the mean over the layers of 1 / balancedness"
            yield Contradiction(steps, expected, value)
        if not 1 - WITHIN <= value <= ranks * (1 + WITHIN):
            yield Contradiction(steps, f"1 to {ranks}, the ranks", value)
    yield from _same_tokens(plan.comparison)


def _same_tokens(comparison: Mapping[str, Mapping[str, float]]) -> Iterator[Contradiction]:
    rate, step = "tokens_per_second_per_device", "step_seconds"
    costed = {name: row for name, row in comparison.items() if rate in row and step in row}
    tokens = {name: row[rate] * row[step] for name, row in costed.items()}
    if not tokens:
        return
    usual = sorted(tokens.values())[len(tokens) // 2]
    for name, count in tokens.items():
        if not _same(count, usual):
            expected = f"{usual / costed[name][step]:.10g}, {usual:.6g} tokens over {step}"
            yield Contradiction(("comparison", name, rate), expected, costed[name][rate])


def _times(steps: Steps, bounds: Mapping[str, float]) -> Iterator[Contradiction]:
    """What runs all at once takes as long as its longest part, and one after the other longer."""
    if not {*PHASES, OVERLAPPED, SERIAL} <= set(bounds):
        return
    latency, arithmetic, weights, wire = (bounds[name] for name in PHASES)
    least = max(latency, arithmetic, weights, wire)
    if not _same(bounds[OVERLAPPED], least):
        yield Contradiction((*steps, OVERLAPPED), f"{least:.10g}", bounds[OVERLAPPED])
    low = latency + max(arithmetic, weights) + wire
    if not low * (1 - WITHIN) <= bounds[SERIAL] <= (low + wire) * (1 + WITHIN):
        expected = f"{low:.10g} to {low + wire:.10g}"
        yield Contradiction((*steps, SERIAL), expected, bounds[SERIAL])


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= WITHIN * max(abs(one), abs(other))
