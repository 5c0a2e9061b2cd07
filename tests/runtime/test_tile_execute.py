"""Kernels with NumPy: order of blocks, what nobody stores, padding, limits, steps in flight."""

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir import tile
from supertile.ir.op import attribute_of
from supertile.ir.text import HEADER, parse_module
from supertile.runtime import tile_ops
from supertile.runtime.tile_execute import KernelPlan, extent_size

X, W, Y = "!tile.ref<tensor<?x?xf32>>", "!tile.ref<tensor<8x?xf32>>", "!tile.ref<tensor<?x8xf32>>"
TABLE, INDEX = "!tile.ref<tensor<?xi32>>", "tensor<4xi32>"
ROWS, SUM = "tensor<4x3xf32>", "tensor<4x8xf32>"


def segments(*sizes: int) -> str:
    return f"operandSegmentSizes = array<i32: {', '.join(map(str, sizes))}>"


def kernel(arguments: str, body: str, extents: str, results: int = 1):
    """A kernel whose last arguments are its results."""
    inputs = arguments.count("%") - results
    (made,) = parse_module(
        f"""{HEADER}
builtin.module {{
  tile.kernel {{extents = [{extents}], inputs = {inputs} : i64, kind = "test",
               reuses = array<i64: {", ".join(["-1"] * results)}>, sym_name = "k"}} : () -> () {{
  ^bb0({arguments}):
{body}
    tile.end : () -> ()
  }}
}}"""
    ).ops
    assert isinstance(made, tile.Kernel)
    return made


def over_rows(body: str, ref: str = "%x", kind: str = X, ragged: int = 0) -> str:
    """Blocks of four rows."""
    indices = "%group: index, %row: index, %stop: index" if ragged else "%row: index"
    return f"""
    tile.grid {ref} {{axes = array<i64: 0>, ragged = array<i64: {ragged}>,
                     steps = array<i64: 4>}} : ({kind}) -> () {{
    ^bb1({indices}):
{body}
      tile.end : () -> ()
    }}"""


def size(argument: int, axis: int = 0) -> str:
    return f'#tile.extent<"size", {argument}, {axis}, 1, 0>'


def same(first, second):
    """Bit for bit, NaN equal to NaN."""
    np.testing.assert_array_equal(first, second)


# ---- a product ---------------------------------------------------------------------------------

LOADS = f"""
        %a = tile.load %x, %row, %k {{axes = array<i64: 0, 1>, pad = 0.0 : f64, space = "l1",
             {segments(1, 0, 2, 0)}}} : ({X}, index, index) -> {ROWS}
        %b = tile.load %w, %k {{axes = array<i64: 1>, pad = 0.0 : f64, space = "l1",
             {segments(1, 0, 1, 0)}}} : ({W}, index) -> tensor<8x3xf32>"""
STORE = f"""
      tile.store %sum, %y, %row {{axes = array<i64: 0>, {segments(1, 1, 0, 1, 0)}}}
                 : ({SUM}, {Y}, index) -> ()"""


def product(store: str = STORE, between: str = ""):
    """x [m, k] times w [8, k], three columns of both at once."""
    body = f"""
      %zero = tile.fill {{space = "l0c", value = 0.0 : f64}} : () -> {SUM}
      %sum = tile.loop %w, %zero {{axis = 1 : i64, stages = 1 : i64, step = 3 : i64}}
             : ({W}, {SUM}) -> {SUM} {{
      ^bb2(%k: index, %old: {SUM}):
{LOADS}
        %new = tile.mma %a, %b, %old : ({ROWS}, tensor<8x3xf32>, {SUM}) -> {SUM}
{between}
        tile.end %new : ({SUM}) -> ()
      }}
{store}"""
    return kernel(f"%x: {X}, %w: {W}, %y: {Y}", over_rows(body), size(0))


def pipelined(made: tile.Kernel, stages: int) -> KernelPlan:
    """The kernel with so many steps in flight, whatever is sound."""
    for op in made.walk():
        if isinstance(op, tile.Loop):
            op.properties["stages"] = attribute_of(stages)
    return KernelPlan(made)


