"""Which replica of an expert an engine sends a token to: the part of its tokens for each slot.

    shares = SPLITS["rank_turns"](expert_map, setting)          # [L, P]

Sizes: L layers, E experts, G ranks, P slots in all. Tokens come evenly from all ranks, and no token
depends on its rank: what a rule does for each rank, or for each row of a rank's batch, is averaged
over them. The replicas of an expert are numbered by ascending slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from supertile.ir.placement import IDLE
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers

HASH_FACTOR, HASH_RANGE = 2654435769, 2**32
"""Of vLLM's rows: Knuth's multiplicative hash."""

Split = Callable[[ExpertMap, EngineSetting], Floats]


def even(expert_map: ExpertMap, setting: EngineSetting) -> Floats:
    """Every replica gets the same part."""
    return ExpertMap.equal(expert_map.experts, expert_map.slots, expert_map.expert).share


def rank_turns(expert_map: ExpertMap, setting: EngineSetting) -> Floats:
    """vllm-ascend's first runner: rank r takes replica r mod n of n.

    With tensor parallelism the number is ((r mod tp) + r // tp + expert) mod n.
    """
    number, count = _numbered(expert_map)
    rank = np.arange(expert_map.ranks)
    if setting.tp == 1:
        return _turns(number, count, rank)
    turn = rank % setting.tp + rank // setting.tp
    return _turns((number - expert_map.expert) % np.maximum(count, 1), count, turn)


def row_hash(expert_map: ExpertMap, setting: EngineSetting) -> Floats:
    """vLLM: the token in row t of its rank's batch takes replica (2654435769 t mod 2^32) mod n."""
    number, count = _numbered(expert_map)
    hashed = np.arange(setting.rows, dtype=np.int64) * HASH_FACTOR % HASH_RANGE
    return _turns(number, count, hashed)


def nearest(expert_map: ExpertMap, setting: EngineSetting) -> Floats:
    """SGLang's static table: the replica on the rank itself, else the first on its node where the
    node has some but not all of them; ranks without one share the replicas fairly.

    A fair choice gives each replica k // n of k ranks; which replicas get the k mod n others is
    drawn by the engine, here they are the first.
    """
    return _nearest(expert_map, setting, _fair)


def nearest_expected(expert_map: ExpertMap, setting: EngineSetting) -> Floats:
    """The same on average over what is drawn: k / n of k ranks for each replica."""
    return _nearest(
        expert_map, setting, lambda ranks, replicas: np.full(replicas, ranks / replicas)
    )


def _fair(ranks: int, replicas: int) -> Floats:
    each, more = divmod(ranks, replicas)
    return each + (np.arange(replicas) < more).astype(np.float64)


def _nearest(
    expert_map: ExpertMap, setting: EngineSetting, choose: Callable[[int, int], Floats]
) -> Floats:
    number, count = _numbered(expert_map)
    share = np.where(count == 1, 1.0, 0.0)
    node = expert_map.rank * setting.nodes // expert_map.ranks
    for layer in np.flatnonzero((count > 1).any(axis=1)):
        order = np.lexsort((number[layer], expert_map.expert[layer]))
        several = order[count[layer, order] > 1]
        starts = np.flatnonzero(number[layer, several] == 0)
        for slots in np.split(several, starts[1:]):
            choice = nearest_replica(expert_map.rank[slots], node[slots], expert_map.ranks, setting)
            near = np.bincount(choice[choice != IDLE], minlength=len(slots))
            others = choose(int((choice == IDLE).sum()), len(slots))
            share[layer, slots] = (near + others) / expert_map.ranks
    return share


def nearest_replica(rank: Integers, node: Integers, ranks: int, setting: EngineSetting) -> Integers:
    """[G]: which of the replicas on these ranks [n] and nodes [n] is near each rank; -1: none."""
    choice = np.full(ranks, IDLE)
    size = ranks // setting.nodes
    present, first = np.unique(node, return_index=True)
    if len(present) > 1:
        for place, replica in zip(present, first, strict=True):
            choice[place * size : (place + 1) * size] = replica
    own, first = np.unique(rank, return_index=True)
    choice[own] = first
    return choice


def _numbered(expert_map: ExpertMap) -> tuple[Integers, Integers]:
    """([L, P] number of each slot among those of its expert, [L, P] how many those are).

    Idle slots have neither: 0 and 0.
    """
    expert = expert_map.expert
    layers, total = expert.shape
    order = np.argsort(expert, axis=1, kind="stable")
    ordered = np.take_along_axis(expert, order, axis=1)
    starts = np.ones((layers, total), bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = np.arange(total)
    first = np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    run = np.cumsum(starts, axis=1) - 1 + total * np.arange(layers)[:, None]
    sizes = np.bincount(run.ravel(), minlength=layers * total)
    number, count = np.empty_like(expert), np.empty_like(expert)
    np.put_along_axis(number, order, place - first, axis=1)
    np.put_along_axis(count, order, sizes[run], axis=1)
    idle = expert == IDLE
    return np.where(idle, 0, number), np.where(idle, 0, count)


def _turns(number: Integers, count: Integers, turns: Integers) -> Floats:
    """[L, P]: the part of `turns` that falls on the replica of a number when taken mod `count`."""
    share = np.zeros(number.shape)
    for replicas in np.unique(count[count > 0]):
        parts = np.bincount(turns % replicas, minlength=replicas) / len(turns)
        alike = count == replicas
        share[alike] = parts[number[alike]]
    return share


SPLITS: Mapping[str, Split] = {
    "even": even,
    "rank_turns": rank_turns,
    "row_hash": row_hash,
    "nearest": nearest,
}
EXPECTED: Mapping[str, Split] = {"nearest": nearest_expected}
"""Rules of which a part is drawn: the shares on average."""
