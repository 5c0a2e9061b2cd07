"""From the placement that is served now to a better one, with few experts moved.

First the wanted ranks take the labels under which they share most with the current ones, and
experts that stay keep their slots: what is left are the moves that the wanted placement costs. If
they are too many, two ways of stopping early are tried, and each layer takes the best point within
the limit:

- part of the way to the wanted placement, in order of gain: the next replicas go to ranks that are
  least loaded, of experts on ranks that are most loaded;
- replicas that the wanted placement does not have, one at a time, where they relieve most
  (`relief.py`): the better way for a few moves.

Neither way looks at the limit, so a larger limit never makes a layer worse. Without a move, shares
alone change. Sizes: S scenarios, L layers, E experts, G ranks, P slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts
from supertile.targets.placement.relief import best_replacement
from supertile.targets.placement.resplit import ReplicaGraph, Resplit, best_shares, resplit

WITHIN = 1e-3
ROUNDS = 32
RELIEF_STEPS = 48
"""Most replicas a layer sets up besides the way to the wanted placement."""
GROWTH = 4
"""Of n moves made, n // 4 follow before loads are looked at again."""
GAIN = 1e-9


class Move(NamedTuple):
    """The weights of an expert of a layer go from one slot of a rank to another."""

    layer: int
    from_rank: int
    from_slot: int
    to_rank: int
    to_slot: int
    expert: int


@dataclass(frozen=True)
class Migration:
    map: ExpertMap
    moves: tuple[Move, ...]
    moved_bytes: int
    expected: Floats
    """[L]: mean balancedness over the scenarios, shares split anew in each."""


class _Point(NamedTuple):
    """Experts [P] of a layer after so many moves, and what they are worth."""

    moves: int
    expert: Integers
    value: float


def migrate(
    current: ExpertMap,
    wanted: ExpertMap,
    scenarios: ArrayLike,
    *,
    expert_bytes: int,
    most_per_layer: int | None = None,
    most: int | None = None,
) -> Migration:
    """The best placement found with at most so many experts moved, per layer and in all.

    Judged by the mean balancedness over the scenarios [S, L, E]. Without limits it is `wanted`,
    shares too, with its ranks in another order. `expert_bytes`: weights of one expert of one layer.
    ValueError where the maps differ in layers, experts or slots, or for a negative limit.
    """
    _check(current, wanted, most_per_layer, most)
    loads = ReplicaGraph(current).checked(np.asarray(scenarios, np.float64))
    target = relabelled(current, wanted)
    if most is None and most_per_layer is None:
        expert = target.expert
    else:
        layer_limit = min(of for of in (most_per_layer, most) if of is not None)
        points = _points(current, target, loads, layer_limit)
        expert = _chosen(points, most)
    map = best_shares(replace(current, expert=expert, share=_equal(current, expert)), loads.mean(0))
    reached = (expert == target.expert).all(axis=1)
    map = replace(map, share=np.where(reached[:, None], target.share, map.share))
    moves = tuple(_moves(current, map))
    return Migration(map, moves, len(moves) * expert_bytes, resplit(map, loads).expected)


def relabelled(current: ExpertMap, wanted: ExpertMap) -> ExpertMap:
    """`wanted` with its ranks, and the slots of each, in the order that keeps most of `current`."""
    expert, share = np.empty_like(wanted.expert), np.empty_like(wanted.share)
    starts = rank_starts(current.slots)
    for layer in range(current.layers):
        source = _assignment(current, wanted, layer)
        for rank, other in enumerate(source.tolist()):
            count = int(current.slots[rank])
            here = slice(starts[rank], starts[rank] + count)
            there = slice(starts[other], starts[other] + count)
            order = _kept(current.expert[layer, here], wanted.expert[layer, there])
            expert[layer, here] = wanted.expert[layer, there][order]
            share[layer, here] = wanted.share[layer, there][order]
    return replace(wanted, expert=expert, share=share)


