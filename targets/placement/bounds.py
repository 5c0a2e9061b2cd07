"""How good a placement can be: the least possible largest load of a rank, layer by layer.

Sizes: L layers, E experts with loads w_e (sum W), G ranks with s_g slots, R slots in all, and
K = R - E slots for further replicas. T is the largest load of a rank. All bounds hold for weighted
shares, hence for equal ones. A rank's slots past E never help, so s_g counts up to E.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.inputs import checked_load, checked_slots

Truths = NDArray[np.bool_]

BISECTIONS = 60
"""More than the bits of a float64's fraction."""


def placement_bound(load: ArrayLike, slots: ArrayLike) -> Floats:
    """[L]: no shares and no placement have a smaller largest load: the largest of four bounds.

    The mean: G ranks of load T or less hold W, so T >= W / G. The others: `replica_bound`,
    `host_bound`, `whole_bound`.
    """
    loads = checked_load(load)
    held = np.minimum(checked_slots(slots, loads.shape[1]), loads.shape[1])
    found: Floats = np.maximum(worth_bound(loads, held), replica_bound(loads, int(held.sum())))
    return found


def worth_bound(worth: Floats, slots: Integers) -> Floats:
    """[L]: some rank has as much of the worth [L, E] of the experts: mean, hosts, whole experts.

    For anything of which the parts of an expert have as much as the whole in all, or more.
    """
    found: Floats = worth.sum(axis=1) / len(slots)
    if slots.sum() - worth.shape[1] >= len(slots) - 1:
        return found  # the other two are at most the mean here
    return np.maximum(found, np.maximum(host_bound(worth, slots), whole_bound(worth, slots)))


def equal_bound(load: ArrayLike, slots: ArrayLike) -> Floats:
    """[L]: `placement_bound` for replicas that share the tokens of an expert evenly.

    Call a replica big where its load is over T / 2; a rank has at most one. An expert has at least
    n = max(1, ceil(w / T)) replicas; all of them are big, unless it has m = ceil(2 w / T) or more.
    So with x_e = 1 for experts of big replicas: sum(n x) <= G and sum(n x + m (1 - x)) <= R. The
    least sum for fractions x takes m where (m - n) / n is smallest. It falls as T rises, since n
    and m do; the least T where it is R or less is the bound.
    """
    loads = checked_load(load)
    held = np.minimum(checked_slots(slots, loads.shape[1]), loads.shape[1])

    def fits(limit: Floats) -> Truths:
        few = _slots_with_few_big(loads / limit[:, None], len(held))
        found: Truths = few <= held.sum() * (1 + 1e-12)
        return found

    lowest = placement_bound(load, slots)
    return np.maximum(lowest, _least(fits, lowest, np.maximum(lowest, 2 * loads.max(axis=1))))


def _slots_with_few_big(ratio: Floats, ranks: int) -> Floats:
    """[L]: the least slots where at most `ranks` replicas are big, of loads / T [L, E]."""
    few = np.maximum(1.0, np.ceil(ratio))
    many = np.maximum(1.0, np.ceil(2 * ratio))
    order = np.argsort((many - few) / few, axis=1, kind="stable")
    few, many = (np.take_along_axis(of, order, axis=1) for of in (few, many))
    past = np.cumsum(few, axis=1) - few
    too_many = few.sum(axis=1, keepdims=True) - ranks
    parted = np.clip((too_many - past) / few, 0.0, 1.0)
    found: Floats = (few + parted * (many - few)).sum(axis=1)
    return found


def replica_bound(load: Floats, replicas: int) -> Floats:
    """[L]: the least T with sum_e max(1, ceil(w_e / T)) <= replicas.

    A replica has at most T, so an expert needs ceil(w_e / T) of them. One slot a rank attains it.
    """
    return largest_part(load, fewest_replicas(load, replicas))


def largest_part(load: Floats, counts: Integers) -> Floats:
    """[L]: the largest load of a replica where the replicas of an expert share evenly."""
    found: Floats = (load / counts).max(axis=1)
    return found


