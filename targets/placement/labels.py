"""Which device a rank of a placement is: balance does not depend on it, so it is free to choose.

Ranks of a layer exchange their experts so that

- replicas of an expert sit in different domains (nodes, racks, ...): one failure spares one of
  them, and more sources have a replica in their own domain;
- as far as that leaves a choice, experts that tokens choose together sit in one domain, so that
  a token goes to fewer of them.

Both are sums over pairs of ranks in one domain, so exchanges are judged alike: the attraction of
what a rank holds to each domain is kept, and each rank in turn takes its best exchange, in all
layers at once. Ranks of different slots never exchange.
Sizes: L layers, E experts, G ranks, P slots, D domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supertile.ir import portable_math
from supertile.ir.placement import IDLE
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers, rank_starts

SWEEPS = 2
LARGEST_SWEEP = 512
"""Ranks that may take an exchange in a sweep, of more by chance: bounds the time."""
LEAST_GAIN = 1e-12


@dataclass(frozen=True)
class Locality:
    """How the replicas of a map lie in domains of one size, means over the layers."""

    domain: int
    """Ranks of a domain."""
    in_one: float
    """Share of the experts with two replicas or more that have all of them in one domain."""
    near: float
    """Share of (source rank, expert) that have a replica in the source's domain."""
    together: float | None
    """Probability that two experts of a token are served in one domain; None without pairs."""

    def domains_per_token(self, top_k: int) -> tuple[float, float]:
        """Bounds (Bonferroni's) of how many domains a token of `top_k` experts goes to."""
        pairs = (self.together or 0.0) * top_k * (top_k - 1) / 2
        return max(1.0, top_k - pairs), top_k - 2 * pairs / top_k


@dataclass(frozen=True)
class Labelled:
    map: ExpertMap
    before: tuple[Locality, ...]
    """Per domain size, as `after`."""
    after: tuple[Locality, ...]


def label_ranks(
    map: ExpertMap, domains: Sequence[int], pairs: ArrayLike | None = None, seed: int = 0
) -> Labelled:
    """`map` with its ranks in another order, one of its own in each layer.

    `domains`: how many ranks each domain has, nested, from the inside, as (8, 64): rank r is in the
    domain r // size; none where all ranks are in one, and any order is as good. `pairs` [L, E, E]:
    how many tokens chose both experts. ValueError for sizes that are not nested, and pairs of
    another shape, negative or no numbers.
    """
    sizes = _checked_sizes(domains, map.ranks)
    chosen = _checked_pairs(pairs, map)
    if not sizes:
        return Labelled(map, (), ())
    state = _Exchanges(map, sizes, chosen)
    random = np.random.default_rng(seed)
    for _ in range(SWEEPS):
        swept = min(map.ranks, LARGEST_SWEEP)
        order = random.permuted(np.tile(np.arange(map.ranks), (map.layers, 1)), axis=1)
        for ranks in order[:, :swept].T:
            state.take_best(ranks)
    found = ExpertMap(map.experts, map.slots, state.expert, state.share)
    before, after = (tuple(locality(of, size, chosen) for size in sizes) for of in (map, found))
    return Labelled(found, before, after)


