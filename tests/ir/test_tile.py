"""The tile dialect: every op parses, prints and verifies, and every rule can be broken."""

import pytest

from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.text import HEADER, parse_module, print_module
from supertile.ir.tile_attributes import ExtentAttr, PlaceAttr
from supertile.ir.tile_check import problems

X, W, Y = "!tile.ref<tensor<?x64xf32>>", "!tile.ref<tensor<8x64xf32>>", "!tile.ref<tensor<?x8xf32>>"
TABLE, N, BEST = "!tile.ref<tensor<?xi32>>", "tensor<4xi32>", "tensor<4x8xi32>"
F, Z, S = "tensor<4x16xf32>", "tensor<8x16xf32>", "tensor<4x8xf32>"
OWN = "operandSegmentSizes = array<i32:"


def kernel(body: str, properties: str = "") -> str:
    """A kernel of x [?, 64], w [8, 64], numbers [?] and a result [?, 8]."""
    own = '#tile.extent<"size", 0, 0, 1, 0>'
    head = f'extents = [{own}], inputs = 3 : i64, kind = "test", reuses = array<i64: -1>'
    return f"""
  tile.kernel {{{head}, sym_name = "k"{properties}}} : () -> () {{
  ^bb0(%x: {X}, %w: {W}, %numbers: {TABLE}, %y: {Y}):
{body}
    tile.end : () -> ()
  }}"""


def grid(body: str) -> str:
    steps = "axes = array<i64: 0>, ragged = array<i64: 0>, steps = array<i64: 4>"
    return f"""    tile.grid %x {{{steps}}} : ({X}) -> () {{
    ^bb1(%row: index):
{body}
      tile.end : () -> ()
    }}"""


def loop(body: str) -> str:
    """The sum of 16 columns after the other; `body` gives the %new from the %old."""
    steps = "axis = 1 : i64, stages = 1 : i64, step = 16 : i64"
    return f"""      %zero = tile.fill {{space = "l0c", value = 0.0 : f64}} : () -> {S}
      %sum = tile.loop %w, %zero {{{steps}}} : ({W}, {S}) -> {S} {{
      ^bb2(%k: index, %old: {S}):
{body}
      }}"""


AT = f"axes = array<i64: 0, 1>, {OWN} 1, 0, 2, 0>, pad = 0.0 : f64"
LOAD_X = f"""
        %a = tile.load %x, %row, %k {{{AT}, space = "l1"}} : ({X}, index, index) -> {F}"""
LOAD_W = f"""
        %b = tile.load %w, %k {{axes = array<i64: 1>, {OWN} 1, 0, 1, 0>, pad = 0.0 : f64,
                                space = "l1"}} : ({W}, index) -> {Z}"""
MMA = f"        %new = tile.mma %a, %b, %old : ({F}, {Z}, {S}) -> {S}"
NEXT = f"        tile.end %new : ({S}) -> ()"
STORE = f"""
      tile.store %sum, %y, %row {{axes = array<i64: 0>, {OWN} 1, 1, 0, 1, 0>}}
                 : ({S}, {Y}, index) -> ()"""
BACK = f"""
        tile.store %a, %x, %row, %k {{axes = array<i64: 0, 1>, {OWN} 1, 1, 0, 2, 0>}}
                   : ({F}, {X}, index, index) -> ()"""
STEP = "\n".join([LOAD_X, LOAD_W, MMA, NEXT])
PRODUCT = kernel(grid(f"{loop(STEP)}\n{STORE}"))

