"""Where experts live: how they are dealt, which copy a token goes to, and what is no placement."""

import re

import pytest
from hypothesis import given, strategies as st

from supertile.ir.comm import Dispatch
from supertile.ir.errors import UserError
from supertile.ir.placement import (
    IDLE,
    WHOLE,
    Placement,
    PlacementAttr,
    Slot,
    place,
    placement_table,
)
from supertile.ir.text import parse_module, print_module

# (experts, ranks, slots) -> what each rank holds
DEALT = {
    "one each": ((4, 4, ()), ((0,), (1,), (2,), (3,))),
    "on one rank, in order": ((4, 1, ()), ((0, 1, 2, 3),)),
    "as few slots as will do, replicas in the rest": ((5, 2, ()), ((0, 2, 4), (1, 3, 0))),
    "uneven": ((8, 4, (3, 1, 2, 2)), ((0, 4, 7), (1,), (2, 5), (3, 6))),
    "one number for all": ((4, 2, (3,)), ((0, 2, 1), (1, 3, 0))),
    "more ranks than experts": ((3, 5, ()), ((0,), (1,), (2,), (0,), (1,))),
    "more slots than experts": ((2, 2, (3, 1)), ((0, 1, IDLE), (1,))),
}


@pytest.mark.parametrize("asked, held", DEALT.values(), ids=DEALT)
def test_experts_are_dealt_like_cards(asked, held):
    assert place(*asked).slots == held


@given(st.integers(1, 12), st.lists(st.integers(1, 6), min_size=1, max_size=9).filter(lambda s: s))
def test_every_expert_has_a_slot_and_every_slot_an_expert_that_the_rank_lacks(experts, slots):
    if sum(slots) < experts:
        slots = [*slots, experts]
    placement = place(experts, len(slots), slots if len(slots) > 1 else (slots[0],))
    assert [len(held) for held in placement.slots] == slots
    for rank, held in enumerate(placement.slots):
        real = placement.held(rank)
        assert len(set(real)) == len(real) == min(len(held), experts)
    assert all(placement.copies)


def test_tokens_go_to_the_copy_of_their_rank_modulo_the_copies():
    placement = place(3, 5)
    assert placement.copies[0] == (Slot(0, 0), Slot(3, 0))
    assert [placement.target(0, source).rank for source in range(5)] == [0, 3, 0, 3, 0]
    assert [placement.target(2, source).rank for source in range(5)] == [2] * 5


