"""Expert traffic: counted from a routing by a loop, expected against counted, published figures."""

import re

import numpy as np
import pytest
from placement_plans import weighted

from supertile.ir.comm_work import CopyBytes
from supertile.ir.placement import Placement, place
from supertile.targets.traffic import (
    chosen_chance,
    distinct_targets,
    expected_traffic,
    hashed_traffic,
    imbalance,
    traffic_of,
    traffic_table,
)

PRO = CopyBytes(out=7168 + 56, routing=12, back=2 * 7168)
FIELDS = ("copies_out", "distinct_out", "copies_in", "distinct_in", "local", "arrived")

PLACEMENTS = {
    "one rank": place(12, 1),
    "even": place(12, 4),
    "uneven": place(12, 4, (7, 1, 3, 5)),
    "replicas": place(12, 5, (4,)),
    "more ranks than experts": place(12, 17),
    "idle slots": place(3, 2, (5, 2)),
    "shares": weighted(12, 5, (4,), 0),
    "shares, uneven": weighted(12, 4, (7, 4, 3, 9), 1),
}
placed = pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)


def routed(placement: Placement, tokens: list[int], choices: int, seed: int = 0):
    generator = np.random.default_rng(seed)
    return [
        generator.random((count, placement.experts)).argsort(1)[:, :choices] for count in tokens
    ]


# ---- counted -----------------------------------------------------------------------------------


def counted_by_hand(chosen, placement):
    found = {field: np.zeros(placement.ranks) for field in FIELDS}
    for source, own in enumerate(chosen):
        for number, token in enumerate(own):
            targets = [placement.target(expert, source, number).rank for expert in token]
            for rank in targets:
                found["arrived"][rank] += 1
                found["local"][source] += rank == source
                found["copies_out"][source] += rank != source
                found["copies_in"][rank] += rank != source
            for rank in set(targets) - {source}:
                found["distinct_out"][source] += 1
                found["distinct_in"][rank] += 1
    return found


@placed
def test_a_routing_is_counted_as_by_hand(placement):
    tokens = [(3 * rank) % 7 for rank in range(placement.ranks)]
    chosen = routed(placement, tokens, 3)
    found, wanted = traffic_of(chosen, placement), counted_by_hand(chosen, placement)
    assert found.tokens.tolist() == tokens
    for field in FIELDS:
        assert getattr(found, field).tolist() == wanted[field].tolist(), field


def test_bytes_and_messages():
    """Rank 0 has experts 0 and 1, rank 1 has 2 and 3; both tokens are of rank 0."""
    placement = Placement(4, ((0, 1), (2, 3)))
    chosen = [np.array([[2, 3], [0, 2]]), np.empty((0, 2), int)]
    found = traffic_of(chosen, placement)
    each = CopyBytes(100, 1, 1000)
    assert found.messages().tolist() == [3, 3]
    assert found.messages(deduplicated=True).tolist() == [2, 2]
    assert found.bytes_out(each).tolist() == [303, 3000]
    assert found.bytes_in(each).tolist() == [3000, 303]
    assert found.bytes_out(each, deduplicated=True).tolist() == [203, 2000]


# ---- expected ----------------------------------------------------------------------------------


@placed
def test_expected_is_what_many_balanced_tokens_give(placement):
    tokens, choices = 60_000 // placement.ranks, min(3, placement.experts - 1)
    found = traffic_of(routed(placement, [tokens] * placement.ranks, choices), placement)
    wanted = expected_traffic(tokens, choices, placement)
    for field in FIELDS:
        error = np.abs(getattr(found, field) - getattr(wanted, field)).max()
        assert error <= 6 * np.sqrt(max(getattr(wanted, field).max(), 1)), field


def test_what_is_sent_is_received():
    for placement in PLACEMENTS.values():
        held = expected_traffic(10, 2, placement)
        assert held.copies_out.sum() == pytest.approx(held.copies_in.sum())
        assert held.distinct_out.sum() == pytest.approx(held.distinct_in.sum())
        assert held.arrived.sum() == pytest.approx(20 * placement.ranks)
        assert (held.distinct_out <= held.copies_out + 1e-9).all()


