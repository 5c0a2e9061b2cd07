"""Sizes by example: what T, B, arrived and the names of the shape rules are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cost_examples import R, T, elementwise, kernel
from deployed_models import config_of, model_on
from xdsl.dialects import func

from supertile.cli.inputs import model_path
from supertile.frontend.build import build_model
from supertile.ir.formula import Formula, symbol
from supertile.ir.tile_work import Block, Extent, Loop, Phase
from supertile.ir.work import function_shapes
from supertile.targets.cost.sizes import imbalance, names_of, sizes_of, touched_experts
from supertile.targets.deploy import Deployment, parse_deployment

ROOT = Path(__file__).parents[3]
PRO = model_on("deepseek_v4_pro")
DENSE = model_on("llama_3_1_8b")
DECODE = "phase=decode ep=384 batch=96 context=4K"


def deployment(text: str) -> Deployment:
    return parse_deployment(text)


def sizes(text: str, *names: str, config: Any = PRO, **sweep: Any) -> dict[str, Any]:
    return sizes_of(deployment(text), config, names, **sweep)


def test_decoding_takes_one_token_of_each_sequence() -> None:
    found = sizes(DECODE, "S:4", "S:128", "seen128", "windows4", "windows128")
    assert found == {
        "T": 96,
        "B": 96,
        "arrived": 96 * 6,
        "S:4": 4097 // 4,
        "S:128": 32,
        "seen128": 128 + 1,
        "windows4": 24,
        "windows128": 0.75,
    }


def test_a_draft_token_is_verified_with_the_last_one() -> None:
    found = sizes(DECODE + " mtp=0.7", "seen128")
    assert (found["T"], found["seen128"], found["arrived"]) == (192, 130, 1152)


def test_what_is_accepted_changes_no_size() -> None:
    assert sizes(DECODE + " mtp=0") == sizes(DECODE + " mtp=1")


def test_the_ranks_of_a_group_share_their_rows() -> None:
    assert sizes("phase=decode ep=32 tp=4 batch=8")["arrived"] == 8 * 6 / 4
    assert sizes("phase=decode tp=4 batch=8")["arrived"] == 8 * 6


def test_a_dense_model_dispatches_nothing() -> None:
    assert sizes("phase=decode batch=8", config=DENSE)["arrived"] == 0


def test_prefill_takes_the_prompt_or_a_chunk() -> None:
    assert sizes("phase=prefill batch=2 context=1000")["T"] == 2000
    assert sizes("phase=prefill batch=2 context=1000 chunk=500")["T"] == 1000


def test_chunks_that_do_not_divide_count_as_equal_ones() -> None:
    assert sizes("phase=prefill context=1000 chunk=300")["T"] == 250  # 4 calls


@pytest.mark.parametrize("ratio", [1, 4, 128])
@pytest.mark.parametrize("context", [3, 100, 1000])
def test_a_prompt_sees_half_of_itself_on_average(ratio: int, context: int) -> None:
    text = f"phase=prefill context={context}"
    mean = sum((position + 1) // ratio for position in range(context)) / context
    assert sizes(text, f"S:{ratio}")[f"S:{ratio}"] == pytest.approx(mean)


def test_chunks_see_what_the_whole_prompt_sees() -> None:
    chunks = sizes("phase=prefill context=1000 chunk=100", "S:4")
    assert chunks["S:4"] == sizes("phase=prefill context=1000", "S:4")["S:4"]


def test_sweeps_equal_points() -> None:
    contexts = np.array([100, 4096, 2**20])
    for phase in ("decode", "prefill"):
        swept = sizes(f"phase={phase} batch=8", "S:4", "seen128", "windows4", context=contexts)
        for at, context in enumerate(contexts.tolist()):
            one = sizes(f"phase={phase} batch=8 context={context}", "S:4", "seen128", "windows4")
            assert {k: float(np.broadcast_to(v, 3)[at]) for k, v in swept.items()} == one
    batches = np.array([1, 7])
    assert sizes("phase=decode", batch=batches)["arrived"].tolist() == [6, 42]
    ranks = sizes("phase=decode ep=8 tp=2 batch=4", ranks=np.array([1, 8]))
    assert ranks["arrived"].tolist() == [24, 12]


def test_an_unknown_size_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no value is known for the size Q"):
        sizes(DECODE, "Q")


def test_the_names_of_kernels() -> None:
    loop = Loop(Extent(symbol("S:4"), 8), 2, Block(loops=(Loop(Extent(R, 8, T), 1, Block()),)))
    work = kernel(Phase((Extent(64, 8),), Block(loops=(loop,))), flops=symbol("windows4") * 2)
    assert names_of([work, elementwise()]) == ("S:4", "T", "arrived", "windows4")


@pytest.mark.parametrize(
    ("model", "config"),
    [
        ("deepseek_v4", "deepseek_v4_pro"),
        ("deepseek_v3", "deepseek_v3"),
        ("llama", "llama_3_1_8b"),
        ("qwen3_moe", "qwen3_30b_a3b"),
    ],
)
def test_every_size_of_a_model_has_a_value(model: str, config: str) -> None:
    module = build_model(model_path(model), config_of(config), "deployed")
    functions = [op for op in module.ops if isinstance(op, func.FuncOp)]
    shapes = [shape for op in functions for shape in function_shapes(op).values()]
    formulas = [size for shape in shapes for size in shape if isinstance(size, Formula)]
    names = {name for size in formulas for name in size.names}
    found = sizes_of(deployment("phase=decode batch=2 context=5000"), model_on(config), names)
    assert names <= set(found) and min(found[name] for name in names) > 0


def test_experts_without_rows_are_not_touched() -> None:
    one_each = deployment("phase=decode ep=384")
    assert touched_experts(one_each, PRO, 3) == 1  # one expert on each rank
    four_each = deployment("phase=decode ep=96 tp=1")
    assert touched_experts(four_each, PRO, 2) == pytest.approx(1 - (3 / 4) ** 2)


def test_the_fullest_rank_has_more_rows() -> None:
    held = deployment("phase=decode ep=384 batch=64")
    assert imbalance(held, PRO, sizes_of(held, PRO)) == pytest.approx(1.15, abs=0.01)