def _assignment(current: ExpertMap, wanted: ExpertMap, layer: int) -> Integers:
    """[G]: the rank of `wanted` for each rank of `current`, of as many slots."""
    from scipy.optimize import linear_sum_assignment

    holds = [np.zeros((current.ranks, current.experts), np.float32) for _ in range(2)]
    for of, expert in zip(holds, (current.expert[layer], wanted.expert[layer]), strict=True):
        held = expert != IDLE
        of[current.rank[held], expert[held]] = 1
    overlap = holds[0] @ holds[1].T  # exact: whole numbers
    unlike = current.slots[:, None] != current.slots
    _, source = linear_sum_assignment(np.where(unlike, -1e6, overlap), maximize=True)
    return np.asarray(source, np.int64)


def _kept(old: Integers, new: Integers) -> list[int]:
    """The order of `new` in which what is in `old` too keeps its place; the rest in between."""
    places = {expert: place for place, expert in enumerate(new.tolist()) if expert != IDLE}
    order = [places.pop(expert, -1) for expert in old.tolist()]
    taken = set(order)
    rest = iter([place for place in range(len(new)) if place not in taken])
    return [next(rest) if place < 0 else place for place in order]


def _points(current: ExpertMap, target: ExpertMap, loads: Floats, limit: int) -> list[list[_Point]]:
    """Of each layer: where it may stop, first where it stands."""
    found: list[list[_Point]] = [[] for _ in range(current.layers)]
    for way in (_Towards(current, target), _Relief(current)):
        layers = np.arange(current.layers)
        while layers.size:
            split = resplit(way.map(layers), loads[:, layers], within=WITHIN, rounds=ROUNDS)
            for at, layer in enumerate(layers.tolist()):
                value = float(split.expected[at])
                found[layer].append(_Point(way.made[layer], way.expert[layer].copy(), value))
            layers = np.array(
                [
                    layer
                    for at, layer in enumerate(layers.tolist())
                    if way.go(split, loads, at, layer)
                ],
                np.int64,
            )
            layers = layers[np.array([way.made[layer] <= limit for layer in layers], bool)]
    return found


class _Way:
    """Experts [L, P] on the way, and how many moves made them, per layer."""

    def __init__(self, current: ExpertMap) -> None:
        self.current = current
        self.expert = current.expert.copy()
        self.made = [0] * current.layers

    def map(self, layers: Integers) -> ExpertMap:
        expert = self.expert[layers]
        return ExpertMap.equal(self.current.experts, self.current.slots, expert)


