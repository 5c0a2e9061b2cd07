"""Sizes that only a launch knows, as formulas over the sizes of its operands."""

import pytest
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import tile
from supertile.ir.formula import symbol
from supertile.ir.text import HEADER, parse_module
from supertile.ir.tile_attributes import ExtentAttr
from supertile.ir.tile_shapes import extent_size, kernels_of, launch_shapes, ref_shapes

T, B = symbol("T"), symbol("B")
ARGUMENTS = [(T, 8), (6 * T,), (B, 128, 4)]

# extent -> the size on these arguments
EXTENTS = [
    (ExtentAttr.of("size", 0), T),
    (ExtentAttr.of("size", 2, 1), 128),
    (ExtentAttr.of("size", 0, 0, 6), 6 * T),
    (ExtentAttr.of("size", 0, 0, 1, 3), T + 3),
    (ExtentAttr.of("parts", 1, 6), T),
    (ExtentAttr.of("windows", 0, 4), symbol("windows4")),
    (ExtentAttr.of("windows", 0, 4, 2), 2 * symbol("windows4")),
    (ExtentAttr.of("most", 0, 0, 1, 128), symbol("seen128")),
]


@pytest.mark.parametrize(("extent", "size"), EXTENTS, ids=[str(one) for one, _ in EXTENTS])
def test_extents(extent: ExtentAttr, size: object) -> None:
    assert extent_size(extent, ARGUMENTS, symbol) == size


def module_of() -> ModuleOp:
    """A kernel with a result of its own, one that overwrites an operand, and scratch."""
    state, rows = "!tile.ref<tensor<?x4xf32>>", "!tile.ref<tensor<?x8xf32>>"
    return parse_module(
        f"""{HEADER}
builtin.module attributes {{supertile.tile_spaces = ["l1", "l0c", "ub"]}} {{
  tile.kernel {{extents = [#tile.extent<"size", 1, 0, 1, 0>], inputs = 2 : i64, kind = "k",
               reuses = array<i64: 0, -1>, sym_name = "k"}} : () -> () {{
  ^bb0(%state: {state}, %x: {rows}, %kept: {state}, %y: {rows}):
    %scratch = tile.alloc {{extents = [#tile.extent<"size", 1, 0, 2, 0>]}} : () -> {rows}
    tile.end : () -> ()
  }}
}}
""",
        "test.mlir",
        verify=False,
    )


def test_results_are_operands_or_have_sizes_of_their_own() -> None:
    kernel = kernels_of(module_of())["k"]
    operands = [(B, 4), (T, 8)]
    assert launch_shapes(kernel, operands, symbol) == [(B, 4), (T, 8)]
    shapes = ref_shapes(kernel, operands, symbol)
    (scratch,) = [op for op in kernel.body.block.ops if isinstance(op, tile.Alloc)]
    assert shapes[scratch.result] == (2 * T, 8)


def test_kernels_are_those_of_the_module() -> None:
    module = module_of()
    (kernel,) = module.ops
    assert kernels_of(kernel) == {"k": kernel}
    assert kernels_of(None) == {}
