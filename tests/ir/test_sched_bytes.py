"""The bytes of every buffer follow from the program; any other number is a fault that is named."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, i64

from supertile.cli.inputs import model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import sched
from supertile.ir.formula import symbol
from supertile.ir.placement import PlacementAttr, place
from supertile.ir.sched_bounds import Bounds
from supertile.ir.sched_bytes import bytes_problems
from supertile.ir.types import DYNAMIC, bf16, tensor
from supertile.ir.verify import VerifyError, verify_module
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline

DATA = Path(__file__).parents[1] / "data"
FUSED = "fuse-norm,fuse-residual,fuse-attention,fuse-moe"
TILED = f"{FUSED},choose-tiles,lower-to-tile,pipeline-loops,assign-memory"
SCHEDULES = {
    "one rank": f"{TILED},build-schedule",
    "as NumPy holds it": f"{TILED},build-schedule{{tokens=5 batch=3 context=64 memory=runtime}}",
    "waves": f"plan-experts{{ranks=4}},{TILED},overlap-comm{{waves=2}},build-schedule{{tokens=40}}",
    "two halves": f"plan-experts{{ranks=2}},{TILED},overlap-comm{{microbatches=2}},"
    "build-schedule{tokens=9 batch=3}",
}


@cache
def scheduled(name: str) -> ModuleOp:
    """The small V4 as programs; do not change it."""
    config = read_config(DATA / "deepseek_v4" / "config.json")
    module = build_model(model_path("deepseek_v4"), config)
    run_passes(module, parse_pipeline(SCHEDULES[name]))
    return module


def faults(module: ModuleOp) -> list[str]:
    symbols = {op.sym_name.data: op for op in module.ops}  # type: ignore[attr-defined]
    programs = [op for op in module.ops if isinstance(op, sched.Program)]
    return [message for one in programs for _, message in bytes_problems(one, symbols)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_buffer_that_is_one_byte_off_is_named(name: str) -> None:
    module = scheduled(name).clone()
    assert faults(module) == []
    buffers = [op for op in module.walk() if isinstance(op, sched.Buffer)]
    assert len(buffers) > 20
    for number, op in enumerate(buffers[::11]):
        right = op.bytes.value.data
        wrong = [right + 1, right - 1, right // 2, right + 256][number % 4]
        op.properties["bytes"] = IntegerAttr(wrong, i64)
        assert f"the buffer has {wrong} bytes, what it holds takes {right}" in faults(module)
        op.properties["bytes"] = IntegerAttr(right, i64)


def test_a_module_with_wrong_bytes_is_no_module() -> None:
    module = scheduled("one rank").clone()
    op = next(op for op in module.walk() if isinstance(op, sched.Buffer))
    op.properties["bytes"] = IntegerAttr(op.bytes.value.data - 4, i64)
    with pytest.raises(VerifyError, match="what it holds takes"):
        verify_module(module, "scheduled")


def test_bounds_that_a_program_does_not_have_make_its_buffers_wrong() -> None:
    module = scheduled("one rank").clone()
    program = next(op for op in module.ops if isinstance(op, sched.Program))
    numbers = [number + 1 for number in program.bounds.get_values()]
    program.properties["bounds"] = type(program.bounds).from_list(i64, numbers)
    assert len(faults(module)) > 5


# ---- the largest call ----------------------------------------------------------------------------


def test_a_half_has_half_of_the_sequences_and_maybe_all_tokens() -> None:
    halves = [Bounds(16, batch, 100, "device").of_a_half.numbers for batch in (1, 2, 3, 8)]
    assert halves == [[16, 1, 100], [16, 1, 100], [16, 2, 100], [16, 4, 100]]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("T", 16),
        ("B", 3),
        ("arrived", 77),
        ("S:1", 100),
        ("S:8", 13),
        ("seen0", 16),
        ("seen24", 40),
        ("share4", 4),
        ("share5", 4),
        ("windows1", 16),  # each token completes one
        ("windows4", 3 + 3),  # each sequence one with its first token, then one in four of 13
        ("windows16", 3),
    ],
)
def test_the_most_of_a_named_size(name: str, most: int) -> None:
    assert Bounds(16, 3, 100, "device").most(name, 77) == most


@pytest.mark.parametrize(("choices", "each"), [(1, 1), (2, 2), (6, 2)])
def test_a_rank_gets_a_row_for_each_choice_or_slot(choices: int, each: int) -> None:
    """Two slots on each of three ranks: a token has no more than two copies on one of them."""
    placement = PlacementAttr.of(place(6, 3))
    assert Bounds(16, 3, 100, "device").arrived(symbol("T"), choices, placement) == 3 * 16 * each


@pytest.mark.parametrize(("memory", "size"), [("device", 2), ("runtime", 4)])
def test_bytes_are_those_of_the_memory_that_is_counted(memory: str, size: int) -> None:
    """BF16 in a device, float32 as NumPy holds it: 16 tokens of 8 channels."""
    bounds = Bounds(16, 3, 100, memory)
    assert bounds.bytes_of(tensor([DYNAMIC, 8], bf16), [symbol("T"), 8], 0) == 16 * 8 * size
    rows = [symbol("arrived") + 1, 8]
    assert bounds.bytes_of(tensor([DYNAMIC, 8], bf16), rows, 77) == 78 * 8 * size
