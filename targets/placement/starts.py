"""Candidates for robust placements, one after the other: what is known to be good, then variations.

A candidate is a rule that places the experts of one layer, so that layers that need no better one
take no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from supertile.ir import portable_math
from supertile.ir.placement import IDLE
from supertile.targets.placement.counts import more_replicas
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts
from supertile.targets.placement.packing import pack
from supertile.targets.placement.rings import CountRule, ring_layer
from supertile.targets.placement.weighted import weighted_map

Place = Callable[[Floats, int], Integers | None]
"""[P] of the load [E] of a layer and its index: experts by slot; None where the rule does not fit.
"""
RULES = (
    CountRule(1.0, 1.0),
    CountRule(0.75, 1.6),
    CountRule(0.75, 1.3),
    CountRule(1.0, 1.6),
    CountRule(0.5, 2.0),
)
RING_NOISE = 4
PACKING_NOISE = 0.2
"""Sigma of the log-normal factors of loads in packings after the first."""


@dataclass(frozen=True)
class Start:
    name: str
    place: Place


def starts(slots: Integers, seed: int, variations: int) -> Iterator[Start]:
    """Rings, packed by EPLB's rules, alias tables, then `variations` of rings and packings each."""
    for number, rule in enumerate(RULES):
        yield ring_start(slots, rule, seed, number, 0)
    yield Start("packed", lambda load, layer: packed_layer(load, slots))
    yield Start("alias", lambda load, layer: weighted_map(load[None], slots).expert[0])
    for number in range(variations):
        rule = RULES[number % len(RULES)]
        yield ring_start(slots, rule, seed, len(RULES) + number, RING_NOISE)
        yield noisy_start(slots, seed, number)


def given_start(map: ExpertMap) -> Start:
    return Start("given", lambda load, layer: map.expert[layer])


def ring_start(slots: Integers, rule: CountRule, seed: int, number: int, noise: int) -> Start:
    def place(load: Floats, layer: int) -> Integers | None:
        return ring_layer(load, slots, rule, np.random.default_rng([seed, 0, number, layer]), noise)

    return Start("ring", place)


def noisy_start(slots: Integers, seed: int, number: int) -> Start:
    def place(load: Floats, layer: int) -> Integers:
        random = np.random.default_rng([seed, 1, number, layer])
        return packed_layer(
            load * portable_math.exp(PACKING_NOISE * random.standard_normal(len(load))), slots
        )

    return Start("noisy packing", place)


def packed_layer(load: Floats, slots: Integers) -> Integers:
    """[P]: replicas one at a time to the largest load per replica, then longest first onto ranks:
    EPLB's rules, without twins and for any slots."""
    experts = len(load)
    useful = np.minimum(slots, experts)
    ones = np.ones(experts, np.int64)
    counts = more_replicas(load, ones, int(useful.sum()), len(slots))
    expert, rank = pack(load, counts, useful)
    starts = rank_starts(slots)
    order = np.argsort(rank, kind="stable")
    expert, rank = expert[order], rank[order]
    found = np.full(int(slots.sum()), IDLE, np.int64)
    found[starts[rank] + np.arange(len(rank)) - np.searchsorted(rank, rank)] = expert
    return found