# Everything that the product lacks.
OTHERS = kernel(
    f"""
    %scratch = tile.alloc {{extents = [#tile.extent<"most", 2, 0, 1, 8>]}} : () -> {TABLE}
    tile.grid %numbers {{axes = array<i64: 0>, ragged = array<i64: 2>,
                         steps = array<i64: 4>}} : ({TABLE}) -> () {{
    ^bb1(%group: index, %row: index, %stop: index):
      %own = tile.load %numbers, %row, %stop
             {{axes = array<i64: 0>, {OWN} 1, 0, 1, 1>, pad = -1.0 : f64, space = "ub"}}
             : ({TABLE}, index, index) -> {N}
      %double = tile.rescale %row
                {{divisor = 1 : i64, factor = 2 : i64, offset = 3 : i64}} : (index) -> index
      %place = tile.locate %own, %double
               {{formula = "remainder", parameters_ = array<i64: 7>}} : ({N}, index) -> {N}
      %best = tile.fill {{space = "ub", value = 0.0 : f64}} : () -> {S}
      %index = tile.fill {{space = "ub", value = -1.0 : f64}} : () -> {BEST}
      %rows = tile.gather %x, %place, %double
              {{axes = array<i64: 0>, {OWN} 1, 0, 1, 0, 1>, pad = 0.0 : f64, space = "ub"}}
              : ({X}, {N}, index) -> {F}
      %hidden = tile.mask %rows, %row, %own {{{OWN} 1, 0, 1, 1>}} : ({F}, index, {N}) -> {F}
      %more, %which = tile.merge_top_k %best, %index, %hidden, %row, %own
                      : ({S}, {BEST}, {F}, index, {N}) -> ({S}, {BEST})
      tile.scatter %more, %y, %place {{axes = array<i64>, {OWN} 1, 1, 0, 1, 0, 0>}}
                   : ({S}, {Y}, {N}) -> ()
      tile.end : () -> ()
    }}"""
)
FIVE = "tensor<5xi32>"
OWNERS = kernel(
    f"""
    %place = tile.fill {{space = "ub", value = 0.0 : f64}} : () -> {N}
    %owner = tile.fill {{space = "ub", value = 0.0 : f64}} : () -> {FIVE}
    %rows = tile.gather %x, %place, %owner
            {{axes = array<i64>, {OWN} 1, 0, 1, 1, 0>, pad = 0.0 : f64, space = "ub"}}
            : ({X}, {N}, {FIVE}) -> tensor<4xf32>"""
)
LAUNCH = """
  func.func @f(%x: tensor<?x64xf32>, %w: tensor<8x64xf32>, %n: tensor<?xi32>) -> tensor<?x8xf32> {
    %y = tile.launch %x, %w, %n {kernel = "k"}
         : (tensor<?x64xf32>, tensor<8x64xf32>, tensor<?xi32>) -> tensor<?x8xf32>
    func.return %y : tensor<?x8xf32>
  }"""


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


def places_of(*places):
    """A kernel without tiles that has places."""
    return kernel("", properties=f", {_text(places)}")


def _text(places):
    held = ", ".join(f'#tile.place<"{s}", {o}, {b}, {c}>' for s, o, b, c in places)
    return f"places = [{held}]"


