"""Counts of kernels by hand, and against the counts of the graph level for a whole model."""

import pytest
from xdsl.dialects.builtin import ModuleOp, bf16, f32, i32
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import tile
from supertile.ir.formula import symbol
from supertile.ir.graph import scaled_type
from supertile.ir.text import HEADER, context, parse_module
from supertile.ir.tile_count import kernel_work, launches, wider
from supertile.ir.tile_shapes import kernels_of
from supertile.ir.tile_work import Extent, KernelWork
from supertile.ir.types import DYNAMIC, f8e4m3, tensor
from supertile.ir.work import function_shapes, function_work
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.lower_to_tile import LowerToTile
from supertile.passes.pipeline import PIPELINE, parse_pipeline

T, B = symbol("T"), symbol("B")
LINEAR = """
func.func @f(%x : tensor<?x64xf32> {graph.sizes = ["T", "C"]}, %w : tensor<32x64xbf16>) -> tensor<?x32xf32> {
  %y = graph.linear %x, %w : (tensor<?x64xf32>, tensor<32x64xbf16>) -> tensor<?x32xf32>
  func.return %y : tensor<?x32xf32>
}"""  # noqa: E501
# 2 heads of 8 channels; 5 keys for each token, by number.
ATTEND = """
func.func @f(%q : tensor<?x2x8xf32> {graph.sizes = ["T", "H", "C"]}, %keys : tensor<?x50x8xf32> {graph.sizes = ["B", "S", "C"]},
             %index : tensor<?x5xi32> {graph.sizes = ["T", "K"]}, %sequence : tensor<?xi32> {graph.sizes = ["T"]}) -> tensor<?x2x6xf32> {
  %y = graph.attend %q, %keys, %index, %sequence {scale = 0.5 : f64, value_width = 6 : i64, operandSegmentSizes = array<i32: 1, 1, 0, 1, 0, 1>} : (tensor<?x2x8xf32>, tensor<?x50x8xf32>, tensor<?x5xi32>, tensor<?xi32>) -> tensor<?x2x6xf32>
  func.return %y : tensor<?x2x6xf32>
}"""  # noqa: E501


def counted(text: str, **options: object) -> KernelWork:
    """The work of the one kernel of a function, on operands with T rows and B sequences."""
    module = parse_module(f"{HEADER}\nbuiltin.module {{{text}\n}}\n", "test.mlir")
    ChooseTiles(**options).apply(context(), module)  # type: ignore[arg-type]
    LowerToTile().apply(context(), module)
    (function,) = [op for op in module.ops if isinstance(op, FuncOp)]
    (work,) = works_of(module, function)
    return work


def works_of(module: ModuleOp, function: FuncOp) -> list[KernelWork]:
    shapes, kernels = function_shapes(function), kernels_of(module)
    return [
        kernel_work(
            kernels[launch.kernel.data],
            [shapes[value] for value in launch.operands],
            [f"operand {n}" for n, _ in enumerate(launch.operands)],
        )
        for launch in launches(function)
    ]


def test_a_product() -> None:
    """Operations and bytes of a step of the loop, of a block, and of the whole kernel."""
    work = counted(LINEAR, tokens=16)
    assert work.flops == 2 * 32 * 64 * T
    assert dict(work.read) == {"operand 0": 64 * 4 * T, "operand 1": 32 * 64 * 2}
    assert work.written == (("", 32 * 4 * T),)
    (phase,) = work.phases
    rows, columns = phase.grid
    assert (rows.size, columns.size) == (T, 32)
    (loop,) = phase.block.loops
    assert loop.extent.size == 64
    depth, m, n = loop.extent.step, rows.step, columns.step
    assert loop.body.operations == {("matrix", "f32"): 2 * m * n * depth}
    assert loop.body.loaded == {"cache": (m * 4 + n * 2) * depth}
    assert phase.block.stored == {"gm": m * n * 4}


def test_small_tiles_change_steps_alone() -> None:
    large, small = counted(LINEAR), counted(LINEAR, force="test")
    assert (small.flops, small.read, small.written) == (large.flops, large.read, large.written)
    assert small.phases[0].grid == (Extent(T, 2), Extent(32, 15))
    (loop,) = small.phases[0].block.loops
    assert loop.extent == Extent(64, 31)
    assert loop.body.operations == {("matrix", "f32"): 2 * 2 * 15 * 31}


def test_attention() -> None:
    work = counted(ATTEND, force="test")
    # 2 * (8 channels of keys + 6 of values) for each of 2 heads, 5 keys; softmax on top of it.
    products = 2 * (8 + 6) * 2 * 5
    flops = work.flops.evaluate({"T": 1})  # type: ignore[union-attr]
    assert products < flops < 2 * products
    read = dict(work.read)
    assert read["operand 0"] == 2 * 8 * 4 * T
    assert read["operand 1"] == 5 * 8 * 4 * T, "keys by number, not the whole state"
    assert dict(work.held)["operand 1"] == 50 * 8 * 4 * B
    assert work.written == (("", 2 * 6 * 4 * T),)
    (phase,) = work.phases
    assert phase.grid[0].groups in (None, B)
    (loop,) = phase.block.loops
    assert loop.extent == Extent(5, 3)


def test_a_model_has_the_flops_of_its_ops(request: pytest.FixtureRequest) -> None:
    """Padding aside, tiles compute what the ops do, and a little to merge and to rescale."""
    root = request.config.rootpath
    config = read_config(root / "models/configs/deepseek_v4_pro.json")
    module = build_model(root / "models/deepseek_v4.st", config, "deployed")
    fusions = ",".join(name for phase, name in PIPELINE if phase == "fused")
    for one in parse_pipeline(f"canonicalize,cse,{fusions}"):
        one.apply(context(), module)
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    expected = {op.sym_name.data: function_work(op)[1].flops for op in functions}
    for one in (ChooseTiles(), LowerToTile()):
        one.apply(context(), module)
    for function in functions:
        found = sum(work.flops for work in works_of(module, function))
        sizes = {"T": 96, "B": 96, "seen128": 128, "windows4": 24, "windows128": 1}
        sizes |= {"S:4": 1024, "S:128": 32}
        wanted = expected[function.sym_name.data].evaluate(sizes)  # type: ignore[union-attr]
        assert found.evaluate(sizes) == pytest.approx(wanted, rel=0.02)  # type: ignore[union-attr]


def test_what_no_count_knows_is_a_bug() -> None:
    from supertile.ir.tile_count import arithmetic

    launch = tile.Launch.create(result_types=[tensor([DYNAMIC, 2], f32), tensor([3], i32)])
    with pytest.raises(ValueError, match=r"no count for tile\.launch"):
        arithmetic(launch)


def test_operands_multiply_in_the_wider_format() -> None:
    """But weights with scales are decoded to the format of what they meet."""
    kinds = {
        "f32": tensor([2, 64], f32),
        "bf16": tensor([2, 64], bf16),
        "scaled": scaled_type([2, 64], f8e4m3, (32,)),
    }
    block = Block(arg_types=list(kinds.values()))
    values = dict(zip(kinds, block.args, strict=True))
    met = {(x, w): wider(values[x], values[w]) for x in kinds for w in kinds}
    assert met["f32", "bf16"] == met["bf16", "f32"] == met["f32", "scaled"] == "f32"
    assert met["bf16", "bf16"] == met["bf16", "scaled"] == met["scaled", "bf16"] == "bf16"
    assert met["scaled", "scaled"] == "f8e4m3"
