"""Helpers for tests of passes on kernels: drawn kernels, and the text of a small product."""

from hypothesis import strategies as st
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, ModuleOp, StringAttr, f32
from xdsl.ir import Block, Region

from supertile.ir import graph, tile
from supertile.ir.locations import at
from supertile.ir.op import attribute_of
from supertile.ir.text import HEADER, parse_module, print_module
from supertile.ir.tile_places import TILE_SPACES, base_of
from supertile.ir.types import bf16, i32, index, tensor

X, W = "!tile.ref<tensor<?x64xf32>>", "!tile.ref<tensor<32x64xf32>>"
SUM, Y = "tensor<16x32xf32>", "!tile.ref<tensor<?x32xf32>>"
SPACES = 'supertile.tile_spaces = ["l1", "l0c", "ub"]'


def product(store: str = "", attributes: str = "", properties: str = "", stages: int = 1) -> str:
    """x [?, 64] times w [32, 64], 16 columns of both at once; `store` comes last in each step."""
    return f"""builtin.module attributes {{{SPACES}{attributes}}} {{
  tile.kernel {{extents = [#tile.extent<"size", 0, 0, 1, 0>], inputs = 2 : i64, kind = "linear",
               reuses = array<i64: -1>, sym_name = "k"{properties}}} : () -> () {{
  ^bb0(%x: {X}, %w: {W}, %y: {Y}):
    tile.grid %x {{axes = array<i64: 0>, ragged = array<i64: 0>,
                  steps = array<i64: 16>}} : ({X}) -> () {{
    ^bb1(%row: index):
      %zero = tile.fill {{space = "l0c", value = 0.0 : f64}} : () -> {SUM}
      %sum = tile.loop %w, %zero {{axis = 1 : i64, stages = {stages} : i64,
                                  step = 16 : i64}} : ({W}, {SUM}) -> {SUM} {{
      ^bb2(%k: index, %old: {SUM}):
        %a = tile.load %x, %row, %k {{axes = array<i64: 0, 1>, pad = 0.0 : f64, space = "l1",
             operandSegmentSizes = array<i32: 1, 0, 2, 0>}}
             : ({X}, index, index) -> tensor<16x16xf32>
        %b = tile.load %w, %k {{axes = array<i64: 1>, pad = 0.0 : f64, space = "l1",
             operandSegmentSizes = array<i32: 1, 0, 1, 0>}} : ({W}, index) -> tensor<32x16xf32>
        %new = tile.mma %a, %b, %old : (tensor<16x16xf32>, tensor<32x16xf32>, {SUM}) -> {SUM}
        {store}
        tile.end %new : ({SUM}) -> ()
      }}
      %z = graph.exp %sum : ({SUM}) -> {SUM}
      tile.store %z, %y, %row {{axes = array<i64: 0>,
                 operandSegmentSizes = array<i32: 1, 1, 0, 1, 0>}} : ({SUM}, {Y}, index) -> ()
      tile.end : () -> ()
    }}
    tile.end : () -> ()
  }}
}}"""


STORE_X = f"""tile.store %a, %x, %row, %k {{axes = array<i64: 0, 1>,
              operandSegmentSizes = array<i32: 1, 1, 0, 2, 0>}}
              : (tensor<16x16xf32>, {X}, index, index) -> ()"""


def tiled(text: str) -> ModuleOp:
    return parse_module(f"{HEADER}\n{text}\n", "test.mlir")


def kernels_in(module: ModuleOp) -> list[tile.Kernel]:
    return [op for op in module.ops if isinstance(op, tile.Kernel)]


# ---- drawn kernels -----------------------------------------------------------------------------

WHOLE = tensor([16, 16], f32)
ROWS = tile.RefType(WHOLE)
KINDS = ("load", "exp", "add", "cast", "reshape", "transpose", "product", "mma")


@st.composite
def drawn_texts(draw):
    """The text of a kernel of one block: ops on tiles [16, 16], some of them in loops."""
    spaces = draw(st.sampled_from([("l1", "l0c", "ub"), ("smem", "smem", "smem")]))
    body = Block(arg_types=[ROWS])
    made = _Drawn(draw, body.args[0], spaces)
    first = made.load(spaces[2])
    body.add_op(first)
    made.fill(body, [first.result], depth=2)
    body.add_op(tile.End.create())
    kernel = tile.Kernel.create(
        properties={
            "sym_name": StringAttr("k"),
            "kind": StringAttr("drawn"),
            "inputs": attribute_of(1),
            "reuses": attribute_of(()),
            "extents": ArrayAttr([]),
        },
        regions=[Region([body])],
    )
    for op in kernel.walk():
        op.location = at("m.st", 1, 1)
    named = ArrayAttr([StringAttr(space) for space in spaces])
    return print_module(ModuleOp([kernel], {TILE_SPACES: named}))


class _Drawn:
    def __init__(self, draw, ref, spaces):
        self.draw, self.ref, self.spaces = draw, ref, spaces

    def pick(self, choices):
        return choices[self.draw(st.integers(0, len(choices) - 1))]

    def fill(self, block, values, depth):
        """Up to eight ops, each on any values above it; all values in the end."""
        for _ in range(self.draw(st.integers(1, 8))):
            if depth and self.pick([False, False, False, True]):
                op = self.loop(values, depth - 1)
            else:
                op = self.op(self.pick(KINDS), values)
            block.add_op(op)
            values = [*values, *op.results]
        return values

    def op(self, kind, values):
        x, y = self.pick(values), self.pick(values)
        match kind:
            case "load":
                return self.load(self.pick([self.spaces[0], self.spaces[2]]))
            case "exp":
                return graph.create(graph.Exp, [x])
            case "add":
                return graph.create(graph.Add, [x, y], f32)
            case "cast":
                return graph.create(graph.Cast, [x], self.pick([f32, bf16]))
            case "reshape":
                return graph.create(graph.Reshape, [x], shape=(16, 16))
            case "transpose":
                return graph.create(graph.Transpose, [x], permutation=(1, 0))
            case "product":
                return graph.create(graph.Einsum, [[x, y], []], f32, equation="mk,nk->mn")
            case _:
                total = self.pick(_floats(values))
                return tile.Mma.create(operands=[x, y, total], result_types=[WHOLE])

    def load(self, space):
        """A load needs nothing of a step, so that it may always run ahead."""
        return tile.Load.create(
            operands=[self.ref],
            properties={
                "axes": attribute_of(()),
                "pad": attribute_of(0.0),
                "space": StringAttr(space),
                "operandSegmentSizes": DenseArrayBase.from_list(i32, [1, 0, 0, 0]),
            },
            result_types=[WHOLE],
        )

    def loop(self, values, depth):
        given = [self.pick(_floats(values)) for _ in range(self.draw(st.integers(0, 3)))]
        kinds = [value.type for value in given]
        inner = Block(arg_types=[index, *kinds])
        made = self.fill(inner, [*values, *inner.args[1:]], depth)
        # A carried value is handed on as itself alone, not as the next of another.
        handed = [value for value in _floats(made) if base_of(value) not in inner.args]
        ends = [self.pick([*handed, own]) for own in inner.args[1:]]
        inner.add_op(tile.End.create(operands=ends))
        numbers = {"axis": 0, "step": 16, "stages": 1}
        return tile.Loop.create(
            operands=[self.ref, *given],
            properties={key: attribute_of(number) for key, number in numbers.items()},
            result_types=kinds,
            regions=[Region([inner])],
        )


def _floats(values):
    """What a loop may carry; the first value is always one."""
    return [value for value in values if value.type == WHOLE]
