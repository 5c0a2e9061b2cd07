"""Layers of experts as the module says: by hand, before and behind their placement, and refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployed_models import graph_module, model_on

from supertile.ir import comm, graph
from supertile.ir.comm_work import CopyBytes, copy_bytes
from supertile.ir.errors import UserError
from supertile.ir.expert_layer import ExpertLayer, expert_layer, expert_sizes
from supertile.ir.text import context
from supertile.passes.legalize_formats import LegalizeFormats
from supertile.passes.plan_experts import PlanExperts
from supertile.passes.shard_attention import ShardAttention
from supertile.targets.formats import legalize_options
from supertile.targets.machine import load_machine, machine_names

ROOT = Path(__file__).parents[2]
MODELS = ("deepseek_v4_pro", "deepseek_v4_flash", "deepseek_v3", "qwen3_30b_a3b")
MACHINES = machine_names()


def test_v4_pro_by_hand() -> None:
    """FP8 rows with a scale for 128 channels, FP4 weights with one for 32; the shared expert has
    FP8 weights with a scale for 128 x 128."""
    layer = model_on("deepseek_v4_pro", "h200").expert_layer
    assert (layer.channels, layer.inner, layer.experts, layer.choices) == (7168, 3072, 384, 6)
    assert layer.row == CopyBytes(7168 + 56, 12, 2 * 7168)
    weights = 3 * 7168 * 3072
    assert layer.flops == 2 * weights
    assert layer.expert_bytes == weights / 2 + weights / 32
    assert (layer.shared, layer.shared_bytes) == (1, weights + weights / 128**2)
    assert layer.element == "f8e4m3"
    assert layer.numbers == tuple(range(61)) and layer.hashed == (0, 1, 2)


def test_what_a_machine_lacks_is_int8() -> None:
    layer = model_on("deepseek_v4_pro", "ascend-910c").expert_layer
    assert layer.row.out == 7168 + 4 and layer.element == "i8"
    assert layer.expert_bytes == 3 * 7168 * 3072 + 4 * (2 * 3072 + 7168)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_bf16_model_is_bf16_everywhere(machine: str) -> None:
    layer = model_on("qwen3_30b_a3b", machine).expert_layer
    assert (layer.experts, layer.choices, layer.layers) == (128, 8, 48)
    assert layer.row == CopyBytes(2 * 2048, 2 + 8, 2 * 2048) and layer.element == "bf16"
    assert layer.expert_bytes == 2 * 3 * 2048 * 768
    assert (layer.shared, layer.shared_bytes) == (0, 0)


def test_dense_layers_and_dense_models_have_none() -> None:
    layer = model_on("deepseek_v3", "h200").expert_layer
    assert layer.numbers == tuple(range(3, 61)) and layer.main_layers == 61 and not layer.hashed
    assert layer.groups == 8 and model_on("deepseek_v4_pro", "h200").expert_layer.groups == 0
    assert expert_layer(graph_module("llama_3_1_8b")) is None


@pytest.mark.parametrize("machine", ["ascend-910c", "h200"])
@pytest.mark.parametrize("config", MODELS)
def test_what_is_read_before_experts_are_placed_is_what_travels_then(
    config: str, machine: str
) -> None:
    """Groups of ranks share attention; `tests/cli/test_expert_kernels.py` tries all machines."""
    assert model_on(config, machine).experts == layer_behind(config, machine, ranks=8, tp=2)


def test_slices_of_experts_count_as_whole_ones() -> None:
    whole = model_on("deepseek_v3", "h200").expert_layer
    sliced = layer_behind("deepseek_v3", "h200", ranks=1, tp=2)
    assert sliced is not None
    assert (sliced.inner, sliced.flops, sliced.shared) == (whole.inner, whole.flops, whole.shared)
    assert (sliced.expert_bytes, sliced.shared_bytes) == (whole.expert_bytes, whole.shared_bytes)


def layer_behind(config: str, machine: str, ranks: int, tp: int) -> ExpertLayer | None:
    module = graph_module(config).clone()
    ShardAttention(tp, "share" if ranks > 1 else "slice").apply(context(), module)
    LegalizeFormats(**legalize_options(load_machine(machine))).apply(context(), module)
    PlanExperts(ranks).apply(context(), module)
    dispatches = [op for op in module.walk() if isinstance(op, graph.Dispatch | comm.Dispatch)]
    assert dispatches and all(isinstance(op, comm.Dispatch) == (ranks > 1) for op in dispatches)
    for combine in (op for op in module.walk() if isinstance(op, comm.Combine)):
        dispatch = combine.origin.owner
        assert isinstance(dispatch, comm.Dispatch)
        assert expert_sizes(dispatch).row == copy_bytes(dispatch, combine)
    return expert_layer(module)


def test_experts_of_two_sizes_are_refused() -> None:
    """The rows of one layer made wider: there is no one size to plan by."""
    module = graph_module("deepseek_v4_flash").clone()
    LegalizeFormats(**legalize_options(load_machine("ascend-910c"))).apply(context(), module)
    last = [op for op in module.walk() if isinstance(op, graph.Dispatch)][-1]
    last.properties["experts"] = type(last.experts)(128, last.experts.type)
    with pytest.raises(UserError) as caught:
        expert_layer(module)
    assert caught.value.code == "placement.unlike_experts"
    assert "experts of 256" in caught.value.expected and caught.value.found == "128"


KEYS = (
    "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "expert_dtype",
    "n_shared_experts", "first_k_dense_replace", "num_experts", "num_local_experts",
    "n_group", "num_hash_layers",
)  # fmt: skip


def test_nobody_but_the_front_end_asks_a_configuration_about_experts() -> None:
    for folder in ("ir", "passes", "runtime", "targets", "cli"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            asked = [key for key in KEYS if f'"{key}"' in text]
            assert not asked, f"{path.relative_to(ROOT)} asks for {asked}"
