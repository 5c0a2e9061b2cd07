"""Device labels: balance and slots stay, replicas part, experts of a token come together."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.placement.expert_map import ExpertMap, Floats
from supertile.targets.placement.labels import label_ranks, locality
from supertile.targets.placement.starts import packed_layer

LOAD = np.random.default_rng(0).lognormal(0, 0.5, (2, 32))


def packed(slots: list[int]) -> ExpertMap:
    each = np.array(slots)
    return ExpertMap.equal(32, each, np.stack([packed_layer(of, each) for of in LOAD]))


def pairs_in_groups() -> Floats:
    """Experts of the same four of a random order are chosen together most."""
    group = np.random.default_rng(1).permutation(32) // 4
    return np.tile(1.0 + 30 * (group[:, None] == group), (2, 1, 1))


def contents(map: ExpertMap, layer: int) -> list[tuple[tuple[int, float], ...]]:
    ranks = np.split(np.arange(len(map.rank)), np.cumsum(map.slots)[:-1])
    rows = map.expert[layer], map.share[layer]
    return sorted(tuple(zip(rows[0][r].tolist(), rows[1][r].tolist(), strict=True)) for r in ranks)


@pytest.mark.parametrize("pairs", [None, pairs_in_groups()])
@pytest.mark.parametrize("slots", [[3] * 16, [4, 2] * 8])
def test_ranks_trade_places_and_nothing_else(slots: list[int], pairs: Floats | None) -> None:
    map = packed(slots)
    found = label_ranks(map, (4, 8), pairs).map
    assert [contents(found, layer) for layer in range(2)] == [contents(map, i) for i in range(2)]
    assert found.balancedness(LOAD) == pytest.approx(map.balancedness(LOAD), rel=1e-12)


def test_replicas_part() -> None:
    map = packed([3] * 16)
    neighbours = np.argsort(map.expert.reshape(2, 16, 3).min(axis=2), axis=1, kind="stable")
    together = np.take_along_axis(map.expert.reshape(2, 16, 3), neighbours[:, :, None], axis=1)
    map = ExpertMap.equal(32, map.slots, together.reshape(2, -1))
    found = label_ranks(map, (4,))
    assert found.before[0].in_one > 0.3
    assert found.after[0].in_one == 0
    assert found.after[0].near > found.before[0].near


def test_experts_of_a_token_come_together_but_replicas_stay_apart() -> None:
    found = label_ranks(packed([3] * 16), (4,), pairs_in_groups())
    before, after = found.before[0], found.after[0]
    assert before.together is not None and after.together is not None
    assert after.together > before.together * 1.1
    assert after.in_one <= before.in_one
    assert after.domains_per_token(6)[1] < before.domains_per_token(6)[1]


def test_measures_by_hand() -> None:
    """Experts 0 to 3 on ranks of (0 1), (0 2), (3 2), (3 1): domains of two ranks."""
    map = ExpertMap.equal(4, np.full(4, 2), np.array([[0, 1, 0, 2, 3, 2, 3, 1]]))
    pairs = np.zeros((1, 4, 4))
    pairs[0, 0, 1] = pairs[0, 1, 0] = 0.5
    found = locality(map, 2, pairs)
    assert (found.in_one, found.near, found.together) == (0.5, 0.75, 0.5)
    assert found.domains_per_token(2) == (1.5, 1.5)


def test_in_one_domain_any_order_is_as_good() -> None:
    map = packed([3] * 16)
    found = label_ranks(map, (), pairs_in_groups())
    assert (found.map, found.before, found.after) == (map, (), ())


@pytest.mark.parametrize(
    ("domains", "pairs", "expected"),
    [
        ((4, 6), None, "domains of 6 ranks are not made of domains of 4"),
        ((0,), None, "domains of 0 ranks"),
        ((4,), np.ones((1, 2, 2)), "2 layers of 32 experts"),
        ((4,), np.full((2, 32, 32), -1.0), "negative or no number"),
    ],
)
def test_what_does_not_fit(domains: tuple[int, ...], pairs: Floats | None, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        label_ranks(packed([3] * 16), domains, pairs)
