"""The tile dialect: every op parses, prints and verifies, and every rule can be broken."""

import pytest

from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.text import HEADER, parse_module, print_module
from supertile.ir.tile_attributes import ExtentAttr, PlaceAttr
from supertile.ir.tile_check import problems

X, W, I, K = "!tile.ref<tensor<?x64xf32>>", "!tile.ref<tensor<8x64xf32>>", "tensor<4xi32>", "index"
TABLE = "!tile.ref<tensor<?xi32>>"
F, Z, S = "tensor<4x16xf32>", "tensor<8x16xf32>", "tensor<4x8xf32>"
OWN = "operandSegmentSizes = array<i32:"


def kernel(body: str, results: str = "1", properties: str = "") -> str:
    """A kernel of x [?, 64], w [8, 64], numbers [?] and a result [?, 8]."""
    own = '#tile.extent<"size", 0, 0, 1, 0>'
    head = f'extents = [{own}], inputs = 3 : i64, kind = "test", reuses = array<i64: -1>'
    return f"""
  tile.kernel {{{head}, sym_name = "k"{properties}}} : () -> () {{
  ^bb0(%x: {X}, %w: {W}, %numbers: {TABLE}, %y: !tile.ref<tensor<?x8xf32>>):
{body}
    tile.end : () -> ()
  }}"""


def grid(body: str) -> str:
    return f"""    tile.grid %x {{axes = array<i64: 0>, ragged = array<i64: 0>, steps = array<i64: 4>}} : ({X}) -> () {{
    ^bb1(%row: index):
{body}
      tile.end : () -> ()
    }}"""


def loop(body: str, stages: int = 1, step: int = 16, carried: str = S) -> str:
    return f"""      %zero = tile.fill {{space = "l0c", value = 0.0 : f64}} : () -> {S}
      %sum = tile.loop %w, %zero {{axis = 1 : i64, stages = {stages} : i64, step = {step} : i64}} : ({W}, {S}) -> {S} {{
      ^bb2(%k: index, %old: {carried}):
{body}
      }}"""


LOAD_X = f"""        %a = tile.load %x, %row, %k {{axes = array<i64: 0, 1>, {OWN} 1, 0, 2, 0>, pad = 0.0 : f64, space = "l1"}} : ({X}, index, index) -> {F}"""
LOAD_W = f"""        %b = tile.load %w, %k {{axes = array<i64: 1>, {OWN} 1, 0, 1, 0>, pad = 0.0 : f64, space = "l1"}} : ({W}, index) -> {Z}"""
MMA = f"        %new = tile.mma %a, %b, %old : ({F}, {Z}, {S}) -> {S}"
NEXT = f"        tile.end %new : ({S}) -> ()"
STORE = f"""      tile.store %sum, %y, %row {{axes = array<i64: 0>, {OWN} 1, 1, 0, 1, 0>}} : ({S}, !tile.ref<tensor<?x8xf32>>, index) -> ()"""
STEP = "\n".join([LOAD_X, LOAD_W, MMA, NEXT])
PRODUCT = kernel(grid(f"{loop(STEP)}\n{STORE}"))

# Everything that the product lacks.
OTHERS = kernel(
    f"""    %scratch = tile.alloc {{extents = [#tile.extent<"most", 2, 0, 1, 8>]}} : () -> {TABLE}
    tile.grid %numbers {{axes = array<i64: 0>, ragged = array<i64: 2>, steps = array<i64: 4>}} : ({TABLE}) -> () {{
    ^bb1(%group: index, %row: index, %stop: index):
      %own = tile.load %numbers, %row, %stop {{axes = array<i64: 0>, {OWN} 1, 0, 1, 1>, pad = -1.0 : f64, space = "ub"}} : ({TABLE}, index, index) -> {I}
      %double = tile.rescale %row {{divisor = 1 : i64, factor = 2 : i64, offset = 3 : i64}} : (index) -> index
      %place = tile.locate %own, %double {{formula = "remainder", parameters_ = array<i64: 7>}} : ({I}, index) -> {I}
      %best = tile.fill {{space = "ub", value = 0.0 : f64}} : () -> {S}
      %index = tile.fill {{space = "ub", value = -1.0 : f64}} : () -> tensor<4x8xi32>
      %rows = tile.gather %x, %place, %row {{axes = array<i64: 0>, {OWN} 1, 0, 1, 0, 1>, pad = 0.0 : f64, space = "ub"}} : ({X}, {I}, index) -> {F}
      %hidden = tile.mask %rows, %row, %own {{{OWN} 1, 0, 1, 1>}} : ({F}, index, {I}) -> {F}
      %more, %which = tile.merge_top_k %best, %index, %hidden, %row, %own : ({S}, tensor<4x8xi32>, {F}, index, {I}) -> ({S}, tensor<4x8xi32>)
      tile.scatter %more, %y, %place {{axes = array<i64>, {OWN} 1, 1, 0, 1, 0, 0>}} : ({S}, !tile.ref<tensor<?x8xf32>>, {I}) -> ()
      tile.end : () -> ()
    }}"""
)
LAUNCH = """
  func.func @f(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %n: tensor<?xi32>) -> tensor<?x8xf32> {
    %y = tile.launch %x, %w, %n {kernel = "k"} : (tensor<?x64xf32>, tensor<8x64xf32>, tensor<?xi32>) -> tensor<?x8xf32>
    func.return %y : tensor<?x8xf32>
  }"""  # noqa: E501