def fewest_replicas(load: Floats, replicas: int) -> Integers:
    """[L, E]: the fewest replicas of each expert for the least largest load per replica.

    They add up to `replicas` or less.
    """
    experts = load.shape[1]

    def needed(limit: Floats) -> Floats:
        limit = np.where(limit > 0, limit, 1.0)
        return np.maximum(1.0, np.ceil(load / limit[:, None]))

    def fits(limit: Floats) -> Truths:
        found: Truths = needed(limit).sum(axis=1) <= replicas
        return found

    # sum(ceil(w / T)) < W / T + E, so W / (R - E) is enough.
    enough = load.max(axis=1)
    if replicas > experts:
        enough = np.minimum(enough, load.sum(axis=1) / (replicas - experts) * (1 + 1e-12))
    return needed(_least(fits, load.sum(axis=1) / replicas, enough)).astype(np.int64)


def _least(fits: Callable[[Floats], Truths], low: Floats, high: Floats) -> Floats:
    """[L]: the least value that fits, of monotone `fits`; `high` fits. By bisection."""
    low, high = low.copy(), high.copy()
    with np.errstate(divide="ignore", invalid="ignore"):
        high = np.where(fits(low), low, high)
        for _ in range(BISECTIONS):
            middle = low + (high - low) / 2
            good = fits(middle)
            high = np.where(good, middle, high)
            low = np.where(good, low, middle)
    return high


def host_bound(load: Floats, slots: Integers) -> Floats:
    """[L]: over sets B of the b largest experts, the load of the ranks that host them.

    The other E - b experts need a slot each, so B has at most K + b replicas, on H <= K + b ranks.
    The other G - H ranks have S slots or less (the most that G - H ranks have), so at most S of the
    experts outside B have a slot there; E - b - S or more live on the H ranks alone, with B. Hence
    H T >= N(H) = w(B) + the E - b - S smallest loads, for some H; the bound is the least N(H) / H,
    the largest over B. S is concave in H, so N is convex, and N(H) / H falls as long as
    H (N(H + 1) - N(H)) < N(H), which stays false once it is: a binary search finds the least.
    """
    layers, experts = load.shape
    ranks, spare = len(slots), int(slots.sum()) - experts
    sizes = np.arange(1, min(experts, ranks - spare - 1) + 1)
    if not len(sizes):
        return np.zeros(layers)
    down = -np.sort(-load, axis=1)
    top = np.cumsum(down, axis=1)[:, sizes - 1]
    smallest = np.concatenate([np.zeros((layers, 1)), np.cumsum(down[:, ::-1], axis=1)], axis=1)
    most = np.concatenate([[0], np.cumsum(-np.sort(-slots))])

    def held(hosts: Integers) -> Floats:
        alone = np.maximum(0, experts - sizes - most[ranks - hosts])
        found: Floats = top + np.take_along_axis(smallest, alone, axis=1)
        return found

    low = np.ones((layers, len(sizes)), np.int64)
    high = np.broadcast_to(np.minimum(ranks, spare + sizes), low.shape).copy()
    while (low < high).any():
        middle = (low + high) // 2
        now = held(middle)
        falls = middle * (held(np.minimum(middle + 1, ranks)) - now) < now
        low = np.where(falls & (low < high), middle + 1, low)
        high = np.where(falls, high, middle)
    found: Floats = (held(high) / high).max(axis=1)
    return found


def whole_bound(load: Floats, slots: Integers) -> Floats:
    """[L]: at most K experts have more than one replica, so E - K or more are whole on a rank.

    Take the K largest as the ones that are not. Of the first k G + 1 of the rest, some rank has
    k + 1; the smallest k + 1 of them are a bound.
    """
    experts, ranks = load.shape[1], len(slots)
    spare = int(slots.sum()) - experts
    whole = -np.sort(-load, axis=1)[:, spare:]
    found = np.zeros(len(load))
    for several in range(1, (whole.shape[1] - 1) // ranks + 1):
        last = several * ranks + 1
        found = np.maximum(found, whole[:, last - several - 1 : last].sum(axis=1))
    return found
