"""Split rules by example: the vectors that the engines' own functions gave, and what adds up."""

from __future__ import annotations

import numpy as np
import pytest
from engine_splits import ascend_slot, candidates, sglang_nearest, vllm_slot

from supertile.targets.engines.engine import Engine, engine_named, engine_names
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import ExpertMap

SLOTS = [0, 1, 2, 2, 3, 0, 1, 3, 4, 4, 5, 2]
"""Six experts in three slots on each of four ranks."""
PLACED = ExpertMap.equal(6, np.full(4, 3), np.array([SLOTS]))

ASCEND = [
    [0, 1, 2, 4, 8, 10],
    [5, 6, 3, 7, 9, 10],
    [0, 1, 11, 4, 8, 10],
    [5, 6, 2, 7, 9, 10],
]
"""[rank][expert]: the slot that vllm-ascend's loader gives without tensor parallelism."""
ASCEND_TP2 = [
    [0, 6, 11, 7, 8, 10],
    [5, 1, 2, 4, 9, 10],
    [5, 1, 2, 4, 9, 10],
    [0, 6, 3, 7, 8, 10],
]
SGLANG_NEAREST = {
    1: [
        [0, 1, 2, None, None, 10],
        [5, None, 3, 4, None, 10],
        [None, 6, None, 7, 8, 10],
        [None, None, 11, None, 9, 10],
    ],
    2: [
        [0, 1, 2, 4, None, 10],
        [5, 1, 3, 4, None, 10],
        [None, 6, 11, 7, 8, 10],
        [None, 6, 11, 7, 9, 10],
    ],
}
"""By nodes; None: the engine draws one of the candidates."""


def shares(name: str, placed: ExpertMap = PLACED, **setting: int) -> list[float]:
    return engine_named(name).split(placed, EngineSetting(**setting)).share[0].tolist()


def counted(table: list[list[int]]) -> list[float]:
    """The share of each slot where [source][expert] is the slot."""
    return (np.bincount(np.ravel(table), minlength=len(SLOTS)) / len(table)).tolist()


def test_vllm_ascend_takes_turns_by_rank() -> None:
    assert [[ascend_slot(SLOTS, e, r) for e in range(6)] for r in range(4)] == ASCEND
    assert [[ascend_slot(SLOTS, e, r, 2) for e in range(6)] for r in range(4)] == ASCEND_TP2
    assert shares("vllm-ascend") == counted(ASCEND)
    assert shares("vllm-ascend", tp=2) == counted(ASCEND_TP2)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_turns_of_vllm_ascend_add_up_over_the_ranks(tp: int) -> None:
    slots = np.random.default_rng(tp).permutation(np.arange(24) % 7).tolist()
    placed = ExpertMap.equal(7, np.full(12, 2), np.array([slots]))
    table = [ascend_slot(slots, e, rank, tp) for rank in range(12) for e in range(7)]
    found = engine_named("vllm-ascend").split(placed, EngineSetting(tp=tp)).share[0]
    assert found.tolist() == (np.bincount(table, minlength=24) / 12).tolist()


def test_vllm_hashes_the_row() -> None:
    first = [vllm_slot(SLOTS, expert, row) for row in range(6) for expert in (0, 2)]
    assert first == [0, 2, 5, 2, 0, 11, 5, 11, 0, 3, 5, 2]
    for rows in (1, 6, 64, 1024):
        table = [[vllm_slot(SLOTS, e, row) for e in range(6)] for row in range(rows)]
        assert shares("vllm", rows=rows) == counted(table)


def test_one_token_a_rank_is_all_on_the_first_replica_in_vllm() -> None:
    assert shares("vllm", rows=1)[:6] == [1, 1, 1, 0, 1, 0]


@pytest.mark.parametrize("nodes", [1, 2])
def test_sglang_takes_the_nearest_and_shares_the_rest_fairly(nodes: int) -> None:
    near = [[sglang_nearest(SLOTS, e, rank, 4, nodes) for e in range(6)] for rank in range(4)]
    assert near == SGLANG_NEAREST[nodes]
    found = np.array(shares("sglang", nodes=nodes)) * 4
    for expert in range(6):
        places = candidates(SLOTS, expert)
        chosen = [row[expert] for row in near]
        fewest = chosen.count(None) // len(places)
        drawn = [found[slot] - chosen.count(slot) for slot in places]
        assert sum(found[slot] for slot in places) == 4
        assert all(fewest <= count <= fewest + 1 for count in drawn)


@pytest.mark.parametrize("name", engine_names())
def test_the_shares_of_an_expert_add_up(name: str) -> None:
    random = np.random.default_rng(4)
    rows = [random.permutation(np.arange(24) % 10) for _ in range(5)]
    placed = ExpertMap.equal(10, np.full(8, 3), np.array(rows))
    setting = EngineSetting(nodes=4, groups=5, tp=2, rows=7)
    split = engine_named(name).split(placed, setting)
    for layer, row in enumerate(rows):
        sums = np.bincount(row, split.share[layer], minlength=10)
        assert np.allclose(sums, 1, rtol=0, atol=1e-12)
    load = random.random((5, 10))
    loads = engine_named(name).split(placed, setting).loads(load)
    assert np.allclose(loads.sum(axis=1), load.sum(axis=1))


@pytest.mark.parametrize("name", engine_names())
def test_an_idle_slot_has_no_share(name: str) -> None:
    placed = ExpertMap.equal(2, np.full(2, 2), np.array([[0, -1, 1, 0]]))
    assert engine_named(name).split(placed, EngineSetting()).share[0, 1] == 0


def engines_own(engine: Engine, **setting: int) -> list[int]:
    random = np.random.default_rng(1)
    load = random.integers(1, 90, (1, 24)).astype(float)
    return engine.eplb(load, 32, 8, EngineSetting(**setting)).expert[0].tolist()


@pytest.mark.parametrize("name", engine_names())
def test_the_balancer_is_hierarchical_where_nodes_divide_groups(name: str) -> None:
    """Then the experts of a group are on one node; without groups a node does not matter."""
    engine = engine_named(name)
    inside = np.reshape(engines_own(engine, nodes=2, groups=4), (2, 16))
    group_nodes = [{node for node in (0, 1) for e in inside[node] if e // 6 == g} for g in range(4)]
    assert [len(nodes) for nodes in group_nodes] == [1] * 4
    anywhere = engines_own(engine, nodes=2)
    assert anywhere == engines_own(engine, nodes=1)
    assert anywhere == engines_own(engine, nodes=4, groups=6)
    assert anywhere != inside.ravel().tolist()