def operands(rows: int, columns: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    x, w = (rng.standard_normal((n, columns), dtype=np.float32) for n in (rows, 8))
    return [x, w]


def test_a_product_with_remainders():
    x, w = operands(9, 10)
    (found,) = KernelPlan(product()).launch([x, w])
    np.testing.assert_allclose(found, x @ w.T, rtol=1e-5, atol=1e-5)


def test_blocks_in_any_order_give_the_same():
    held, plan = operands(11, 7), KernelPlan(product())
    (forwards,) = plan.launch(held)
    orders = [lambda blocks: blocks[::-1], lambda blocks: blocks[1:] + blocks[:1]]
    blocks_of = tile_ops.blocks_of
    for order in orders:
        with patch.object(tile_ops, "blocks_of", lambda *grid, o=order: o(blocks_of(*grid))):
            same(plan.launch(held)[0], forwards)


def test_what_nobody_stores_is_nan():
    (found,) = KernelPlan(product(store="")).launch(operands(5, 3))
    assert found.shape == (5, 8)
    assert np.isnan(found).all()


def test_integers_that_nobody_stores_are_out_of_range():
    empty = kernel(f"%n: {TABLE}, %y: {TABLE}", "", size(0))
    (found,) = KernelPlan(empty).launch([np.arange(3, dtype=np.int32)])
    assert (found == np.iinfo(np.int32).min).all()


# ---- steps in flight ---------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 9), st.integers(0, 20), st.integers(2, 9))
def test_steps_in_flight_change_nothing(rows, columns, stages):
    """Fewer steps than stages, none at all, and many; the sums in the same order, bit for bit."""
    held = operands(rows, columns)
    (plain,) = pipelined(product(), 1).launch(held)
    (found,) = pipelined(product(), stages).launch(held)
    same(found, plain)


BACK = f"""
        %next = tile.rescale %k {{divisor = 1 : i64, factor = 1 : i64, offset = 3 : i64}}
                : (index) -> index
        tile.store %a, %x, %row, %next {{axes = array<i64: 0, 1>, {segments(1, 1, 0, 2, 0)}}}
                   : ({ROWS}, {X}, index, index) -> ()"""


def test_loads_really_run_ahead():
    """A step that overwrites what the next one loads: with two stages that comes too late."""
    x, w = operands(4, 6)
    (plain,) = pipelined(product(between=BACK), 1).launch([x.copy(), w])
    (ahead,) = pipelined(product(between=BACK), 2).launch([x.copy(), w])
    copied = np.concatenate([x[:, :3], x[:, :3]], axis=1)
    np.testing.assert_allclose(plain, copied @ w.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ahead, x @ w.T, rtol=1e-5, atol=1e-5)


def sums_by_number():
    """y[i] = sum over j of x[n[j]], four numbers at once: a gather waits for its numbers."""
    body = f"""
    tile.grid {{axes = array<i64>, ragged = array<i64>, steps = array<i64>}} : () -> () {{
    ^bb1:
      %zero = tile.fill {{space = "ub", value = 0.0 : f64}} : () -> tensor<8xf32>
      %sum = tile.loop %n, %zero {{axis = 0 : i64, stages = 1 : i64, step = 4 : i64}}
             : ({TABLE}, tensor<8xf32>) -> tensor<8xf32> {{
      ^bb2(%at: index, %old: tensor<8xf32>):
        %own = tile.load %n, %at {{axes = array<i64: 0>, pad = -1.0 : f64, space = "ub",
               {segments(1, 0, 1, 0)}}} : ({TABLE}, index) -> {INDEX}
        %rows = tile.gather %x, %own {{axes = array<i64>, pad = 0.0 : f64, space = "ub",
                {segments(1, 0, 1, 0, 0)}}} : ({Y}, {INDEX}) -> {SUM}
        %part = graph.reduce_sum %rows {{axis = 0 : i64}} : ({SUM}) -> tensor<8xf32>
        %new = graph.add %old, %part : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
        tile.end %new : (tensor<8xf32>) -> ()
      }}
      tile.store %sum, %y {{axes = array<i64>, {segments(1, 1, 0, 0, 0)}}}
                 : (tensor<8xf32>, !tile.ref<tensor<8xf32>>) -> ()
      tile.end : () -> ()
    }}"""
    return kernel(f"%x: {Y}, %n: {TABLE}, %y: !tile.ref<tensor<8xf32>>", body, "")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-1, 6), max_size=15), st.integers(2, 4))
def test_gathers_run_ahead_with_their_numbers(numbers, stages):
    x = np.random.default_rng(1).standard_normal((7, 8), dtype=np.float32)
    held = [x, np.array(numbers, dtype=np.int32)]
    (plain,) = pipelined(sums_by_number(), 1).launch(held)
    (found,) = pipelined(sums_by_number(), stages).launch(held)
    same(found, plain)
    wanted = x[[n for n in numbers if n >= 0]].sum(axis=0, dtype=np.float32)
    np.testing.assert_allclose(plain, wanted, rtol=1e-5, atol=1e-5)


# ---- edges -------------------------------------------------------------------------------------


