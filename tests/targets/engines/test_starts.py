"""What engines start with, against the lists that their documents have."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.engines.starts import by_rank, in_order
from supertile.targets.placement.check import check_map


def test_slots_in_order() -> None:
    assert in_order(4, 3, 2).tolist() == [0, 1, 2, 3, 0, 1]


def test_each_rank_goes_on_with_the_experts_of_the_next() -> None:
    assert by_rank(8, 4, 3).tolist() == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 0]


@pytest.mark.parametrize("name", engine_names())
@pytest.mark.parametrize(("experts", "ranks", "each"), [(8, 4, 2), (8, 4, 3), (7, 5, 2), (3, 2, 3)])
def test_every_start_is_a_placement(name: str, experts: int, ranks: int, each: int) -> None:
    placed = engine_named(name).start(experts, np.full(ranks, each), 2)
    assert check_map(placed) == [] and placed.layers == 2


def test_starts_need_even_slots_for_all_experts() -> None:
    for slots in ([3, 2], [2, 2]):
        with pytest.raises(ValueError, match="5 experts in"):
            engine_named("vllm").start(5, np.array(slots), 1)