def module(text: str):
    return parse_module(f"{HEADER}\nbuiltin.module {{{text}\n}}\n", "test.mlir")


def fails(text: str) -> str:
    with pytest.raises(UserError) as caught:
        module(text)
    return str(caught.value)


# ---- sound IR ----------------------------------------------------------------------------------


def test_every_op_round_trips():
    parsed = module(PRODUCT + LAUNCH + OTHERS.replace('"k"', '"other"'))
    printed = print_module(parsed)
    assert print_module(parse_module(printed)) == printed
    assert {op.name for op in parsed.walk()} >= {op.name for op in tile.OPS}


@pytest.mark.parametrize("kind", ExtentAttr.KINDS)
def test_extents_round_trip(kind):
    text = PRODUCT.replace('"size", 0, 0, 1, 0', f'"{kind}", 1, 2, 3, -4')
    assert f'#tile.extent<"{kind}", 1, 2, 3, -4>' in print_module(module(text))


def test_places_round_trip():
    place = PlaceAttr.of("ub", 64, 32, 2)
    assert place.fields() == ("ub", 64, 32, 2)
    assert place.end() == 128
    assert place.overlaps(PlaceAttr.of("ub", 96, 32, 1))
    assert not place.overlaps(PlaceAttr.of("ub", 128, 32, 1))
    assert not place.overlaps(PlaceAttr.of("l1", 96, 32, 1))


# ---- the rules of the ops ----------------------------------------------------------------------

