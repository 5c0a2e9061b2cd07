"""DeepSeek's expert-parallel load balancer (EPLB), the baseline: greedy replicas, greedy packing.

After github.com/deepseek-ai/EPLB (eplb.py), in float64 rather than float32. Loads [L, E] of the
layers become R physical experts on G GPUs, R / G on each, that share the tokens of an expert
evenly. A GPU may hold an expert twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from supertile.ir.placement import IDLE
from supertile.targets.placement.counts import raises
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers
from supertile.targets.placement.inputs import checked_load

Packing = Callable[[Floats, int], tuple[Integers, Integers]]
"""Packs items of the weights [L, N] into packs of N / packs items: (pack, place there) [L, N]."""


def rebalance_experts(
    weight: ArrayLike,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    packing: Packing | None = None,
) -> tuple[Integers, Integers, Integers]:
    """(expert of each replica [L, R], replicas of each expert [L, E, X] with -1, counts [L, E]).

    Groups of experts stay on a node where the nodes divide `num_groups`; else nodes do not matter.
    `packing` is EPLB's own, slow one, or `heap_packing`, which packs alike. ValueError where R is
    no multiple of G, or another number does not divide as EPLB needs.
    """
    load = checked_load(weight)
    if num_groups % num_nodes:
        num_groups, num_nodes = 1, 1
    _check_sizes(load.shape[1], num_replicas, num_groups, num_nodes, num_gpus)
    expert, place, counts = _hierarchical(
        load, num_replicas, num_groups, num_nodes, num_gpus, packing or plain_packing
    )
    return expert, _replicas_by_expert(expert, place, counts), counts


def eplb_map(
    weight: ArrayLike,
    num_replicas: int,
    num_gpus: int,
    num_groups: int = 1,
    num_nodes: int = 1,
    packing: Packing | None = None,
) -> ExpertMap:
    """EPLB's placement as a map; GPUs that hold an expert twice do so in the map too."""
    found, _, counts = rebalance_experts(
        weight, num_replicas, num_groups, num_nodes, num_gpus, packing
    )
    slots = np.full(num_gpus, num_replicas // num_gpus)
    return ExpertMap.equal(counts.shape[1], slots, found)


def without_twins(map: ExpertMap) -> ExpertMap:
    """The map with one slot for the parts that a rank has of an expert; the others are idle."""
    layers, slots = map.expert.shape
    rows = np.arange(layers)[:, None] * map.ranks + map.rank
    place = np.where(map.expert == IDLE, -1, rows * map.experts + map.expert)
    _, first, number = np.unique(place, return_index=True, return_inverse=True)
    keeps = np.zeros(layers * slots, bool)
    keeps[first] = True
    share = np.zeros(layers * slots)
    share[first] = np.bincount(number.ravel(), map.share.ravel())
    expert = np.where(keeps, map.expert.ravel(), IDLE).reshape(layers, slots)
    return ExpertMap(map.experts, map.slots, expert, share.reshape(layers, slots))


def replicate_experts(weight: Floats, num_physical: int) -> tuple[Integers, Integers, Integers]:
    """(expert [L, R], number among its replicas [L, R], counts [L, E]).

    One replica at a time goes to the expert with the largest load per replica, first on ties. No
    other counts have a smaller largest load per replica.
    """
    layers, experts = weight.shape
    every, ones = np.arange(layers), np.ones(experts, np.int64)
    expert = np.tile(np.arange(num_physical), (layers, 1))
    for layer, of in enumerate(weight):
        expert[layer, experts:] = list(
            islice(raises(of, ones, num_physical), num_physical - experts)
        )
    place = np.zeros((layers, num_physical), np.int64)
    counts = np.ones((layers, experts), np.int64)
    for slot in range(experts, num_physical):
        place[:, slot] = counts[every, expert[:, slot]]
        counts[every, expert[:, slot]] += 1
    return expert, place, counts


def plain_packing(weight: Floats, packs: int) -> tuple[Integers, Integers]:
    """EPLB's own: each item, by descending weight, looks at all packs, O(N * packs) a layer."""
    return _packing(weight, packs, pack_plainly)


def heap_packing(weight: Floats, packs: int) -> tuple[Integers, Integers]:
    """What `plain_packing` finds, with the packs in a heap: O(N * log(packs)) a layer."""
    return _packing(weight, packs, pack_by_heap)


def _packing(
    weight: Floats, packs: int, pack_layer: Callable[[list[float], int, int], list[int]]
) -> tuple[Integers, Integers]:
    layers, items = weight.shape
    per_pack = items // packs
    if per_pack == 1:
        one_each = np.tile(np.arange(items), (layers, 1))
        return one_each, np.zeros((layers, items), np.int64)
    order = np.argsort(-weight, axis=1, kind="stable")
    pack = np.empty((layers, items), np.int64)
    place = np.empty((layers, items), np.int64)
    for layer, items_down in enumerate(order):
        chosen = np.array(pack_layer(weight[layer, items_down].tolist(), packs, per_pack))
        pack[layer, items_down] = chosen
        by_pack = np.argsort(chosen, kind="stable")
        place[layer, items_down[by_pack]] = np.tile(np.arange(per_pack), packs)
    return pack, place


def pack_plainly(weights: list[float], packs: int, per_pack: int) -> list[int]:
    """The pack of each weight of one layer, by descending weight."""
    loads, held, chosen = [0.0] * packs, [0] * packs, []
    for weight in weights:
        pack = min((p for p in range(packs) if held[p] < per_pack), key=loads.__getitem__)
        loads[pack] += weight
        held[pack] += 1
        chosen.append(pack)
    return chosen


def pack_by_heap(weights: list[float], packs: int, per_pack: int) -> list[int]:
    """The same, by heap."""
    heap, held, chosen = [(0.0, pack) for pack in range(packs)], [0] * packs, []
    for weight in weights:
        load, pack = heap[0]
        held[pack] += 1
        chosen.append(pack)
        if held[pack] < per_pack:
            heapq.heapreplace(heap, (load + weight, pack))
        else:
            heapq.heappop(heap)
    return chosen


def _check_sizes(experts: int, replicas: int, groups: int, nodes: int, gpus: int) -> None:
    for whole, part, names in (
        (experts, groups, "groups divide experts"),
        (gpus, nodes, "nodes divide GPUs"),
        (replicas, gpus, "GPUs divide replicas"),
    ):
        if part < 1 or whole % part:
            raise ValueError(f"EPLB needs that {names}: {part} does not divide {whole}")
    if replicas < experts:
        raise ValueError(f"EPLB needs a replica of each of {experts} experts, not {replicas}")


def _hierarchical(
    weight: Floats, replicas: int, groups: int, nodes: int, gpus: int, packing: Packing
) -> tuple[Integers, Integers, Integers]:
    """(expert [L, R], number among its replicas [L, R], counts [L, E]), by GPU.

    Groups to nodes; replicas inside each node; the replicas of each node to its GPUs. "Moved" is
    an expert's number after the first step: node by node.
    """
    layers, experts = weight.shape
    size, node_experts = experts // groups, experts // nodes
    node, place = packing(weight.reshape(layers, groups, size).sum(axis=2), nodes)
    first = (node * (groups // nodes) + place) * size
    moved = (first[:, :, None] + np.arange(size)).reshape(layers, experts)
    original = _inverse(moved)

    loads = np.take_along_axis(weight, original, axis=1).reshape(-1, node_experts)
    replica_of, number, counts = replicate_experts(loads, replicas // nodes)

    each = np.take_along_axis(loads / counts, replica_of, axis=1)
    gpu, place = packing(each, gpus // nodes)
    replica_at = _inverse(gpu * (replicas // gpus) + place)

    in_node = np.take_along_axis(replica_of, replica_at, axis=1).reshape(layers, nodes, -1)
    held = (in_node + np.arange(0, experts, node_experts)[:, None]).reshape(layers, replicas)
    return (
        np.take_along_axis(original, held, axis=1),
        np.take_along_axis(number, replica_at, axis=1).reshape(layers, replicas),
        np.take_along_axis(counts.reshape(layers, experts), moved, axis=1),
    )


def _inverse(permutation: Integers) -> Integers:
    """Of each row."""
    found = np.empty_like(permutation)
    values = np.broadcast_to(np.arange(permutation.shape[1]), permutation.shape)
    np.put_along_axis(found, permutation, values, axis=1)
    return found


def _replicas_by_expert(expert: Integers, place: Integers, counts: Integers) -> Integers:
    """[L, E, X]: the replicas of each expert by their numbers, padded with -1."""
    layers, experts = counts.shape
    most = int(counts.max())
    found = np.full((layers, experts * most), -1)
    values = np.broadcast_to(np.arange(expert.shape[1]), expert.shape)
    np.put_along_axis(found, expert * most + place, values, axis=1)
    return found.reshape(layers, experts, most)