def locality(map: ExpertMap, domain: int, pairs: Floats | None = None) -> Locality:
    """Of the domains of `domain` ranks; `pairs` [L, E, E] add up to 1 in each layer."""
    held = map.expert != IDLE
    count = _in_domains(map, held.astype(np.float64), map.rank // domain)
    here, several = (count > 0).sum(axis=2), count.sum(axis=2) > 1
    ranks = np.bincount(np.arange(map.ranks) // domain)
    near = ((count > 0) * ranks).sum(axis=2) / map.ranks
    in_one = float((several & (here == 1)).sum() / max(1, several.sum()))
    together = None
    if pairs is not None:
        served = _in_domains(map, map.share, map.rank // domain)
        of_layers = [
            (of * portable_math.product(chosen, of)).sum()
            for of, chosen in zip(served, pairs, strict=True)
        ]
        together = float(np.mean(of_layers))
    return Locality(domain, in_one, float(near.mean()), together)


def _in_domains(map: ExpertMap, values: Floats, domain: Integers) -> Floats:
    """[L, E, D]: sums over the slots [L, P] of each expert in each domain, of `domain` [P]."""
    domains = int(domain.max()) + 1
    rows = map.experts * np.arange(map.layers)[:, None] + np.maximum(map.expert, 0)
    shape = (map.layers, map.experts, domains)
    weights = np.where(map.expert == IDLE, 0.0, values)
    sums = np.bincount((rows * domains + domain).ravel(), weights.ravel(), int(np.prod(shape)))
    return sums.astype(np.float64).reshape(shape)


class _Exchanges:
    """Experts and shares by slot while ranks exchange them; the worth of domains to experts."""

    def __init__(self, map: ExpertMap, sizes: Sequence[int], pairs: Floats | None) -> None:
        self.map, self.pairs = map, pairs
        self.expert, self.share = map.expert.copy(), map.share.copy()
        self.every = np.arange(map.layers)
        self.starts = rank_starts(map.slots)
        self.domains = [np.arange(map.ranks) // size for size in sizes]
        held = (map.expert != IDLE).astype(np.float64)
        # An exchange changes the sum over pairs by 2 at most per level: replicas come before that.
        self.apart = 2.0 * len(sizes) + 1 if pairs is not None else 1.0
        self.count = [_in_domains(map, held, of[map.rank]) for of in self.domains]
        self.chosen = []
        if pairs is not None:
            served = (_in_domains(map, map.share, of[map.rank]) for of in self.domains)
            self.chosen = [portable_math.product(pairs, of_domain) for of_domain in served]
        self.itself = self._itself()

    def take_best(self, ranks: Integers) -> None:
        """The exchange of what `ranks` [L] hold that is best in each layer, where there is one."""
        layers = np.flatnonzero(self._may_gain(ranks))
        if not layers.size:
            return
        gain = self._gains(layers, ranks[layers])
        other = gain.argmax(axis=1)
        better = gain[np.arange(len(layers)), other] > LEAST_GAIN
        if better.any():
            layers = layers[better]
            self._exchange(layers, ranks[layers], other[better])

    def _may_gain(self, ranks: Integers) -> NDArray[np.bool_]:
        """[L]: whether to look for an exchange. Without pairs only replicas that share a domain
        with another of their expert are to go, and each has its turn."""
        if self.pairs is not None:
            return np.ones(len(ranks), bool)
        expert, held, _ = self._of_slots(self.every, ranks)
        rows = self.every[:, None], expert
        inside = [
            self.count[level][(*rows, domain[ranks][:, None])]
            for level, domain in enumerate(self.domains)
        ]
        return np.asarray((np.stack(inside) * held > 1).any(axis=(0, 2)))

    def _gains(self, layers: Integers, ranks: Integers) -> Floats:
        """[N, G]: of exchanging `ranks` [N] of `layers` [N] with each rank."""
        between = self._between(layers, ranks)
        gain = np.zeros(between.shape)
        for level, domain in enumerate(self.domains):
            here = domain[ranks][:, None]
            to_theirs = self._attraction_of(layers, ranks, level)[:, domain]
            to_ours = self._attraction_to(layers, level, here)
            at_home = (
                self._attraction_to(layers, level, domain[self.map.rank]) - self.itself[layers]
            )
            moved = to_theirs + to_ours - at_home - np.take_along_axis(at_home, ranks[:, None], 1)
            gain += np.where(domain != here, moved - 2 * between, 0.0)
        slots = self.map.slots
        return np.where(slots == slots[ranks][:, None], gain, -np.inf)

    def _held(self, expert: Integers) -> tuple[Integers, Floats]:
        return np.maximum(expert, 0), (expert != IDLE).astype(np.float64)

    def _of_slots(self, layers: Integers, ranks: Integers) -> tuple[Integers, Floats, Floats]:
        """(expert, held, share) [N, most slots] of `ranks` [N] of `layers` [N]."""
        offset = np.arange(int(self.map.slots.max()))
        inside = offset < self.map.slots[ranks][:, None]
        slot = np.where(inside, self.starts[ranks][:, None] + offset, 0)
        expert, held = self._held(self.expert[layers[:, None], slot])
        return expert, held * inside, self.share[layers[:, None], slot] * inside

    def _attraction_of(self, layers: Integers, ranks: Integers, level: int) -> Floats:
        """[N, D]: of what `ranks` [N] hold to each domain."""
        expert, held, share = self._of_slots(layers, ranks)
        rows = layers[:, None], expert
        worth = -self.apart * (held[:, :, None] * self.count[level][rows]).sum(axis=1)
        if self.pairs is not None:
            worth += (share[:, :, None] * self.chosen[level][rows]).sum(axis=1)
        return np.asarray(worth)

    def _attraction_to(self, layers: Integers, level: int, domain: Integers) -> Floats:
        """[N, G]: of what each rank holds to the domain given for its slots [N or 1, P]."""
        expert, held = self._held(self.expert[layers])
        at = layers[:, None], expert, domain
        worth = -self.apart * held * self.count[level][at]
        if self.pairs is not None:
            worth += self.share[layers] * self.chosen[level][at]
        return np.add.reduceat(worth, self.starts, axis=1)

    def _between(self, layers: Integers, ranks: Integers) -> Floats:
        """[N, G]: the attraction of what `ranks` [N] hold to what each rank holds."""
        own, own_held, own_share = self._of_slots(layers, ranks)
        expert, held = self._held(self.expert[layers])
        worth = np.zeros(expert.shape)
        for slot in range(own.shape[1]):
            same = own[:, slot, None] == expert
            worth -= self.apart * held * own_held[:, slot, None] * same
            if self.pairs is not None:
                chosen = self.pairs[layers[:, None], own[:, slot, None], expert]
                worth += own_share[:, slot, None] * self.share[layers] * chosen
        return np.add.reduceat(worth, self.starts, axis=1)

    def _itself(self) -> Floats:
        """[L, G]: the attraction of what a rank holds to itself."""
        expert, held = self._held(self.expert)
        worth = -self.apart * held
        if self.pairs is not None:
            worth = worth + self._within(expert)
        return np.add.reduceat(worth, self.starts, axis=1)

    def _within(self, expert: Integers) -> Floats:
        """[L, P]: pairs of a slot's expert with all of its rank's."""
        worth = np.zeros(expert.shape)
        assert self.pairs is not None
        for offset in range(int(self.map.slots.max())):
            inside = offset < self.map.slots[self.map.rank]
            slot = np.where(inside, self.starts[self.map.rank] + offset, 0)
            chosen = self.pairs[self.every[:, None], expert, expert[:, slot]]
            worth += self.share * self.share[:, slot] * inside * chosen
        return worth

    def _exchange(self, layers: Integers, ranks: Integers, others: Integers) -> None:
        mine, theirs = (self._of_slots(layers, of) for of in (ranks, others))
        for level, domain in enumerate(self.domains):
            self._move(level, layers, mine, domain[ranks], domain[others])
            self._move(level, layers, theirs, domain[others], domain[ranks])
        for layer, rank, other in zip(layers, ranks, others, strict=True):
            self.itself[layer, [rank, other]] = self.itself[layer, [other, rank]]
            size = self.map.slots[rank]
            a, b = (np.arange(size) + self.starts[of] for of in (rank, other))
            for values in (self.expert[layer], self.share[layer]):
                values[a], values[b] = values[b], values[a].copy()

    def _move(
        self,
        level: int,
        layers: Integers,
        moved: tuple[Integers, Floats, Floats],
        source: Integers,
        target: Integers,
    ) -> None:
        """The slots `moved` of `layers` from the domains `source` to `target`, as to worth."""
        expert, held, share = moved
        for slot in range(expert.shape[1]):
            of, amount = expert[:, slot], held[:, slot]
            self.count[level][layers, of, source] -= amount
            self.count[level][layers, of, target] += amount
            if self.pairs is None:
                continue
            chosen = share[:, slot, None] * self.pairs[layers, :, of]
            self.chosen[level][layers, :, source] -= chosen
            self.chosen[level][layers, :, target] += chosen


def _checked_sizes(domains: Sequence[int], ranks: int) -> list[int]:
    sizes = [int(size) for size in domains]
    for inner, outer in zip([1, *sizes], sizes, strict=False):
        if outer < 1 or outer % inner:
            raise ValueError(f"domains of {outer} ranks are not made of domains of {inner}")
    return [min(size, ranks) for size in sizes]


def _checked_pairs(pairs: ArrayLike | None, map: ExpertMap) -> Floats | None:
    """Symmetric, without pairs of an expert and itself, adding up to 1 in each layer."""
    if pairs is None:
        return None
    found = np.asarray(pairs, np.float64)
    if found.shape != (map.layers, map.experts, map.experts):
        size = f"{map.layers} layers of {map.experts} experts"
        raise ValueError(f"pairs of the shape {list(found.shape)} for {size}")
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError("a count of pairs is negative or no number")
    found = found + found.transpose(0, 2, 1)
    found[:, np.arange(map.experts), np.arange(map.experts)] = 0
    total = found.sum(axis=(1, 2), keepdims=True)
    return np.asarray(np.divide(found, total, out=np.zeros(found.shape), where=total > 0))
