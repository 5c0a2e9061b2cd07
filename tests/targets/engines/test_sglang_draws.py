"""SGLang's static tables for a map: those that its own functions gave, and what is always so."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.engines.setting import EngineSetting
from supertile.targets.engines.sglang_draws import drawn_shares, drawn_slots, draws

SLOTS = [0, 1, 2, 2, 3, 0, 1, 3, 4, 4, 5, 2]
"""Six experts in three slots on each of four ranks."""
ONE_NODE = [
    [[0, 1, 2, 7, 9, 10], [5, 6, 3, 4, 8, 10], [5, 6, 2, 7, 8, 10], [0, 1, 11, 7, 9, 10]],
    [[0, 1, 2, 4, 9, 10], [5, 1, 3, 4, 8, 10], [0, 6, 2, 7, 8, 10], [0, 1, 11, 4, 9, 10]],
]
"""[layer][rank][expert], both layers in SLOTS: release 0.5.23, executed."""
TWO_NODES = [
    [[0, 1, 2, 4, 9, 10], [5, 1, 3, 4, 8, 10], [5, 6, 11, 7, 8, 10], [0, 6, 11, 7, 9, 10]],
] * 2


@pytest.mark.parametrize(("nodes", "table"), [(1, ONE_NODE), (2, TWO_NODES)])
def test_the_tables_of_the_release(nodes: int, table: list[list[list[int]]]) -> None:
    found = drawn_slots([SLOTS, SLOTS], 6, 4, EngineSetting(nodes=nodes))
    assert np.transpose(found, (0, 2, 1)).tolist() == table


def test_shares_are_whole_ranks_that_add_up() -> None:
    random = np.random.default_rng(3)
    rows = [random.permutation(np.arange(32) % 9).tolist() for _ in range(3)]
    shares = drawn_shares(rows, 9, 16, EngineSetting(nodes=2))
    assert (shares * 16 == np.rint(shares * 16)).all()
    for row, share in zip(rows, shares, strict=True):
        assert np.bincount(row, share, 9).tolist() == [1.0] * 9


def test_without_replicas_nothing_is_drawn() -> None:
    assert draws([[0, 1, 2, 3]], 4, 2, EngineSetting()) == 0
    assert drawn_shares([[3, 1, 2, 0]], 4, 2, EngineSetting()).tolist() == [[1.0] * 4]
    assert draws([SLOTS], 6, 4, EngineSetting()) == 2**2 * 2 + 1 + 2**2 * 2
