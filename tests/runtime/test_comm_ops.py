"""Each comm op against a loop over ranks and tokens, and against the op of the graph dialect."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from placement_plans import weighted

from supertile.ir import comm
from supertile.ir.placement import IDLE, Placement, place
from supertile.runtime import comm_ops, graph_ops
from supertile.runtime.numerics import quantize_blocks

CHANNELS = 4
SLOTS = {
    "one rank": (6, 1, ()),
    "even": (6, 3, ()),
    "uneven": (6, 3, (1, 4, 2)),
    "replicas": (6, 4, (3,)),
    "idle slots": (3, 2, (5, 2)),
    "more ranks than experts": (3, 5, ()),
}

PLACEMENTS = {name: place(*asked) for name, asked in SLOTS.items()} | {
    "shares": weighted(6, 4, (3, 4, 2, 5), 0),
    "shares, idle slots": weighted(3, 2, (5, 2), 1),
    "shares, more ranks than experts": weighted(3, 5, (2,), 2),
}
placed = pytest.mark.parametrize("placement", PLACEMENTS.values(), ids=PLACEMENTS)


def routing(placement: Placement, tokens: list[int], choices: int = 2, seed: int = 0):
    """x, chosen, weight of each rank: whole numbers, so that no sum is rounded."""
    generator = np.random.default_rng(seed)
    chosen = [
        generator.random((count, placement.experts)).argsort(1)[:, :choices].astype(np.int32)
        for count in tokens
    ]
    x = [generator.integers(-9, 9, (count, CHANNELS)).astype(np.float32) for count in tokens]
    weight = [generator.random((count, choices)).astype(np.float32) for count in tokens]
    return x, chosen, weight


def dispatched(placement, x, chosen, weight):
    return comm_ops.dispatch(x, chosen, weight, placement)


def tokens_of(placement: Placement) -> list[int]:
    """Uneven, and none on the last of several ranks."""
    last = 0 if placement.ranks > 1 else 4
    return [*(5, 2, 7, 1, 3)[: placement.ranks - 1], last]


def test_the_table_has_every_op_in_the_order_of_the_dialect():
    assert list(comm_ops.FUNCTIONS) == list(comm.OPS)


@placed
def test_rows_come_to_the_slot_of_their_expert(placement):
    x, chosen, weight = routing(placement, tokens_of(placement))
    wanted = [[[] for _ in range(placement.width)] for _ in range(placement.ranks)]
    for source, own in enumerate(chosen):
        for token in range(len(own)):
            for choice, expert in enumerate(own[token]):
                rank, slot = placement.target(expert, source, token)
                wanted[rank][slot].append((source, token, choice))
    for rank, found in enumerate(dispatched(placement, x, chosen, weight)):
        rows, row_weight, counts, origin = found
        flat = [item for slot in wanted[rank] for item in slot]
        assert counts.tolist() == [len(slot) for slot in wanted[rank]]
        assert origin.tolist() == [[s, t * 2 + k] for s, t, k in flat]
        assert rows.tolist() == [x[s][t].tolist() for s, t, _ in flat]
        assert row_weight.tolist() == [weight[s][t, k] for s, t, k in flat]


@placed
def test_rows_come_back_to_their_tokens(placement):
    """Every expert multiplies by its number and one: a sum that any wrong way would change."""
    x, chosen, weight = routing(placement, tokens_of(placement))
    sent = dispatched(placement, x, chosen, weight)
    worked = [
        rows * np.repeat([1.0 + e for e in padded(placement, rank)], counts)[:, None]
        for rank, (rows, _, counts, _) in enumerate(sent)
    ]
    back = comm_ops.combine(worked, [origin for *_, origin in sent], chosen)
    for own, picked, (found,) in zip(x, chosen, back, strict=True):
        assert found.tolist() == (own * (1 + picked).sum(1, keepdims=True)).tolist()


def padded(placement: Placement, rank: int) -> list[int]:
    held = placement.held(rank)
    return [*held, *[IDLE] * (placement.width - len(held))]


@settings(max_examples=25)
@given(st.integers(0, 9), st.integers(1, 4), st.integers(0, 1000))
def test_on_one_rank_they_are_the_ops_of_graph_to_the_bit(tokens, choices, seed):
    placement = place(6, 1)
    x, chosen, weight = routing(placement, [tokens], choices, seed)
    ((rows, row_weight, counts, origin),) = dispatched(placement, x, chosen, weight)
    plain = graph_ops.dispatch(x[0], chosen[0], weight[0], 6)
    for found, wanted in zip((rows, row_weight, counts, origin[:, 1]), plain, strict=True):
        assert np.array_equal(found, wanted)
    values = np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    ((summed,),) = comm_ops.combine([values], [origin], chosen)
    assert summed.tobytes() == graph_ops.combine(values, plain[3], choices).tobytes()


def test_a_token_is_summed_by_expert_wherever_its_rows_were():
    """1 + 2^-24 - 1 is 0 in float32 from the left, and 2^-24 from the right."""
    tiny = np.float32(2.0**-24)
    values = {0: np.float32(1), 1: tiny, 2: np.float32(-1)}
    placement = Placement(3, ((2,), (1,), (0,)))
    chosen = [np.array([[2, 0, 1]], np.int32), *[np.empty((0, 3), np.int32)] * 2]
    x = [np.zeros((len(own), 1), np.float32) for own in chosen]
    weight = [np.zeros(own.shape, np.float32) for own in chosen]
    sent = dispatched(placement, x, chosen, weight)
    worked = [np.full(rows.shape, values[2 - rank]) for rank, (rows, *_) in enumerate(sent)]
    back = comm_ops.combine(worked, [origin for *_, origin in sent], chosen)
    assert back[0][0].tolist() == [[0.0]]


def test_codes_travel_with_their_scales():
    placement = place(4, 2)
    x, chosen, weight = routing(placement, [3, 2])
    codes = [quantize_blocks(held * 1.7, "f8e4m3", (1, 2)) for held in x]
    plain = [held.dequantize() for held in codes]
    scaled = dispatched(placement, codes, chosen, weight)
    for (found, *_), (wanted, *_) in zip(
        scaled, dispatched(placement, plain, chosen, weight), strict=True
    ):
        assert np.array_equal(found.dequantize(), wanted)


def test_no_tokens_anywhere():
    placement = place(4, 2)
    x, chosen, weight = routing(placement, [0, 0])
    sent = dispatched(placement, x, chosen, weight)
    assert [counts.tolist() for _, _, counts, _ in sent] == [[0, 0], [0, 0]]
    back = comm_ops.combine(x, [origin for *_, origin in sent], chosen)
    assert [held.shape for (held,) in back] == [(0, CHANNELS)] * 2


@pytest.mark.parametrize("wrong", [-1, 6])
def test_a_choice_that_is_no_expert(wrong):
    placement = place(6, 2)
    x, chosen, weight = routing(placement, [1, 1])
    chosen[1][0, 0] = wrong
    with pytest.raises(IndexError, match=f"expert {wrong} of 6"):
        dispatched(placement, x, chosen, weight)


def test_rows_that_do_not_come_back():
    placement = place(6, 2)
    x, chosen, weight = routing(placement, [2, 1])
    sent = dispatched(placement, x, chosen, weight)
    rows, origin = [held[0][1:] for held in sent], [held[3][1:] for held in sent]
    with pytest.raises(ValueError, match="rows come back to rank"):
        comm_ops.combine(rows, origin, chosen)


def test_a_placement_for_other_ranks():
    x, chosen, weight = routing(place(6, 2), [2, 1])
    with pytest.raises(ValueError, match="experts on 3 ranks, tokens of 2"):
        dispatched(place(6, 3), x, chosen, weight)


# ---- groups ------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 9))
def test_what_is_shared_is_gathered_again(ranks, groups, tokens):
    """Groups have rows of their own; the first ranks of a group have one more."""
    rows = [np.arange(tokens * 2.0).reshape(tokens, 2) + 100 * g for g in range(groups)]
    x = [rows[rank // ranks] for rank in range(ranks * groups)]
    parts = [held for (held,) in comm_ops.share(x, ranks)]
    counts = [len(held) for held in parts[:ranks]]
    assert counts == sorted(counts, reverse=True) and counts[0] - counts[-1] <= 1
    whole = comm_ops.all_gather(parts, x, ranks)
    assert all(np.array_equal(found, held) for (found,), held in zip(whole, x, strict=True))


def test_codes_are_shared_with_their_scales():
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    codes = quantize_blocks(x, "f8e4m3", (1, 4))
    first, second = (held for (held,) in comm_ops.share([codes, codes], 2))
    assert np.array_equal(first.dequantize(), codes.dequantize()[:2])
    assert np.array_equal(second.dequantize(), codes.dequantize()[2:])


def test_a_group_adds_in_the_order_of_its_ranks():
    """1 + 2^-24 + 2^-24 is 1 from the left, and more from the right; all get the same."""
    values = [np.float32([v]) for v in (1, 2.0**-24, 2.0**-24, 5, 6, 7)]
    sums = [held.tolist() for (held,) in comm_ops.all_reduce(values, 3)]
    assert sums == [[1.0]] * 3 + [[18.0]] * 3
    assert values[0] == 1, "operands stay as they are"


def test_ranks_that_are_no_groups():
    with pytest.raises(ValueError, match="3 ranks do not fall into groups of 2"):
        comm_ops.all_reduce([np.zeros(1, np.float32)] * 3, 2)
    part = np.zeros((1, 1), np.float32)
    with pytest.raises(ValueError, match="2 rows are gathered of 3"):
        comm_ops.all_gather([part, part], [np.zeros((3, 1), np.float32)] * 2, 2)