@pytest.mark.parametrize("ranks, distinct", [(32, 5.58), (64, 5.81), (384, 6.00)])
def test_distinct_ranks_of_v4_pro(ranks, distinct):
    """Equal groups: P (1 - C(E - E/P, k) / C(E, k)), E = 384, k = 6."""
    share = chosen_chance(np.full(ranks, 384 // ranks), 384, 6)
    assert share.sum() == pytest.approx(distinct, abs=0.005)
    held = expected_traffic(1, 6, place(384, ranks))
    assert held.distinct_out[0] == pytest.approx(distinct * (1 - 1 / ranks), abs=0.005)


def test_chances_at_the_ends():
    assert chosen_chance(np.array([0, 1, 8, 9, 10]), 10, 2).tolist() == pytest.approx(
        [0, 0.2, 1 - 1 / 45, 1, 1]
    )
    many = chosen_chance(np.array([1]), 10**9, 8)
    assert many[0] == pytest.approx(8e-9, rel=1e-12)


def test_thousands_of_ranks_are_counted_exactly():
    """8,192 ranks with two slots: 42 or 43 copies of each expert, all ranks about alike."""
    placement = place(384, 8192, (2,))
    held = expected_traffic(64, 6, placement)
    assert held.arrived.sum() == pytest.approx(8192 * 64 * 6)
    # Where every expert that a rank sends to is on a rank of its own, all choices are distinct.
    assert held.distinct_out.max() == pytest.approx(64 * 6, rel=1e-12)
    assert held.distinct_out.mean() < 64 * 6 - 0.5
    assert 5.98 < held.distinct_out.mean() / 64 < 6
    assert imbalance(held) == pytest.approx(1.20, abs=0.03)


# ---- as text -----------------------------------------------------------------------------------


def test_the_table_stands_beside_the_usual_quote():
    """B = 64, top 6: 768 messages of 7 and 14 KB are quoted."""
    lines = traffic_table(expected_traffic(64, 6, place(384, 32)), PRO).splitlines()
    assert lines[0].startswith("expert traffic of the average rank in one layer, 64 tokens, ")
    assert "top 6; a row is" in lines[0]
    assert lines[2].split()[-3:] == ["768.0", "8.06", "6.00"]
    messages, sent, largest, targets = map(float, lines[3].split()[-4:])
    assert messages == pytest.approx(768 * 31 / 32, abs=0.1)
    assert sent == pytest.approx(messages / 2 * (7224 + 12 + 14336) / 1e6, abs=0.01)
    assert largest == sent and targets == pytest.approx(6 * 31 / 32, abs=0.01)
    assert float(lines[4].split()[-1]) == pytest.approx(5.58 * 31 / 32, abs=0.01)
    told = re.search(
        r"the fullest rank has 1\.11 times as many, ([0-9.,]+) messages of choices$", lines[5]
    )
    assert told is not None
    tail = imbalance(expected_traffic(64, 6, place(384, 32)))
    assert float(told[1]) == pytest.approx(768 * 31 / 32 * tail, abs=0.1)


def test_no_tokens():
    held = expected_traffic(0, 6, place(384, 32))
    assert imbalance(held) == 1
    assert traffic_table(held, PRO)
    empty = traffic_of([np.empty((0, 6), int)] * 2, place(8, 2))
    assert empty.arrived.tolist() == [0, 0]


# ---- domains -----------------------------------------------------------------------------------

# Experts 384, 6 choices: ranks, ranks of a domain, distinct ranks, distinct domains.
REACHED = [
    *((32, 8, 5.58, 3.30), (64, 8, 5.81, 4.43), (384, 8, 6.00, 5.73)),
    *((384, 16, 6.00, 5.44), (8192, 64, 6.00, 5.92)),
]


@pytest.mark.parametrize(("ranks", "domain", "devices", "domains"), REACHED)
def test_distinct_targets_of_a_token(ranks, domain, devices, domains):
    assert distinct_targets(384, ranks, 6) == pytest.approx(devices, abs=0.005)
    assert distinct_targets(384, ranks / domain, 6) == pytest.approx(domains, abs=0.005)
    both = distinct_targets(384, np.array([ranks, ranks / domain]), 6)
    assert both == pytest.approx([devices, domains], abs=0.005)


# Of them: what a hierarchical exchange saves of the rows that leave a domain.
@pytest.mark.parametrize(
    ("ranks", "domain", "saved"),
    [(32, 8, 1.69), (64, 8, 1.31), (384, 8, 1.05), (384, 16, 1.10), (8192, 64, 1.01)],
)
def test_rows_saved_by_one_copy_a_domain(ranks, domain, saved):
    ratio = distinct_targets(384, ranks, 6) / distinct_targets(384, ranks / domain, 6)
    assert ratio == pytest.approx(saved, abs=0.006)


def test_distinct_domains_as_drawn():
    """200,000 tokens, expert e in domain e mod 12: within 0.2 %."""
    drawn = np.random.default_rng(0).random((200_000, 96)).argpartition(6, axis=1)[:, :6]
    seen = np.zeros((len(drawn), 12), bool)
    np.put_along_axis(seen, drawn % 12, True, axis=1)
    assert seen.sum(1).mean() == pytest.approx(distinct_targets(96, 12, 6), rel=2e-3)


@placed
@pytest.mark.parametrize("devices", [1, 2, 3])
def test_what_leaves_and_enters_domains(placement, devices):
    chosen = routed(placement, [5] * placement.ranks, 3, seed=1)
    found = traffic_of(chosen, placement, devices)
    out, copies = np.zeros(placement.ranks), np.zeros(placement.ranks)
    entered = np.zeros(-(-placement.ranks // devices))
    for source, own in enumerate(chosen):
        for number, token in enumerate(own):
            ranks = [placement.target(expert, source, number).rank for expert in token]
            targets = [rank // devices for rank in ranks]
            others = [target for target in targets if target != source // devices]
            copies[source] += len(others)
            out[source] += len(set(others))
            for target in set(others):
                entered[target] += 1
    assert found.distinct_out.tolist() == out.tolist()
    assert found.copies_out.tolist() == copies.tolist()
    assert found.distinct_in.sum() == pytest.approx(entered.sum())
    assert found.distinct_in[0] == pytest.approx(entered[0] / min(devices, placement.ranks))


def test_a_hash_routed_layer_is_counted_from_its_table():
    placement = place(12, 4)
    table = np.random.default_rng(2).random((50, 12)).argsort(1)[:, :3]
    ids = [np.array([3, 3, 49]), np.array([], int), np.array([7]), np.array([0, 1])]
    found = hashed_traffic(table, ids, placement)
    assert found.arrived.tolist() == traffic_of([table[i] for i in ids], placement).arrived.tolist()
    assert found.arrived.sum() == 6 * 3
