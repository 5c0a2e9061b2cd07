"""What the pass writes, what it refuses, and what the verifier does not accept."""

from functools import cache
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.inputs import model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.op import attribute_of
from supertile.ir.text import context, parse_module, print_module
from supertile.ir.verify import VerifyError, verify_module
from supertile.passes.driver import run_passes
from supertile.passes.overlap_comm import OverlapComm
from supertile.passes.pipeline import parse_pipeline

OPTIONS = OverlapComm(microbatches=2, waves=3)
CONFIG = Path(__file__).parents[1] / "data" / "deepseek_v4" / "config.json"


@cache
def placed(ranks: int) -> ModuleOp:
    """The V4 case, 8 experts on so many ranks; do not change it."""
    module = build_model(model_path("deepseek_v4"), read_config(CONFIG))
    for one in parse_pipeline(f"plan-experts{{ranks={ranks}}}"):
        one.apply(context(), module)
    return module


def overlapped(one: OverlapComm = OPTIONS, ranks: int = 2) -> ModuleOp:
    module = placed(ranks).clone()
    one.apply(context(), module)
    return module


def numbers(module: ModuleOp, kind: type, name: str) -> set[int | None]:
    held = [getattr(op, name) for op in module.walk() if isinstance(op, kind)]
    return {None if one is None else one.value.data for one in held}


def test_attributes_go_to_dispatches_and_layers():
    module = overlapped()
    verify_module(module, "placed")
    assert numbers(module, comm.Dispatch, "waves") == {3}
    assert numbers(module, graph.Layers, "microbatches") == {2}


def test_text_reads_back():
    text = print_module(overlapped())
    again = parse_module(text, "again.mlir")
    verify_module(again, "placed")
    assert print_module(again) == text


def test_a_module_of_any_level_keeps_its_level():
    module = placed(2).clone()
    run_passes(module, parse_pipeline("overlap-comm{microbatches=2 waves=2},fuse-norm"))
    assert numbers(module, comm.Dispatch, "waves") == {2}


def test_no_wave_at_all_is_refused():
    with pytest.raises(UserError, match="the option waves of the pass overlap-comm"):
        run_passes(placed(2).clone(), [OverlapComm(waves=0)])


def test_nothing_by_default():
    assert print_module(overlapped(OverlapComm())) == print_module(placed(2))


def test_a_wave_has_an_expert_at_least():
    assert numbers(overlapped(OverlapComm(waves=9)), comm.Dispatch, "waves") == {4}
    assert numbers(overlapped(OverlapComm(waves=9), ranks=8), comm.Dispatch, "waves") == {None}


@pytest.mark.parametrize("name", ["batch", "tokens"])
def test_sizes_that_are_fixed_cannot_be_split(name):
    module = placed(2).clone()
    for one in parse_pipeline(f"specialize{{{name}=4}}"):
        one.apply(context(), module)
    with pytest.raises(UserError, match="cannot run in two micro-batches"):
        OPTIONS.apply(context(), module)


@pytest.mark.parametrize("waves", [0, 5])
def test_waves_beyond_the_slots_are_unsound(waves):
    module = overlapped()
    for op in module.walk():
        if isinstance(op, comm.Dispatch):
            op.properties["waves"] = attribute_of(waves)
    with pytest.raises(VerifyError, match=f"4 slots run in 1 to as many waves, not {waves}"):
        verify_module(module, "placed")


def test_other_numbers_of_micro_batches_are_unsound():
    module = overlapped()
    for op in module.walk():
        if isinstance(op, graph.Layers):
            op.properties["microbatches"] = attribute_of(3)
    with pytest.raises(VerifyError, match="layers run in 1 or 2 micro-batches, not 3"):
        verify_module(module, "placed")
