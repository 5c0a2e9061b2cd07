"""Tiles are as long as the steps of the index that they begin at; other axes are named."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, i64
from xdsl.ir import Operation
from xdsl.utils.exceptions import VerifyException

from supertile.cli.inputs import model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import tile
from supertile.ir.errors import UserError
from supertile.ir.op import shape_of
from supertile.ir.text import parse_module, print_module
from supertile.ir.tile_steps import step_problems
from supertile.ir.types import DYNAMIC
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline

DATA = Path(__file__).parents[1] / "data"
LOWERED = (
    "plan-experts{{ranks=2}},fuse-norm,fuse-attention,fuse-moe,choose-tiles{},lower-to-tile".format
)
TILES = {"default": LOWERED(""), "test": LOWERED("{force=test}")}
FAMILIES = ("llama", "deepseek_v4")
Movement = tile.Load | tile.Store | tile.Gather | tile.Scatter


@cache
def tiled(family: str, tiles: str) -> ModuleOp:
    """A small model in tiles; do not change it."""
    module = build_model(model_path(family), read_config(DATA / family / "config.json"))
    run_passes(module, parse_pipeline(TILES[tiles]))
    return module


def movements(module: ModuleOp) -> Iterator[Movement]:
    return (op for op in module.walk() if isinstance(op, Movement))


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_kernel_keeps_its_steps(family: str, tiles: str) -> None:
    kernels = [op for op in tiled(family, tiles).ops if isinstance(op, tile.Kernel)]
    assert kernels and [list(step_problems(kernel)) for kernel in kernels] == [[]] * len(kernels)


def whole_axes(op: Movement) -> set[int]:
    """The axes of which a tile has everything, so that nothing depends on where it begins."""
    held = op.result if isinstance(op, tile.Load) else op.value  # type: ignore[union-attr]
    sizes = op.ref.type.tensor.get_shape()[len(op.select) :]  # type: ignore[attr-defined]
    return {axis for axis, size in enumerate(shape_of(held)) if size == sizes[axis] != DYNAMIC}


def is_refused(op: Movement) -> bool:
    """Whether the verifier finds something wrong with the op, alone or in its kernel."""
    try:
        op.verify_()
    except VerifyException:
        return True
    return any(wrong is op for wrong, _ in step_problems(kernel_of(op)))


def kernel_of(op: Operation) -> tile.Kernel:
    around = op.parent_op()
    while not isinstance(around, tile.Kernel):
        assert around is not None
        around = around.parent_op()
    return around


@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("family", FAMILIES)
def test_no_load_or_store_can_name_another_axis(family: str, tiles: str) -> None:
    """Unless its tile has all of both: then it begins at 0 in either case."""
    module = tiled(family, tiles).clone()
    tried = 0
    for op in [op for op in movements(module) if isinstance(op, tile.Load | tile.Store)][::2]:
        right = op.axes
        for number, axis in enumerate(right.get_values()):
            for other in (axis - 1, axis + 1):
                if {axis, other} <= whole_axes(op):
                    continue
                axes = list(right.get_values())
                axes[number] = other
                op.properties["axes"] = DenseArrayBase.from_list(i64, axes)
                tried += 1
                assert is_refused(op), (op, axes)
                op.properties["axes"] = right
    assert tried > 10


def test_a_tile_that_is_longer_than_its_step_is_an_error_of_the_text() -> None:
    text = print_module(tiled("llama", "test"), locations=False)
    changed = text.replace("steps = array<i64: 2>", "steps = array<i64: 3>", 1)
    assert changed != text
    with pytest.raises(UserError, match="axis 0 of the tile has 2 elements, steps have 3"):
        parse_module(changed, "test.mlir")
