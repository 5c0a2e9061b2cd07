"""Placements for loads that are not as forecast: the best on average over scenarios.

Each scenario splits the tokens of experts anew over their replicas (`resplit.py`), so what counts
of a placement is its graph: which expert is on which ranks. Candidates (`starts.py`) are tried
until a layer is balanced in all scenarios; each layer keeps its best.
The work is counted in candidates and rounds, not seconds, so that same input gives same output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.inputs import checked_load, checked_slots
from supertile.targets.placement.resplit import best_shares, resplit
from supertile.targets.placement.starts import Start, given_start, starts

GOOD_ENOUGH = 1 - 5e-4
"""Expected balancedness from which on no other candidate is tried: about what `WITHIN` can tell."""
WITHIN = 1e-3
ROUNDS = 32


@dataclass(frozen=True)
class RobustPlan:
    """A placement and how balanced it is: of the forecast, and expected over scenarios."""

    map: ExpertMap
    """With the shares that are best for the forecast: those of batches not yet counted."""
    forecast: Floats
    """[L]: balancedness of the forecast itself under the shares of `map`. A robust placement may
    give up some of it."""
    expected: Floats
    """[L]: mean balancedness over the planning scenarios, shares split anew in each. The choice
    among candidates makes it a little too good: `resplit(map, other scenarios).expected` is not."""
    start: tuple[str, ...]
    """[L]: which candidate each layer comes from."""


def robust_map(
    load: ArrayLike,
    slots: ArrayLike,
    scenarios: ArrayLike,
    *,
    seed: int = 0,
    variations: int = 2,
    candidates: Sequence[ExpertMap] = (),
    progress: Callable[[float], None] | None = None,
) -> RobustPlan:
    """A placement of loads [L, E] on ranks of slots [G], for scenarios [S, L, E] of their loads.

    `variations`: how many random rings and packings are tried where the others fall short. With few
    scenarios more of them fit the scenarios, not the loads: 12 of them measured no better on
    hold-out scenarios than none. Other `candidates` are tried first. `progress` hears after
    each candidate which part of them all is done. ValueError for what `checked_load`,
    `checked_slots` refuse, and scenarios of another shape.
    """
    forecast = checked_load(load)
    slots = checked_slots(slots, forecast.shape[1])
    loads = np.asarray(scenarios, np.float64)
    if loads.ndim != 3 or loads.shape[1:] != forecast.shape or not len(loads):
        shape = ["1 or more", *forecast.shape]
        raise ValueError(f"scenarios of the shape {list(loads.shape)}, not {shape}")
    search = _Search(forecast, slots, loads)
    tries = [*map(given_start, candidates), *starts(slots, seed, variations)]
    for number, start in enumerate(tries):
        if not search.open_layers.size:
            break
        search.offer(start)
        if progress is not None:
            progress((number + 1) / len(tries))
    return search.plan()


class _Search:
    """The best graph of each layer so far."""

    def __init__(self, forecast: Floats, slots: Integers, scenarios: Floats) -> None:
        self.forecast, self.slots, self.scenarios = forecast, slots, scenarios
        layers = len(forecast)
        self.expert = np.full((layers, int(slots.sum())), -1, np.int64)
        self.expected = np.full(layers, -1.0)
        self.start = [""] * layers

    @property
    def open_layers(self) -> Integers:
        return np.flatnonzero(self.expected < GOOD_ENOUGH)

    def offer(self, start: Start) -> None:
        """Takes `start` in the layers that are open and that it makes better."""
        rows = {layer: start.place(self.forecast[layer], layer) for layer in self.open_layers}
        placed = {int(layer): row for layer, row in rows.items() if row is not None}
        if not placed:
            return
        layers, expert = np.array(list(placed)), np.stack(list(placed.values()))
        expected = self.value(layers, expert)
        better = expected > self.expected[layers]
        self.expert[layers[better]], self.expected[layers[better]] = (
            expert[better],
            expected[better],
        )
        for layer in layers[better]:
            self.start[layer] = start.name

    def value(self, layers: Integers, expert: Integers) -> Floats:
        map = ExpertMap.equal(self.forecast.shape[1], self.slots, expert)
        loads = self.scenarios[:, layers]
        least = self.expected[layers]
        split = resplit(map, loads, within=WITHIN, rounds=ROUNDS, exact=False, above=least)
        return split.expected

    def plan(self) -> RobustPlan:
        graph = ExpertMap.equal(self.forecast.shape[1], self.slots, self.expert)
        map = best_shares(graph, self.forecast)
        expected = resplit(map, self.scenarios).expected
        return RobustPlan(map, map.balancedness(self.forecast), expected, tuple(self.start))
