"""The best shares of a batch over replicas that stay where they are, and what they are worth.

Serving can count a batch's tokens per expert before it dispatches them, and then split each expert
anew over its replicas. The best split has the largest rank load T = max over sets of experts A of
w(A) / |N(A)|, N(A) the ranks that hold a replica of one in A (Hall's condition; A of all experts
gives the mean load). A map of experts is so a bipartite graph, and robust placement looks for the
graph whose T stays near the mean in most batches.

`resplit` finds T for all layers and scenarios at once. It scales shares by rank loads ** -1.8 in
turn with making them add up to 1 (Sinkhorn's iteration, over-relaxed); the ranks in descending
order of load tell sets A to try. Both ends are certified: a feasible split from above, a set from
below. What stays apart is solved exactly by flows (`resplit_flow.py`).
Sizes: S scenarios, L layers, E experts, G ranks, P slots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import (
    ExpertMap,
    Floats,
    Integers,
    rank_starts,
    replicas,
)
from supertile.targets.placement.resplit_flow import ReplicaFlow

T = TypeVar("T", np.float64, np.int64)

RELAXATION = 1.8
"""Of the exponent; 1 is Sinkhorn's. From 2 on it does not converge."""
CHECKED_AFTER = (4, 8, 16, 32, 64, 128, 256)
"""Rounds after which layers that are solved leave."""
BLOCK = 2**17
"""Scenarios x layers x slots at a time: bounds memory, and suits caches."""
TINY = 1e-250
LEAST_SHARE = 1e-30
"""Shares stay above it while they are scaled, or rounding would make them zero for good."""


@dataclass(frozen=True)
class Resplit:
    """Shares per scenario and layer, and the least largest rank load between two bounds."""

    share: Floats
    """[S, L, P]: add up to 1 over the replicas of each expert."""
    upper: Floats
    """[S, L]: largest load of a rank under `share`."""
    lower: Floats
    """[S, L]: w(A) / |N(A)| of the experts A in `tight`, which no split undercuts."""
    tight: np.ndarray
    """[S, L, E]: bool."""
    mean: Floats
    """[S, L]: mean load of a rank."""

    @property
    def gap(self) -> Floats:
        """[S, L]: how far `upper` may be above the least, as a part of it."""
        return np.where(self.upper > self.lower, self.upper / np.maximum(self.lower, TINY) - 1, 0.0)

    @property
    def balancedness(self) -> Floats:
        """[S, L]: mean over largest load under `share`; 1 where a layer has no load."""
        return _ratio(self.mean, self.upper)

    @property
    def expected(self) -> Floats:
        """[L]: mean of `balancedness` over the scenarios."""
        return np.asarray(self.balancedness.mean(axis=0))