WRONG = {
    "arguments for": PRODUCT.replace("inputs = 3", "inputs = 4"),
    "an argument of a kernel is a reference": PRODUCT.replace(f"%numbers: {TABLE}", f"%n: {I}"),
    "an extent is one of": PRODUCT.replace('"size", 0', '"length", 0'),
    "one number for each dimension": PRODUCT.replace("steps = array<i64: 4>", "steps = array<i64>"),
    "steps are at least 1": PRODUCT.replace("steps = array<i64: 4>", "steps = array<i64: 0>"),
    "the body takes 3 indices": PRODUCT.replace("ragged = array<i64: 0>", "ragged = array<i64: 1>"),
    "steps and stages of at least 1": PRODUCT.replace("stages = 1", "stages = 0"),
    "an index and the carried values": PRODUCT.replace(f"%old: {S}", f"%old: {S}, %more: {S}"),
    "the body ends with the values": PRODUCT.replace(NEXT, "        tile.end : () -> ()"),
    "does not lie in": PRODUCT.replace("%x, %row, %k", "%x, %row", 1).replace(
        f"({X}, index, index) -> {F}", f"({X}, index) -> {F}"
    ).replace("1, 0, 2, 0", "1, 0, 1, 0"),
    "a static shape": PRODUCT.replace(f"-> {F}", "-> tensor<?x16xf32>", 1),
    "needs an offset": PRODUCT.replace(f"-> {Z}", "-> tensor<7x16xf32>", 1),
    "a memory that has a name": PRODUCT.replace('space = "l1"', 'space = ""', 1),
    "the product sums over": PRODUCT.replace(f"%k {{axes = array<i64: 1>, {OWN} 1, 0, 1, 0>", f"%k {{axes = array<i64: 1>, {OWN} 1, 0, 1, 0>").replace(Z, "tensor<8x15xf32>"),
    "the product is": PRODUCT.replace(f"{S}) -> {S}\n        tile.end", "tensor<4x8xf32>) -> tensor<4x9xf32>\n        tile.end"),
    "are no": OTHERS.replace(f"index) -> {F}\n      %hidden", "index) -> tensor<5x16xf32>\n      %hidden"),
    "there is no kernel": PRODUCT + LAUNCH.replace('"k"', '"q"'),
    "takes 4 references": PRODUCT + LAUNCH.replace("%x, %w, %n {", "%x, %w {").replace("tensor<8x64xf32>, tensor<?xi32>) -> tensor<?x8xf32>\n    func", "tensor<8x64xf32>) -> tensor<?x8xf32>\n    func"),
    "a place is in on-chip memory": kernel("", properties=', places = [#tile.place<"gm", 0, 32, 1>]'),
    "somewhere and not empty": kernel("", properties=', places = [#tile.place<"ub", 0, 0, 1>]'),
    "0 tiles": kernel("", properties=', places = [#tile.place<"ub", 0, 32, 1>]'),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_every_rule_can_be_broken(message):
    assert message in fails(WRONG[message])


# ---- the rules of loops and places -------------------------------------------------------------

# What lies where in the product with 2 stages: zero, sum, old, a, b, new.
GOOD = [
    ("l0c", 0, 128, 1),
    ("l0c", 0, 128, 1),
    ("l0c", 0, 128, 1),
    ("l1", 0, 256, 2),
    ("l1", 512, 512, 2),
    ("l0c", 0, 128, 1),
]


def placed(places=GOOD, peaks="l0c = 128 : i64, l1 = 1536 : i64", text=PRODUCT, stages=2):
    """The product with places set by hand."""
    held = ", ".join(f'#tile.place<"{s}", {o}, {b}, {c}>' for s, o, b, c in places)
    head = f'sym_name = "k", places = [{held}], peaks = {{{peaks}}}'
    return text.replace('sym_name = "k"', head).replace("stages = 1", f"stages = {stages}")


def moved(number, place):
    return [place if n == number else held for n, held in enumerate(GOOD)]


def test_good_places():
    module(placed())


WRONG_PLACES = {
    "has a place of 96": placed(moved(4, ("l1", 512, 96, 2)), "l0c = 128 : i64, l1 = 704 : i64"),
    "has a place in ub": placed(
        moved(4, ("ub", 512, 512, 2)), "l0c = 128 : i64, l1 = 512 : i64, ub = 1536 : i64"
    ),
    "the peaks are": placed(peaks="l0c = 128 : i64, l1 = 1504 : i64"),
    "the tile has 1 copies": placed(
        moved(4, ("l1", 512, 512, 1)), "l0c = 128 : i64, l1 = 1024 : i64"
    ),
    "operand 0 is overwritten before it is read": placed(moved(4, ("l1", 480, 512, 2)), "l0c = 128 : i64, l1 = 1504 : i64"),
    "overwrites an operand that is still being read": placed(moved(5, ("l0c", 32, 128, 1)), "l0c = 160 : i64, l1 = 1536 : i64"),
    "lie in two places": placed(moved(1, ("l0c", 128, 128, 1)), "l0c = 256 : i64, l1 = 1536 : i64"),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG_PLACES)
def test_every_rule_of_places_can_be_broken(message):
    assert message in fails(WRONG_PLACES[message])


def test_capacities_of_the_module_hold():
    limited = "builtin.module attributes {supertile.tile_memory = {l1 = 1535 : i64}}"
    text = f"{HEADER}\n{limited} {{{placed()}\n}}\n"
    with pytest.raises(UserError, match="ends at byte 1536 of 1535 of l1"):
        parse_module(text)


def test_a_later_step_overwrites_what_an_earlier_one_only_reads():
    """x, loaded before the loop, loses its place inside: only the second step misses it."""
    outside = LOAD_X.replace("%row, %k", "%row, %row")
    body = "\n".join([LOAD_W, MMA, NEXT])
    text = kernel(grid(f"{outside}\n{loop(body)}\n{STORE}"))
    places = [GOOD[3], *GOOD[:3], GOOD[4], GOOD[5]]
    peaks = "l0c = 128 : i64, l1 = 1536 : i64"
    module(placed(places, peaks, text, stages=1))
    # With one copy each, the load of w follows the only use of x within a step.
    after = "\n".join([LOAD_W, MMA, LOAD_W.replace("%b", "%late"), NEXT])
    text = kernel(grid(f"{outside}\n{loop(after)}\n{STORE}"))
    places = [("l1", 0, 256, 1), *GOOD[:3], ("l1", 512, 512, 1), GOOD[5], ("l1", 0, 512, 1)]
    assert "overwritten before it is read" in fails(
        placed(places, "l0c = 128 : i64, l1 = 1024 : i64", text, stages=1)
    )


def test_no_load_runs_ahead_of_a_store_to_the_same_reference():
    store = f"""        tile.store %a, %x, %row, %k {{axes = array<i64: 0, 1>, {OWN} 1, 1, 0, 2, 0>}} : ({F}, {X}, index, index) -> ()"""
    text = kernel(grid(f"{loop(STEP.replace(MMA, MMA + chr(10) + store))}\n{STORE}"))
    module(text)
    assert "has loaded ahead" in fails(text.replace("stages = 1", "stages = 2"))


def test_a_result_may_be_the_memory_of_an_operand():
    """A store to a result that overwrites x is a store to x."""
    wide = PRODUCT.replace("tensor<?x8xf32>", "tensor<?x64xf32>").replace("[#tile.extent<\"size\", 0, 0, 1, 0>]", "[]")
    wide = wide.replace("reuses = array<i64: -1>", "reuses = array<i64: 0>")
    store = f"""        tile.store %a, %y, %row, %k {{axes = array<i64: 0, 1>, {OWN} 1, 1, 0, 2, 0>}} : ({F}, {X}, index, index) -> ()"""
    text = wide.replace(MMA, MMA + "\n" + store).replace(STORE.replace("tensor<?x8xf32>", "tensor<?x64xf32>"), "")
    (one,) = module(text).ops
    assert not list(problems(one))
    assert "has loaded ahead" in fails(text.replace("stages = 1", "stages = 2"))
