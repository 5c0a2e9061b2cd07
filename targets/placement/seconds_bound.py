"""How fast a layer of experts can be: what has to be read, and what reading less leaves to a rank.

Sizes: E experts with w_e tokens, G ranks with s_g slots. X are the tokens of the fullest rank, and
R is what a rank reads at most, in weights of an expert: a replica with x tokens is read in
f(x) = 1 - exp(-x) of the batches. A layer takes max(R, X) in seconds, and X on the wire.

Apart, both have bounds: X that of the load; R `worth_bound` of f(w_e), as the parts of an expert
are read for as long as the whole in all, or longer (f is concave from 0 up).

Together, they count whole replicas. For any u > 0 let p(x) = min(1, x / u).

- A rank has at most c(R) of p in all: in terms of f, p is convex up to u and 1 from there on, so
  the most of it within R is at an end of the range: all of its replicas but one have u tokens or
  none. And it has s_g at most.
- An expert has at least floor(w / X) p(X) + p(w - floor(w / X) X): p is concave, no replica has
  more than X, so the least is where all replicas but one have X or none.

So where the experts have more than the ranks, no placement has both R and X. With less to read
there are fewer replicas, and then a hot expert makes X large: the bound is the least time over R.
"""

from __future__ import annotations

import numpy as np

from supertile.ir import portable_math
from supertile.targets.placement.bounds import worth_bound
from supertile.targets.placement.expert_map import Floats, Integers
from supertile.targets.placement.objective import SlotCosts, in_tokens

COLD = 0.05
"""The part of the experts with tokens that may have less than u."""
EVEN, HALVED = 16, 14
"""Steps of R from one replica to the next: even ones, and halves of what is left of the last."""
BISECTIONS = 30
SAFE = 1e-9


def seconds_bound(
    load: Floats,
    slots: Integers,
    costs: SlotCosts,
    least: Floats,
    tokens: float | None = None,
) -> Floats:
    """[L]: no placement on slots [G] is faster; `least` [L] bounds the largest load of a rank.

    The loads [L, E] are as in `objective.layer_seconds`.
    """
    loads = in_tokens(load, tokens)
    total = load.sum(axis=1)
    scale = np.divide(loads.sum(axis=1), total, out=np.zeros(len(load)), where=total > 0)
    useful = np.minimum(slots, load.shape[1])
    read = worth_bound(costs.read(loads), useful)
    bound = costs.seconds(read, least * scale)
    if costs.weights == 0:
        return bound
    for layer in np.flatnonzero(total > 0):
        fewest = float(read[layer]) / costs.weights
        together = _together(
            loads[layer], useful, costs, fewest, float(least[layer] * scale[layer])
        )
        bound[layer] = max(bound[layer], together)
    return bound


def _together(
    load: Floats, slots: Integers, costs: SlotCosts, fewest: float, least: float
) -> float:
    """Seconds of loads [E], where a rank reads `fewest` weights or more, and has `least` tokens."""
    most = int(slots.max())
    if fewest >= most:
        return 0.0
    unit = float(np.quantile(load[load > 0], COLD, method="lower"))
    inside = np.concatenate([np.arange(EVEN) / EVEN, 1 - 2.0 ** -np.arange(5, HALVED)])
    read = np.sort((np.arange(int(fewest), most)[:, None] + inside).ravel())
    read = np.append(np.maximum(read[read > fewest], fewest), most)
    before = np.concatenate([[fewest], read[:-1]]) * costs.weights
    room = np.minimum(_whole(read, unit)[:, None], slots).sum(axis=1)
    tokens = _fullest(load, room * (1 + SAFE), unit, least)
    return float(costs.seconds(before, tokens).min())


def _whole(read: Floats, unit: float) -> Floats:
    """c(R) of each R [N]."""
    full = -float(portable_math.expm1(-unit))
    count = np.floor(read / full)
    rest = np.maximum(read - count * full, 0.0)
    most: Floats = count + np.minimum(-portable_math.log1p(-np.minimum(rest, full)) / unit, 1.0)
    return most


def _fullest(load: Floats, room: Floats, unit: float, least: float) -> Floats:
    """[N]: tokens that some rank has at least, where all have `room` [N] for whole replicas."""
    low = np.full(len(room), least)
    high = np.full(len(room), max(float(load.max()), least))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_many = _replicas(load, middle, unit) > room
        low = np.where(too_many, middle, low)
        high = np.where(too_many, high, middle)
    return low


def _replicas(load: Floats, most: Floats, unit: float) -> Floats:
    """[N]: what all experts have at least, of replicas with at most so many tokens [N]."""
    count = np.floor(load / most[:, None])
    rest = load - count * most[:, None]
    parts = count * np.minimum(1.0, most / unit)[:, None] + np.minimum(1.0, rest / unit)
    return np.asarray(parts.sum(axis=1))