SPLIT = Placement(2, ((0, 1), (0,), (0,)), ((WHOLE // 2, WHOLE), (WHOLE // 8,), (WHOLE * 3 // 8,)))


def test_tokens_split_as_the_shares_say():
    """The first copy takes the numbers below its share, the next those below both shares."""
    for source in range(3):
        ends = [WHOLE // 2, WHOLE * 5 // 8, WHOLE]
        for token in range(50):
            value = (token * 2654435769 + source * 1779033703) % 2**32
            wanted = next(rank for rank, end in enumerate(ends) if value < end)
            assert SPLIT.target(0, source, token) == Slot(wanted, 0)
            assert SPLIT.target(1, source, token) == Slot(0, 1)


@given(st.integers(0, 2**20 - 1), st.integers(0, 10_000), st.integers(1, 400))
def test_few_tokens_in_a_row_split_as_the_shares_say(source, start, count):
    """Within one token or two of its share: a random choice would be off by the root of as many."""
    ranks = [SPLIT.target(0, source, token).rank for token in range(start, start + count)]
    for rank, share in enumerate((1 / 2, 1 / 8, 3 / 8)):
        assert abs(ranks.count(rank) - share * count) < 3


@given(st.integers(0, 1000), st.integers(0, 10_000), st.integers(1, 400))
def test_one_token_of_each_of_many_ranks_splits_so_too(token, start, count):
    ranks = [SPLIT.target(0, source, token).rank for source in range(start, start + count)]
    for rank, share in enumerate((1 / 2, 1 / 8, 3 / 8)):
        assert abs(ranks.count(rank) - share * count) < 4


def test_an_op_lists_no_shares():
    with pytest.raises(ValueError, match="cannot list the shares"):
        PlacementAttr.of(SPLIT)


# (experts, ranks, slots) -> what the error says
REFUSED = {
    (8, 4, (1,)): "there are more experts than slots.*found: 4.*slots=2",
    (7, 3, (3, 1, 2)): "at least 7 slots.*found: 6.*slots=4,1,2",
    (8, 4, (2, 2, 4)): "not every rank gets its slots.*found: 3 numbers",
    (8, 2, (8, 0)): "not every rank gets its slots.*found: 0 slots",
    (8, 0, ()): "1 to 1048576 ranks.*found: 0",
    (8, 2**30, ()): "1 to 1048576 ranks",
}


@pytest.mark.parametrize("asked, told", REFUSED.items(), ids=str)
def test_what_does_not_fit_is_refused_with_the_nearest_that_does(asked, told):
    with pytest.raises(UserError, match=re.compile(told, re.DOTALL)):
        place(*asked)


# slots that are no placement of 3 experts -> why
WRONG = {
    ((0, 1), (1,)): "1 of 3 experts have no slot",
    ((0, 1, 2), (IDLE,)): "rank 1 holds no expert",
    ((IDLE, 0), (1, 2)): "idle slots come last",
    ((0, 0, 1), (2,)): "rank 0 holds an expert twice",
    ((0, 1), (2, 3)): "experts are 0 to 2",
    ((0, 1), (2, -2)): "experts are 0 to 2",
}


@pytest.mark.parametrize("slots, why", WRONG.items(), ids=str)
def test_what_is_no_placement(slots, why):
    with pytest.raises(ValueError, match=why):
        Placement(3, slots)


# ---- in IR -------------------------------------------------------------------------------------

X, CHOSEN, WEIGHT = "tensor<4x8xf32>", "tensor<4x2xi32>", "tensor<4x2xf32>"
TEXT = f"""// supertile IR 1
builtin.module {{
  func.func @f(%x: {X}, %c: {CHOSEN}, %w: {WEIGHT}) {{
    %r, %g, %n, %o = comm.dispatch %x, %c, %w {{placement = #comm.placement<3, PLACED>}} : \
({X}, {CHOSEN}, {WEIGHT}) -> (tensor<?x8xf32>, tensor<?xf32>, tensor<COUNTxi32>, tensor<?x2xi32>)
    func.return
  }}
}}
"""


def text(placed: str, count: int = 2) -> str:
    return TEXT.replace("PLACED", placed).replace("COUNT", str(count))


def test_a_placement_in_text_reads_back():
    module = parse_module(text("[[0, 2], [1, -1]]"))
    dispatch = next(op for op in module.walk() if isinstance(op, Dispatch))
    assert dispatch.placement.placement == Placement(3, ((0, 2), (1, IDLE)))
    assert dispatch.placement == PlacementAttr.of(Placement(3, ((0, 2), (1, IDLE))))
    assert print_module(parse_module(print_module(module))) == print_module(module)


@pytest.mark.parametrize(
    "asked, written",
    [
        ((384, 8192), "<384, dealt [[1, 8192]]>"),
        ((384, 384, (2,) * 100 + (1,) * 284), "<384, dealt [[2, 100], [1, 284]]>"),
        ((2, 66, (3,)), "<2, dealt [[3, 66]]>"),
    ],
)
def test_of_many_ranks_the_text_says_how_they_are_dealt(asked, written):
    attribute = PlacementAttr.of(place(*asked))
    assert str(attribute) == f"#comm.placement{written}"
    runs, width = written.removesuffix(">").partition(", ")[2], attribute.placement.width
    read = parse_module(text(runs, width).replace("placement<3", f"placement<{asked[0]}"))
    dispatch = next(op for op in read.walk() if isinstance(op, Dispatch))
    assert dispatch.placement == attribute


def test_many_ranks_that_are_not_dealt_are_listed():
    dealt = place(2, 65).slots
    swapped = Placement(2, (dealt[1], dealt[0], *dealt[2:]))
    assert str(PlacementAttr.of(swapped)).startswith("#comm.placement<2, [[1], [0], [0], [1], ")


@pytest.mark.parametrize(
    "placed, count, told",
    [
        ("dealt [[1, 2]]", 1, "3 experts in 2 slots"),
        ("dealt [[1, 2, 3]]", 1, "how many slots how many ranks have"),
        ("dealt [[0, 4]]", 1, "how many slots how many ranks have"),
        ("dealt []", 1, "1 to 1048576 ranks, found 0"),
        ("dealt [[1, 99999999999]]", 1, "1 to 1048576 ranks"),
        ("[[0, 2], [99999999999999999999]]", 2, "out of range|format|too large"),
        ("[[0, 2], [0]]", 2, "1 of 3 experts have no slot"),
        ("[[0, 2], [1]]", 3, "result 2 of comm.dispatch has shape"),
        ("[[0, 2], 1]", 2, r"expected"),
    ],
)
def test_text_that_is_no_placement_is_refused(placed, count, told):
    with pytest.raises(UserError, match=told):
        parse_module(text(placed, count))


# ---- as text -----------------------------------------------------------------------------------


def test_the_table_shows_the_slots_of_each_rank():
    assert placement_table(place(2, 2, (3, 1))) == (
        "2 experts on 2 ranks: 4 slots (1 to 3 a rank), 1 replicas (1 to 2 copies an expert), "
        "1 idle\n"
        "  rank 0: 0 1, 1 idle\n"
        "  rank 1: 1"
    )


def test_the_table_of_many_ranks_is_short():
    table = placement_table(place(384, 8192)).splitlines()
    assert table[0].startswith("384 experts on 8192 ranks: 8192 slots (1 a rank), 7808 replicas")
    assert table[-2:] == ["  and 8184 more ranks", "  rank 8191: 127"]
    assert len(table) == 10
    assert placement_table(place(384, 4)).splitlines()[1] == (
        "  rank 0: 0 4 8 12 16 20 24 28 .. 352 356 360 364 368 372 376 380"
    )
