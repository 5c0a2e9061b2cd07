"""Places of tiles: of a small product by hand, and sound ones for any kernel."""

import pytest
from hypothesis import given, settings, strategies as st
from tile_checks import drawn_texts, kernels_in, product, tiled
from xdsl.dialects.builtin import ArrayAttr

from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.text import HEADER, parse_module, print_module
from supertile.ir.tile_check import problems
from supertile.ir.tile_places import peaks, placed_values, tile_bytes
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.passes.tile_layout import ORDERS, Buffer, Span, _can_join

FULL = "l0c=2048 l1=6144 ub=2048"


def assigned(text, pipeline="pipeline-loops,assign-memory"):
    module = tiled(text)
    run_passes(module, parse_pipeline(pipeline))
    return module


def places_of(module):
    """Value name -> (space, offset, bytes, copies)."""
    (kernel,) = kernels_in(module)
    values = placed_values(kernel)
    assert kernel.places is not None
    held = zip(values, kernel.places, strict=True)
    return {value.name_hint: place.fields() for value, place in held}


# ---- a small product ---------------------------------------------------------------------------


def test_before_and_after():
    """The sum has one place all through the loop; loads have a copy for each step in flight."""
    module = assigned(product())
    total, vector = ("l0c", 0, 2048, 1), ("ub", 0, 2048, 1)
    assert places_of(module) == {
        "zero": total, "sum": total, "old": total, "new": total,
        "a": ("l1", 4096, 1024, 2), "b": ("l1", 0, 2048, 2), "z": vector,
    }  # fmt: skip
    (kernel,) = kernels_in(module)
    assert peaks(kernel) == {"l0c": 2048, "l1": 6144, "ub": 2048}


def test_the_text_keeps_the_places():
    module = assigned(product(), f'assign-memory{{memory="{FULL}"}}')
    printed = print_module(module)
    assert printed.startswith(HEADER)
    assert print_module(parse_module(printed)) == printed
    assert "supertile.tile_memory = {l0c = 2048 : i64, l1 = 6144 : i64, ub = 2048 : i64}" in printed
    assert '#tile.place<"l1", 0, 2048, 1>' in printed


def test_what_fits_exactly_fits():
    assigned(product(), f'pipeline-loops,assign-memory{{memory="{FULL}"}}')


@pytest.mark.parametrize("space", ["l0c", "l1", "ub"])
def test_one_byte_less_does_not(space):
    words = dict(word.split("=") for word in FULL.split())
    less = " ".join(f"{k}={int(v) - (k == space)}" for k, v in words.items())
    with pytest.raises(UserError) as caught:
        assigned(product(), f'pipeline-loops,assign-memory{{memory="{less}"}}')
    assert str(caught.value).splitlines() == [
        "error: the tiles of the kernel k do not fit: test.mlir:3:3",
        f"  expected: {space} to hold {words[space]} bytes",
        f"  found: {int(words[space]) - 1} bytes",
        "  try: give choose-tiles the capacities of this machine, or less",
    ]


def test_uses_that_name_one_space_share_it():
    shared = (
        product().replace('"l1"', '"smem"').replace('"l0c"', '"smem"').replace('"ub"', '"smem"')
    )
    (kernel,) = kernels_in(assigned(shared))
    # The sum and two copies of both operands; the result of exp takes the place of the sum.
    assert peaks(kernel) == {"smem": 2048 + 6144}


def test_elementwise_results_take_the_place_of_an_operand_that_ends():
    chain = product().replace(
        "%z = graph.exp %sum : (tensor<16x32xf32>) -> tensor<16x32xf32>",
        """%e = graph.exp %sum : (tensor<16x32xf32>) -> tensor<16x32xf32>
      %n = graph.cast %e : (tensor<16x32xf32>) -> tensor<16x32xbf16>
      %m = graph.silu %n : (tensor<16x32xbf16>) -> tensor<16x32xbf16>
      %z = graph.add %m, %m : (tensor<16x32xbf16>, tensor<16x32xbf16>) -> tensor<16x32xf32>""",
    )
    places = places_of(assigned(chain))
    assert places["e"] == ("ub", 0, 2048, 1)
    assert places["n"] == places["m"] == ("ub", 0, 1024, 1)
    # Wider than what it is made of: beside it, where the rest of %e was.
    assert places["z"] == ("ub", 1024, 2048, 1)