WRONG = {
    "arguments for": PRODUCT.replace("inputs = 3", "inputs = 4"),
    "an argument of a kernel is a reference": PRODUCT.replace(f"%numbers: {TABLE}", f"%n: {N}"),
    "an extent is one of": PRODUCT.replace('"size", 0', '"length", 0'),
    "one number for each dimension": PRODUCT.replace("steps = array<i64: 4>", "steps = array<i64>"),
    "steps are at least 1": PRODUCT.replace("steps = array<i64: 4>", "steps = array<i64: 0>"),
    "the body takes 3 indices": PRODUCT.replace("ragged = array<i64: 0>", "ragged = array<i64: 1>"),
    "steps and stages of at least 1": PRODUCT.replace("stages = 1", "stages = 0"),
    "an index and the carried values": PRODUCT.replace(f"%old: {S}", f"%old: {S}, %more: {S}"),
    "hands on no carried value": PRODUCT.replace("%zero {", "%zero, %zero {")
    .replace(f"({W}, {S}) -> {S} {{", f"({W}, {S}, {S}) -> ({S}, {S}) {{")
    .replace("%sum = tile.loop", "%sum, %other = tile.loop")
    .replace(f"%old: {S}", f"%old: {S}, %next: {S}")
    .replace(NEXT, f"        tile.end %new, %old : ({S}, {S}) -> ()"),
    "the body ends with the values": PRODUCT.replace(NEXT, "        tile.end : () -> ()"),
    "does not lie in": PRODUCT.replace(Z, "tensor<1x8x16xf32>"),
    "a static shape": PRODUCT.replace(F, "tensor<?x16xf32>"),
    "needs an offset": PRODUCT.replace(Z, "tensor<7x16xf32>"),
    "a memory that has a name": PRODUCT.replace('space = "l1"', 'space = ""', 1),
    "the product sums over": PRODUCT.replace(Z, "tensor<8x15xf32>"),
    "the product is": PRODUCT.replace(S, "tensor<4x9xf32>"),
    "are no": OTHERS.replace(F, "tensor<5x16xf32>"),
    "owners of": OWNERS,
    "there is no kernel": PRODUCT + LAUNCH.replace('"k"', '"q"'),
    "takes 4 references": PRODUCT + LAUNCH.replace("%w, %n {", "%w {").replace(
        ": (tensor<?x64xf32>, tensor<8x64xf32>, tensor<?xi32>)",
        ": (tensor<?x64xf32>, tensor<8x64xf32>)",
    ),
    "a place is in on-chip memory": places_of(("gm", 0, 32, 1)),
    "somewhere and not empty": places_of(("ub", 0, 0, 1)),
    "0 tiles": places_of(("ub", 0, 32, 1)),
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


def placed(places=GOOD, peaks=(128, 1536), text=PRODUCT, stages=2):
    """The product with places set by hand; `peaks` are those of l0c, l1 and ub."""
    named = zip(("l0c", "l1", "ub"), peaks, strict=False)
    held = ", ".join(f"{space} = {size} : i64" for space, size in named)
    head = f'sym_name = "k", {_text(places)}, peaks = {{{held}}}'
    return text.replace('sym_name = "k"', head).replace("stages = 1", f"stages = {stages}")


def moved(number, place):
    return [place if n == number else held for n, held in enumerate(GOOD)]


def test_good_places():
    module(placed())


WRONG_PLACES = {
    "has a place of 96": placed(moved(4, ("l1", 512, 96, 2)), (128, 704)),
    "has a place in ub": placed(moved(4, ("ub", 512, 512, 2)), (128, 512, 1536)),
    "the peaks are": placed(peaks=(128, 1504)),
    "the tile has 1 copies": placed(moved(4, ("l1", 512, 512, 1)), (128, 1024)),
    "overwritten before it is read": placed(moved(4, ("l1", 480, 512, 2)), (128, 1504)),
    "overwrites an operand": placed(moved(5, ("l0c", 32, 128, 1)), (160, 1536)),
    "lie in two places": placed(moved(1, ("l0c", 128, 128, 1)), (256, 1536)),
}


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
    start = "%start = tile.rescale %row {divisor = 1 : i64, factor = 0 : i64, offset = 0 : i64}"
    outside = f"{start} : (index) -> index\n{LOAD_X.replace('%row, %k', '%row, %start')}"
    body = "\n".join([LOAD_W, MMA, LOAD_W.replace("%b", "%late"), NEXT])
    text = kernel(grid(f"{outside}\n{loop(body)}\n{STORE}"))
    x, w, sums = ("l1", 0, 256, 1), ("l1", 512, 512, 1), GOOD[0]
    apart = [x, sums, sums, sums, w, sums, ("l1", 1024, 512, 1)]
    module(placed(apart, (128, 1536), text, stages=1))
    over = [x, sums, sums, sums, w, sums, ("l1", 0, 512, 1)]
    assert "overwritten before it is read" in fails(placed(over, (128, 1024), text, stages=1))


def test_no_load_runs_ahead_of_a_store_to_the_same_reference():
    text = kernel(grid(f"{loop(STEP.replace(MMA, MMA + BACK))}\n{STORE}"))
    module(text)
    assert "has loaded ahead" in fails(text.replace("stages = 1", "stages = 2"))


def test_a_result_may_be_the_memory_of_an_operand():
    """A store to a result that overwrites x is a store to x."""
    own = '#tile.extent<"size", 0, 0, 1, 0>'
    text = kernel(grid(loop(STEP.replace(MMA, MMA + BACK.replace("%x", "%y"))))).replace(own, "")
    text = text.replace(Y, X).replace("reuses = array<i64: -1>", "reuses = array<i64: 0>")
    (one,) = module(text).ops
    assert not list(problems(one))
    assert "has loaded ahead" in fails(text.replace("stages = 1", "stages = 2"))