def resplit(
    map: ExpertMap,
    loads: Floats,
    *,
    within: float = 1e-3,
    rounds: int = 64,
    exact: bool = True,
    above: Floats | None = None,
) -> Resplit:
    """The best split of the loads [S, L, E] over the replicas of `map`.

    Scaling stops when all scenarios of a layer have a gap of at most `within`, or after `rounds`;
    or when its `expected` is certain not to get above `above` [L].
    If `exact`, flows solve the others to about 1e-6; else `gap` tells what is open. ValueError
    where an expert has a load and no replica, or the loads do not fit the map.
    """
    graph = ReplicaGraph(map)
    loads = graph.checked(loads)
    block = max(1, BLOCK // (len(loads) * map.expert.shape[1]))
    blocks = [np.arange(map.layers)[start : start + block] for start in range(0, map.layers, block)]
    least = np.zeros(map.layers) if above is None else above
    found = [
        _block(graph.layers(of), loads[:, of], least[of], within, rounds, exact) for of in blocks
    ]
    parts = zip(*((of.share, of.upper, of.lower, of.tight, of.mean) for of in found), strict=True)
    return Resplit(*(np.concatenate(part, axis=1) for part in parts))


def best_shares(map: ExpertMap, load: Floats, within: float = 1e-6) -> ExpertMap:
    """`map` with the shares that are best for the loads [L, E]."""
    return replace(map, share=resplit(map, load[None], within=within).share[0])


@dataclass(frozen=True)
class ReplicaGraph:
    """The replicas of a map, in the order of ranks and in that of experts, for sums over either."""

    map: ExpertMap

    @cached_property
    def held(self) -> np.ndarray:
        """[L, P]: bool, no idle slot."""
        return np.asarray(self.map.expert != IDLE)

    @cached_property
    def expert(self) -> Integers:
        """[L, P]: of each slot, idle slots with expert 0 (their share is 0)."""
        return np.where(self.held, self.map.expert, 0)

    @cached_property
    def flat(self) -> Integers:
        """[L * P]: layer * E + expert of each slot."""
        return (self.expert + self.map.experts * np.arange(self.map.layers)[:, None]).ravel()

    @cached_property
    def by_expert(self) -> Integers:
        """Indices into L * P, replicas of an expert one after the other; idle slots at expert 0."""
        return np.argsort(self.flat, kind="stable")

    @cached_property
    def expert_starts(self) -> Integers:
        """Where in `by_expert` each expert [L * E] starts."""
        return np.searchsorted(
            self.flat[self.by_expert], np.arange(self.map.layers * self.map.experts)
        )

    @cached_property
    def rank_starts(self) -> Integers:
        return rank_starts(self.map.slots)

    def checked(self, loads: Floats) -> Floats:
        loads = np.asarray(loads, np.float64)
        if loads.ndim != 3 or loads.shape[1:] != (self.map.layers, self.map.experts):
            size = f"{self.map.layers} layers of {self.map.experts} experts"
            raise ValueError(f"loads of the shape {list(loads.shape)} for {size}")
        if not np.isfinite(loads).all() or (loads < 0).any():
            raise ValueError("a load is negative or no number")
        if (self.map.slots < 1).any():
            raise ValueError("a rank has no slot")
        missing = replicas(self.map.expert, self.map.experts) == 0
        if missing.any():
            layer, expert = np.argwhere(missing)[0]
            raise ValueError(f"expert {expert} of layer {layer} is in no slot")
        return loads

    def layers(self, which: Integers) -> ReplicaGraph:
        expert, share = self.map.expert[which], self.map.share[which]
        return ReplicaGraph(replace(self.map, expert=expert, share=share))

    def slots(self, values: Floats) -> Floats:
        """[S, L, P] of [S, L, E]."""
        shape = (len(values), self.map.layers, -1)
        return values.reshape(len(values), -1)[:, self.flat].reshape(shape)

    def expert_sums(self, values: Floats) -> Floats:
        """[S, L, E] of [S, L, P]."""
        sorted_values = values.reshape(len(values), -1)[:, self.by_expert]
        sums = np.add.reduceat(sorted_values, self.expert_starts, axis=1)
        return np.asarray(sums.reshape(len(values), self.map.layers, self.map.experts))

    def rank_sums(self, values: Floats) -> Floats:
        """[S, L, G] of [S, L, P]."""
        slots = self.map.slots
        if (slots == slots[0]).all():
            split = values.reshape(*values.shape[:2], len(slots), -1)
            sums = split[..., 0].copy()
            for place in range(1, split.shape[3]):  # a sum over so short an axis takes much longer
                sums += split[..., place]
            return sums
        return np.add.reduceat(values, self.rank_starts, axis=2)

    def of_ranks(self, values: NDArray[T]) -> NDArray[T]:
        """[S, L, P] of [S, L, G]."""
        return np.repeat(values, self.map.slots, axis=2)


def _block(
    graph: ReplicaGraph, loads: Floats, above: Floats, within: float, rounds: int, exact: bool
) -> Resplit:
    found = _scaled(graph, loads, above, within, rounds)
    return _solved(graph, loads, found, within) if exact else found


def _scaled(
    graph: ReplicaGraph, loads: Floats, above: Floats, within: float, rounds: int
) -> Resplit:
    """Scaling; layers leave when all of their scenarios are solved, or cannot get above `above`."""
    map = graph.map
    scenarios, ranks = len(loads), map.ranks
    shape = (scenarios, map.layers)
    share = np.broadcast_to(graph.held / _counts(graph), (scenarios, *map.expert.shape)).copy()
    mean = loads.sum(axis=2) / ranks
    upper, lower = np.full(shape, np.inf), mean.copy()
    tight = np.ones((*shape, map.experts), bool)
    open_layers, part, current, weights = np.arange(map.layers), graph, share, loads
    for round in range(rounds + 1):
        ranked = part.rank_sums(current * part.slots(weights))
        if round in CHECKED_AFTER or round == rounds:
            _keep(part, weights, ranked, current, open_layers, (share, upper, lower, tight))
            apart = upper[:, open_layers] > lower[:, open_layers] * (1 + within)
            most = _ratio(mean[:, open_layers], lower[:, open_layers]).mean(axis=0)
            stays = apart.any(axis=0) & (most > above[open_layers])
            if round == rounds or not stays.any():
                break
            if not stays.all():
                open_layers = open_layers[stays]
                part, current = graph.layers(open_layers), current[:, stays]
                weights, ranked = weights[:, stays], ranked[:, stays]
        current = _step(part, current, ranked, mean[:, open_layers])
    return Resplit(share, upper, lower, tight, mean)


def _counts(graph: ReplicaGraph) -> Integers:
    """[L, P]: replicas of the expert in each slot."""
    counts = replicas(graph.map.expert, graph.map.experts)
    return np.take_along_axis(counts, graph.expert, axis=1)


def _step(graph: ReplicaGraph, share: Floats, ranked: Floats, mean: Floats) -> Floats:
    relative = ranked / np.maximum(mean, TINY)[:, :, None]
    factor = np.clip(relative, 1e-6, 1e6) ** -RELAXATION
    moved = np.where(graph.held, np.maximum(share * graph.of_ranks(factor), LEAST_SHARE), 0.0)
    return np.asarray(moved / graph.slots(graph.expert_sums(moved)))


def _keep(
    graph: ReplicaGraph,
    loads: Floats,
    ranked: Floats,
    share: Floats,
    layers: Integers,
    best: tuple[Floats, Floats, Floats, np.ndarray],
) -> None:
    """Into `best` (share, upper, lower, tight of all layers) what is better of these `layers`."""
    shares, upper, lower, tight = best
    largest = ranked.max(axis=2)
    scenario, layer = np.nonzero(largest < upper[:, layers])
    upper[scenario, layers[layer]] = largest[scenario, layer]
    shares[scenario, layers[layer]] = share[scenario, layer]
    least, inside = _hall(graph, loads, ranked)
    scenario, layer = np.nonzero(least > lower[:, layers])
    lower[scenario, layers[layer]] = least[scenario, layer]
    tight[scenario, layers[layer]] = inside[scenario, layer]


def _hall(graph: ReplicaGraph, loads: Floats, ranked: Floats) -> tuple[Floats, np.ndarray]:
    """The best bound [S, L] and its experts [S, L, E], of the sets A(k): all experts with replicas
    on the k fullest ranks alone. w(A(k)) / k bounds from below, as |N(A(k))| is at most k."""
    scenarios, layers, ranks = ranked.shape
    order = np.argsort(-ranked, axis=2, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(ranks), order.shape), axis=2)
    placed = np.where(graph.held, graph.of_ranks(place), -1).reshape(scenarios, -1)
    last = np.maximum.reduceat(placed[:, graph.by_expert], graph.expert_starts, axis=1)
    last = last.reshape(scenarios, layers, -1)
    rows = ranks * np.arange(scenarios * layers).reshape(scenarios, layers, 1)
    inside = np.bincount((last + rows).ravel(), loads.ravel(), scenarios * layers * ranks)
    bounds = inside.reshape(ranked.shape).cumsum(axis=2) / np.arange(1, ranks + 1)
    best = bounds.argmax(axis=2)
    value = np.take_along_axis(bounds, best[:, :, None], axis=2)[:, :, 0]
    return value, last <= best[:, :, None]


def _solved(graph: ReplicaGraph, loads: Floats, found: Resplit, within: float) -> Resplit:
    """With what is apart by more than `within` solved by flows."""
    apart = found.upper > found.lower * (1 + within)
    share, upper, lower = found.share.copy(), found.upper.copy(), found.lower.copy()
    tight = found.tight.copy()
    for layer in np.flatnonzero(apart.any(axis=0)):
        map = graph.map
        flow = ReplicaFlow(map.experts, map.ranks, map.expert[layer], map.rank)
        for scenario in np.flatnonzero(apart[:, layer]):
            at = (scenario, layer)
            solution = flow.solve(loads[at], lower[at], tight[at])
            lower[at], tight[at] = solution.lower, solution.tight
            if solution.upper < upper[at]:
                share[at], upper[at] = solution.share, solution.upper
    return Resplit(share, upper, lower, tight, found.mean)


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), 1.0)