def copy(limit: str = "", pad: float = 0.0, ragged: int = 0, bounded: bool = False):
    """Rows of x into y; only the load has the limit, or with `bounded` the store as well."""
    ref, kind = ("%n", TABLE) if ragged else ("%x", Y)
    count = 1 if limit else 0
    more, index = (f", {limit}", ", index") if limit else ("", "")
    body = f"""
      %a = tile.load %x, %row{more} {{axes = array<i64: 0>, pad = {pad} : f64, space = "ub",
           {segments(1, 0, 1, count)}}} : ({Y}, index{index}) -> {SUM}
      tile.store %a, %y, %row{more if bounded else ""} {{axes = array<i64: 0>,
                 {segments(1, 1, 0, 1, count if bounded else 0)}}}
                 : ({SUM}, {Y}, index{index if bounded else ""}) -> ()"""
    return kernel(f"%x: {Y}, %n: {TABLE}, %y: {Y}", over_rows(body, ref, kind, ragged), size(0))


def numbered(rows: int):
    return np.arange(rows * 8, dtype=np.float32).reshape(rows, 8)


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 11])
def test_what_lies_beyond_a_reference_is_dropped(rows):
    x = numbered(rows)
    (found,) = KernelPlan(copy()).launch([x, np.zeros(0, np.int32)])
    same(found, x)


def test_rows_from_the_limit_on_are_padded_and_not_stored():
    """Groups of 3, 0 and 6 rows: no block has rows of two groups."""
    x, counts = numbered(9), np.array([3, 0, 6], dtype=np.int32)
    bounded = copy(limit="%stop", ragged=1, bounded=True)
    (found,) = KernelPlan(bounded).launch([x, counts])
    same(found, x)
    # Without a limit the store of the first group reaches into the second: the pad shows.
    unbounded = copy(limit="%stop", pad=7.0, ragged=1)
    blocks_of = tile_ops.blocks_of
    with patch.object(tile_ops, "blocks_of", lambda *grid: blocks_of(*grid)[::-1]):
        (found,) = KernelPlan(unbounded).launch([x, counts])
    assert (found[3] == 7.0).all()
    same(found[:3], x[:3])
    same(found[4:], x[4:])


def test_row_numbers_of_minus_one_come_from_nowhere_and_go_nowhere():
    body = f"""
      %own = tile.load %n, %row {{axes = array<i64: 0>, pad = -1.0 : f64, space = "ub",
             {segments(1, 0, 1, 0)}}} : ({TABLE}, index) -> {INDEX}
      %rows = tile.gather %x, %own {{axes = array<i64>, pad = 5.0 : f64, space = "ub",
              {segments(1, 0, 1, 0, 0)}}} : ({Y}, {INDEX}) -> {SUM}
      tile.store %rows, %y, %row {{axes = array<i64: 0>, {segments(1, 1, 0, 1, 0)}}}
                 : ({SUM}, {Y}, index) -> ()
      tile.scatter %rows, %z, %own {{axes = array<i64>, {segments(1, 1, 0, 1, 0, 0)}}}
                   : ({SUM}, {Y}, {INDEX}) -> ()"""
    arguments = f"%x: {Y}, %n: {TABLE}, %y: {Y}, %z: {Y}"
    made = kernel(arguments, over_rows(body, "%n", TABLE), f"{size(1)}, {size(0)}", results=2)
    x, numbers = numbered(6), np.array([4, -1, 0, 3, -1, 5], dtype=np.int32)
    taken, given_back = KernelPlan(made).launch([x, numbers])
    same(taken, np.where(numbers[:, None] >= 0, x[numbers], np.float32(5)))
    for row in range(6):
        assert np.isnan(given_back[row]).all() != (row in numbers)
    same(given_back[[0, 3, 4, 5]], x[[0, 3, 4, 5]])


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        (("size", 0, 0, 1, 0), 6),
        (("size", 0, 1, 3, 2), 3 * 4 + 2),
        (("most", 1, 0, 1, 8), 3 + 8),  # the number 2 comes three times
        (("most", 2, 0, 5, 1), 1),  # of none
        (("parts", 0, 4, 2, -1), 2 * (6 // 4) - 1),
        (("windows", 1, 3, 1, 0), 3),  # positions 2, 2, 2 end a window of three
        (("windows", 1, 2, 2, 1), 2 * 1 + 1),
    ],
)
def test_sizes_of_a_launch_by_hand(fields, size):
    arguments = [np.zeros((6, 4)), np.array([2, 0, 2, 2, 1]), np.zeros(0, np.int64)]
    assert extent_size(fields, arguments) == size
