"""Whether a map of experts is a placement, and whether its loads are what was claimed.

Independent of the algorithms: it reads the map's arrays alone, with its own arithmetic.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from supertile.targets.placement.expert_map import ExpertMap, Floats

SHARES_WITHIN = 1e-12
LOADS_WITHIN = 1e-9
SHOWN = 20
"""Violations; more are counted."""


@dataclass(frozen=True)
class Claim:
    """What an algorithm says of a map, per layer."""

    largest: Floats
    """The largest load of a rank, [L]."""
    bound: Floats
    """No placement has a smaller one, [L]."""


def check_map(
    map: ExpertMap, load: Floats | None = None, claimed: Claim | None = None
) -> list[str]:
    """Violations in words, none where all is well; `load` [L, E] is needed for a claim."""
    found = list(_shapes(map))
    if found:
        return found
    violations = _placement(map)
    head = list(islice(violations, SHOWN))
    more = sum(1 for _ in violations)
    if head:
        return [*head, f"and {more} more"] if more else head
    if claimed is None:
        return []
    if load is None:
        raise ValueError("a claim is checked against loads")
    return list(_claims(map, load, claimed))


def _shapes(map: ExpertMap) -> Iterator[str]:
    slots, expert, share = map.slots, map.expert, map.share
    if slots.ndim != 1 or (slots < 1).any():
        yield "a rank has no slot"
    elif expert.ndim != 2 or expert.shape[1] != slots.sum():
        yield f"{slots.sum()} slots, but experts of the shape {list(expert.shape)}"
    elif share.shape != expert.shape:
        yield f"shares of the shape {list(share.shape)}, experts of {list(expert.shape)}"
    elif ((expert < -1) | (expert >= map.experts)).any():
        yield f"an expert in a slot is none of 0 to {map.experts - 1}"
    elif not np.isfinite(share).all():
        yield "a share is no number"


def _placement(map: ExpertMap) -> Iterator[str]:
    rank_of = [rank for rank, slots in enumerate(map.slots.tolist()) for _ in range(slots)]
    rows = zip(map.expert.tolist(), map.share.tolist(), strict=True)
    for layer, (experts, shares) in enumerate(rows):
        for text in _layer(rank_of, experts, shares, map.experts):
            yield f"layer {layer}: {text}"


def _layer(
    rank_of: list[int], experts: list[int], shares: list[float], count: int
) -> Iterator[str]:
    parts: list[list[float]] = [[] for _ in range(count)]
    for rank, expert, share in zip(rank_of, experts, shares, strict=True):
        if not 0 <= share <= 1 + SHARES_WITHIN:
            yield f"rank {rank} has a share of {share}"
        if expert >= 0:
            parts[expert].append(share)
        elif share != 0:
            yield f"an idle slot of rank {rank} has a share of {share}"
    for (rank, expert), times in Counter(zip(rank_of, experts, strict=True)).items():
        if expert >= 0 and times > 1:
            yield f"rank {rank} holds expert {expert} {times} times"
    for expert, part in enumerate(parts):
        if not part:
            yield f"expert {expert} has no slot"
        elif abs(math.fsum(part) - 1) > SHARES_WITHIN:
            yield f"the shares of expert {expert} add up to {math.fsum(part)!r}"


def _claims(map: ExpertMap, load: Floats, claimed: Claim) -> Iterator[str]:
    edges = [0, *np.cumsum(map.slots).tolist()]
    for layer, loads in enumerate(np.asarray(load, np.float64).tolist()):
        experts, shares = map.expert[layer].tolist(), map.share[layer].tolist()
        slots = [
            loads[expert] * share if expert >= 0 else 0.0
            for expert, share in zip(experts, shares, strict=True)
        ]
        ranks = [math.fsum(slots[a:b]) for a, b in pairwise(edges)]
        total, largest = math.fsum(loads), max(ranks)
        within = LOADS_WITHIN * (largest or 1.0)
        said, bound = float(claimed.largest[layer]), float(claimed.bound[layer])
        if abs(math.fsum(ranks) - total) > LOADS_WITHIN * total:
            yield f"layer {layer}: ranks have {math.fsum(ranks)!r} of a load of {total!r}"
        if abs(said - largest) > within:
            yield f"layer {layer}: the largest load is {largest!r}, not {said!r}"
        if bound > largest + within:
            yield f"layer {layer}: a load of {largest!r} is under the bound of {bound!r}"
        if bound < total / len(ranks) - within:
            yield f"layer {layer}: the bound of {bound!r} is under the mean load"
        if not _replicas_fit(loads, bound + within, len(experts)):
            yield f"layer {layer}: the bound of {bound!r} needs more than {len(experts)} slots"


def _replicas_fit(loads: list[float], limit: float, slots: int) -> bool:
    """Whether replicas of at most `limit` each are enough: below that, a bound is too low."""
    if limit <= 0:
        return not any(loads)
    return sum(max(1, math.ceil(load / limit)) for load in loads) <= slots