def test_an_operand_that_is_read_later_keeps_its_place():
    twice = product().replace(
        "%z = graph.exp %sum : (tensor<16x32xf32>) -> tensor<16x32xf32>",
        """%e = graph.exp %sum : (tensor<16x32xf32>) -> tensor<16x32xf32>
      %s = graph.silu %e : (tensor<16x32xf32>) -> tensor<16x32xf32>
      %z = graph.add %s, %e : (tensor<16x32xf32>, tensor<16x32xf32>) -> tensor<16x32xf32>""",
    )
    places = places_of(assigned(twice))
    assert places["e"] != places["s"]
    assert places["z"] == places["s"]


# ---- any kernel --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(drawn_texts(), st.integers(1, 3))
def test_tiles_keep_their_places_while_they_are_used(text, stages):
    """The driver runs the checker, which knows nothing of how places are found."""
    module = parse_module(text)
    run_passes(module, parse_pipeline(f"pipeline-loops{{stages={stages}}},assign-memory"))
    (kernel,) = kernels_in(module)
    assert kernel.places is not None
    assert not list(problems(kernel))
    # Never more than a place of its own for each tile.
    most = sum(tile_bytes(value) * stages for value in placed_values(kernel))
    assert sum(peaks(kernel).values()) <= most


@settings(max_examples=10, deadline=None)
@given(drawn_texts())
def test_the_same_kernel_gets_the_same_places(text):
    module, again = parse_module(text), parse_module(text)
    run_passes(module, parse_pipeline("pipeline-loops,assign-memory"))
    run_passes(again, parse_pipeline("pipeline-loops,assign-memory"))
    assert print_module(module) == print_module(again)


@settings(max_examples=40, deadline=None)
@given(drawn_texts(), st.data())
def test_the_checker_notices_a_tile_that_is_moved(text, data):
    """A byte further on, the last place of a space ends elsewhere than the peak says."""
    module = parse_module(text)
    run_passes(module, parse_pipeline("pipeline-loops,assign-memory"))
    (kernel,) = kernels_in(module)
    assert kernel.places is not None
    places = list(kernel.places)
    last = [n for n, held in enumerate(places) if held.end() == peaks(kernel)[held.space.data]]
    number = data.draw(st.sampled_from(last))
    space, offset, size, copies = places[number].fields()
    places[number] = tile.PlaceAttr.of(space, offset + 1, size, copies)
    kernel.properties["places"] = ArrayAttr(places)
    assert list(problems(kernel))


# ---- lifetimes and orders by hand --------------------------------------------------------------


def test_the_length_of_a_buffer_counts_the_ops_of_its_spans() -> None:
    assert Buffer("l1", spans=[Span(3, 3, 8), Span(5, 9, 16)]).length == 1 + 5
    assert Buffer("l1", spans=[Span(3, 3, 8), Span(5, 9, 16)]).bytes == 16


def test_orders_go_by_size_by_length_and_by_both() -> None:
    held = Buffer("l1", spans=[Span(4, 6, 8), Span(1, 2, 24)])
    assert [rank(held) for rank in ORDERS] == [(-24, 4, -5), (-5, -24, 4), (-120, -24, 4)]


@pytest.mark.parametrize(("copies", "joins"), [((1, 1), True), ((1, 2), False), ((2, 1), False)])
def test_what_is_made_ahead_shares_no_place(copies: tuple[int, int], joins: bool) -> None:
    first, second = (Buffer("l1", one) for one in copies)
    assert _can_join(first, second, [], {}) is joins
    assert not _can_join(Buffer("l1"), Buffer("l0c"), [], {})