class _Towards(_Way):
    """The way to the wanted placement."""

    def __init__(self, current: ExpertMap, target: ExpertMap) -> None:
        super().__init__(current)
        self.target = target

    def go(self, split: Resplit, loads: Floats, at: int, layer: int) -> bool:
        """Makes the next moves of a layer, whose split is at `at`; whether there were any."""
        expert, wanted = self.expert[layer], self.target.expert[layer]
        open_slots = np.flatnonzero((expert != wanted) & (wanted != IDLE))
        if not open_slots.size:
            done = bool((expert == wanted).all())
            self.expert[layer] = wanted
            return not done
        pressure, ranked = self._pressure(split.share[:, at], loads[:, layer], expert)
        gain = pressure[wanted[open_slots]] - ranked[self.current.rank[open_slots]]
        pending = open_slots[np.argsort(-gain, kind="stable")].tolist()
        counts = np.bincount(expert[expert != IDLE], minlength=self.current.experts)
        goal = self.made[layer] + max(1, self.made[layer] // GROWTH)
        for slot in pending:
            if self.made[layer] >= goal:
                break
            self._fill(layer, slot, counts)
        return True

    def _pressure(self, share: Floats, load: Floats, expert: Integers) -> tuple[Floats, Floats]:
        """(load of the fullest rank of each expert [E], load of each rank [G]), means of [S, P]."""
        held = np.flatnonzero(expert != IDLE)
        rank = self.current.rank[held]
        slot_load = (share[:, held] * load[:, expert[held]]).mean(axis=0)
        ranked = np.bincount(rank, slot_load, self.current.ranks).astype(np.float64)
        pressure = np.zeros(self.current.experts)
        np.maximum.at(pressure, expert[held], ranked[rank])
        return pressure, ranked

    def _fill(self, layer: int, slot: int, counts: Integers) -> None:
        """The wanted expert into `slot`; where that takes another's last place, that one's wanted
        slot is filled too, and so on."""
        expert, wanted = self.expert[layer], self.target.expert[layer]
        while expert[slot] != wanted[slot]:
            lost, placed = int(expert[slot]), int(wanted[slot])
            expert[slot] = placed
            counts[placed] += 1
            self.made[layer] += 1
            if lost == IDLE:
                return
            counts[lost] -= 1
            if counts[lost]:
                return
            slot = int(np.argmax((wanted == lost) & (expert != lost)))


class _Relief(_Way):
    """Single replicas that relieve the experts that are tight, one a step."""

    def __init__(self, current: ExpertMap) -> None:
        super().__init__(current)
        self.steps = [0] * current.layers

    def go(self, split: Resplit, loads: Floats, at: int, layer: int) -> bool:
        if self.steps[layer] == RELIEF_STEPS:
            return False
        self.steps[layer] += 1
        found = best_replacement(
            self.expert[layer],
            self.current.rank,
            loads[:, layer],
            split.tight[:, at],
            split.share[:, at],
        )
        if found is None:
            return False
        slot, expert = found
        self.expert[layer, slot] = expert
        self.made[layer] = int((self.expert[layer] != self.current.expert[layer]).sum())
        return True


def _chosen(points: list[list[_Point]], most: int | None) -> Integers:
    """[L, P]: the best point of each layer; all within `most` moves.

    Layers step from point to point of their upper hull (value over moves), steepest steps first,
    up to the first that does not fit, which is made in part. A larger limit takes the same steps
    and more.
    """
    hulls = [_hull(of) for of in points]
    if most is None:
        return np.stack([hull[-1].expert for hull in hulls])
    steps = sorted(
        (-(after.value - before.value) / max(after.moves - before.moves, 1), layer, index)
        for layer, hull in enumerate(hulls)
        for index, (before, after) in enumerate(pairwise(hull))
    )
    reached, left = [hull[0] for hull in hulls], most
    for _, layer, index in steps:
        before, after = hulls[layer][index : index + 2]
        if after.moves - before.moves > left:
            reached[layer] = _best(points[layer], before.moves + left)
            break
        left -= after.moves - before.moves
        reached[layer] = after
    return np.stack([point.expert for point in reached])


def _best(points: list[_Point], moves: int) -> _Point:
    return max((of for of in points if of.moves <= moves), key=lambda of: (of.value, -of.moves))


def _hull(points: list[_Point]) -> list[_Point]:
    """The points that no mix of others beats, ascending in moves and value; fewest moves first."""
    hull: list[_Point] = []
    for point in sorted(points, key=lambda of: (of.moves, -of.value)):
        if hull and point.value <= hull[-1].value + GAIN:
            continue
        while len(hull) > 1 and _slope(hull[-1], point) >= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(point)
    return hull


def _slope(before: _Point, after: _Point) -> float:
    return (after.value - before.value) / max(after.moves - before.moves, 1e-9)


def _moves(current: ExpertMap, map: ExpertMap) -> Iterator[Move]:
    """What each slot takes in, from the nearest rank that held it (the smaller one of two)."""
    starts = rank_starts(current.slots)
    changed = (map.expert != current.expert) & (map.expert != IDLE)
    for layer, slot in np.argwhere(changed).tolist():
        expert, rank = int(map.expert[layer, slot]), int(current.rank[slot])
        sources = np.flatnonzero(current.expert[layer] == expert)
        source = int(sources[np.argmin(np.abs(current.rank[sources] - rank))])
        origin = int(current.rank[source])
        from_slot, to_slot = source - int(starts[origin]), slot - int(starts[rank])
        yield Move(layer, origin, from_slot, rank, to_slot, expert)


def _equal(map: ExpertMap, expert: Integers) -> Floats:
    return ExpertMap.equal(map.experts, map.slots, expert).share


def _check(
    current: ExpertMap, wanted: ExpertMap, most_per_layer: int | None, most: int | None
) -> None:
    if current.experts != wanted.experts or current.expert.shape != wanted.expert.shape:
        raise ValueError("the maps differ in layers, experts or slots")
    if not np.array_equal(current.slots, wanted.slots):
        raise ValueError("the maps differ in the slots of ranks")
    for limit in (most_per_layer, most):
        if limit is not None and limit < 0:
            raise ValueError(f"a limit of {limit} moves, not 0 or more")
