"""Memory by hand on a small made-up model, then published sizes of the shipped ones."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cost_examples import B, figure, machine
from deployed_models import config_of, model_on
from hypothesis import given, strategies as st

from supertile.frontend.build import build_model
from supertile.ir.errors import UserError
from supertile.ir.formula import symbol
from supertile.ir.text import context
from supertile.passes.shard_attention import ShardAttention
from supertile.runtime.plan import ModulePlan, plan_module
from supertile.targets.cost.memory import (
    Fit,
    check_fits,
    fit_text,
    memory_use,
    usable_memory,
    what_fits,
)
from supertile.targets.cost.storage import (
    StoredState,
    StoredWeight,
    cached_row,
    stored_states,
    stored_weights,
)
from supertile.targets.deploy import Deployment, Model, parse_deployment
from supertile.targets.machine import load_machine
from supertile.targets.timeline import MemoryUse

ROOT = Path(__file__).parents[3]
MADE = replace(model_on("data/deepseek_v4").expert_layer, experts=8)
MODEL = Model("made", {}, MADE)
WEIGHTS = (
    StoredWeight("layers.{l}.wq", 10, 1000, 0),
    StoredWeight("layers.{l}.norm", 10, 10, 0),
    StoredWeight("layers.{l}.experts.{e}.w1", 10, 800, 8),
)
ENTRIES = StoredState("layers.kept", "blocks", 10 * B * symbol("S:4"), 100, 50, 1)
KEYS = StoredState("layers.indexer.kept", "blocks", 10 * B * symbol("S:4"), 10, 5, 1)
HEADS = StoredState("layers.keys", "blocks", 10 * B * symbol("S:1"), 80, 40, 4)
RECENT = StoredState("layers.recent", "ring", 10 * 16 * B, 100, 50, 1)
STATES = (ENTRIES, KEYS, HEADS, RECENT)


def use(text: str, **more: Any) -> dict[str, float]:
    parts = memory_use(WEIGHTS, STATES, parse_deployment(text), MODEL, machine(), **more).parts
    return dict(parts)


def test_everything_on_one_device() -> None:
    # 4096 tokens and the one of the step: 1025 entries of 4.
    assert use("phase=decode batch=2 context=4096") == {
        "dense weights": 10 * 1010,
        "expert weights": 10 * 800,
        "main cache": 2 * 10 * (1025 * 100 + 4097 * 80),
        "indexer cache": 2 * 10 * 1025 * 10,
        "window and partial state": 2 * 10 * 16 * 100,
        "activations": 0,
        "communication buffers": 0,
    }


def test_a_device_has_the_experts_of_its_slots() -> None:
    assert use("phase=decode ep=4")["expert weights"] == 10 * 800 / 8 * 2
    assert use("phase=decode ep=4 slots=2x3,5x1")["expert weights"] == 10 * 800 / 8 * 5  # fullest


def test_slices_are_those_of_the_module() -> None:
    """What a group shares is cut in the IR: nothing is divided a second time."""
    one, two = (use(f"phase=decode tp={tp} batch=2") for tp in (1, 2))
    assert one == two


def test_what_the_caller_counts() -> None:
    found = use("phase=decode", activations=7.0, buffers=9.0)
    assert (found["activations"], found["communication buffers"]) == (7, 9)


def test_a_prompt_is_all_that_is_cached() -> None:
    assert use("phase=prefill context=4096")["indexer cache"] == 10 * 1024 * 10


# Channels of an entry and of these rotated -> bytes with cache=fp8.
@pytest.mark.parametrize(
    ("channels", "rotated", "expected"),
    [
        (512, 64, 584),  # DeepSeek-V4: 448 + 128 + 7 scales, to 4 bytes
        (576, 64, 648),  # DeepSeek-V3: 512 + 128 + 8
        (128, 0, 132),
    ],
)
def test_entries_in_fp8(channels: int, rotated: int, expected: int) -> None:
    state = StoredState("kept", "blocks", B, 2 * channels, channels, 1)
    assert cached_row(state, "fp8", rotated) == expected
    assert cached_row(state, "bf16", rotated) == 2 * channels
    assert cached_row(replace(state, kind="partial"), "fp8", rotated) == 2 * channels


def test_usable_memory() -> None:
    assert usable_memory(machine()) == 100e9
    held = machine()
    less = replace(held.memories["hbm"], usable=figure(90e9))
    assert usable_memory(replace(held, memories={**held.memories, "hbm": less})) == 90e9


# ---- what fits --------------------------------------------------------------------------------


def made_up(deployment: Deployment) -> MemoryUse:
    return MemoryUse((("cache", float(deployment.batch * deployment.context)),), 1000.0)


def test_the_most_that_fits() -> None:
    held = parse_deployment("phase=decode batch=20 context=100")
    fit = what_fits(made_up, held, MODEL)
    assert fit == Fit(batch=10, context=50)
    assert (
        fit_text(fit, held, MODEL)
        == "At most batch=10 at context=100 or context=50 at batch=20 fits."
    )
    with pytest.raises(UserError) as caught:
        check_fits(made_up(held), fit, held, MODEL, machine())
    assert "at most batch=10" in str(caught.value) and "cache 2 KB" in str(caught.value)


@given(st.integers(1, 2**50), st.lists(st.integers(1, 2**50), max_size=6), st.integers(1, 2**40))
def test_the_largest_batch_fits_and_one_more_does_not(
    room: int, changes: list[int], asked: int
) -> None:
    """Whatever was asked, where memory falls at some batches because another route is taken."""
    deployment = parse_deployment("phase=decode context=1")

    def use(one: Deployment) -> MemoryUse:
        saved = sum(one.batch > change for change in changes) % 2 * (room // 8)
        return MemoryUse((("cache", float(one.batch)), ("buffers", room / 4 - saved)), float(room))

    def least(one: Deployment) -> MemoryUse:
        return MemoryUse((("cache", float(one.batch)), ("buffers", room / 8)), float(room))

    found = [
        what_fits(use, replace(deployment, batch=batch), MODEL, least).batch for batch in (1, asked)
    ]
    assert found[0] == found[1]
    assert not found[0] or use(replace(deployment, batch=found[0])).fits
    assert not use(replace(deployment, batch=found[0] + 1)).fits
    assert not least(replace(deployment, batch=room)).fits or found[0] >= room


def test_a_capacity_is_no_limit_of_the_search() -> None:
    held = parse_deployment("phase=decode batch=1 context=1")
    small = replace(MODEL, values={"max_position_embeddings": 64})

    def use(one: Deployment) -> MemoryUse:
        return MemoryUse((("cache", float(one.batch)),), 2.0**40)

    fit = what_fits(use, held, small)
    assert fit == Fit(2**40, 64)
    text = fit_text(fit, held, small)
    assert f"batch={2**40} (a deployment names at most {2**31})" in text
    assert "context=64 (all positions of the model) at batch=1" in text


def test_what_fits_is_no_error() -> None:
    held = parse_deployment("phase=decode batch=2 context=100")
    check_fits(made_up(held), Fit(10, 500), held, MODEL, machine())


def test_nothing_fits_where_the_weights_do_not() -> None:
    held = parse_deployment("phase=decode")
    full = MemoryUse((("weights", 2000.0),), 1000.0)
    fit = what_fits(lambda deployment: full, held, MODEL)
    assert fit == Fit(0, 0)
    assert fit_text(fit, held, MODEL) == "No batch and no context fits: take more ranks."


def test_chunks_shrink_with_the_prompt() -> None:
    held = parse_deployment("phase=prefill batch=20 context=100 chunk=80")
    seen: list[Deployment] = []

    def watched(deployment: Deployment) -> MemoryUse:
        seen.append(deployment)
        return made_up(deployment)

    assert what_fits(watched, held, MODEL).context == 50
    assert all((one.chunk or 0) <= one.context for one in seen)


# ---- the shipped models -----------------------------------------------------------------------

MODELS = {
    "pro": ("deepseek_v4", "deepseek_v4_pro"),
    "v3": ("deepseek_v3", "deepseek_v3"),
    "llama": ("llama", "llama_3_1_8b"),
    "qwen": ("qwen3_moe", "qwen3_30b_a3b"),
}


@cache
def model(name: str) -> tuple[ModulePlan, Model]:
    file, config = MODELS[name]
    module = build_model(ROOT / "models" / f"{file}.st", config_of(config), "deployed")
    return plan_module(module), model_on(config)


def gigabytes(name: str, target: str, text: str) -> dict[str, float]:
    plan, config = model(name)
    held, deployment = load_machine(target), parse_deployment(text)
    entries = plan.entries if deployment.mtp is not None else plan.entries[:1]
    weights, states = stored_weights(plan, entries, held), stored_states(plan, entries)
    found = memory_use(weights, states, deployment, config, held)
    return {name: size / 1e9 for name, size in found.parts}


def test_published_parameter_counts() -> None:
    llama = gigabytes("llama", "h200", "phase=decode")
    assert llama["dense weights"] == pytest.approx(2 * 8.03, rel=1e-3)  # 8.03 G in BF16
    v3 = gigabytes("v3", "gb200-nvl72", "phase=decode")
    # 671 G parameters in FP8, of which 1.85 G in embedding and head take two bytes.
    assert v3["dense weights"] + v3["expert weights"] == pytest.approx(671 + 1.85, rel=2e-3)
    qwen = gigabytes("qwen", "h200", "phase=decode")
    parameters = (qwen["dense weights"] + qwen["expert weights"]) * 1e9 / 2
    assert round(parameters) == 30_532_122_624


def test_one_expert_of_v4_pro() -> None:
    """61 layers of 3 x 7168 x 3072 weights: FP4 with a scale for 32, or INT8 with one a row."""
    text = "phase=decode ep=384"
    count = 61 * 3 * 7168 * 3072 / 1e9
    fp4 = gigabytes("pro", "gb200-nvl72", text)["expert weights"]
    assert fp4 == pytest.approx(count * (1 / 2 + 1 / 32))
    scales = 61 * 4 * (2 * 3072 + 7168) / 1e9
    int8 = gigabytes("pro", "ascend-910c", text)["expert weights"]
    assert int8 == pytest.approx(count + scales)


def test_caches_of_v4_pro() -> None:
    """30 layers keep an entry for 4 tokens, 31 one for 128; the indexer's have 128 channels."""
    found = gigabytes("pro", "h200", "phase=prefill ep=384 context=1M cache=fp8")
    assert found["main cache"] == pytest.approx(584 * 2**20 * (30 / 4 + 31 / 128) / 1e9)
    assert found["indexer cache"] == pytest.approx(132 * 2**20 * 30 / 4 / 1e9)
    wide = gigabytes("pro", "h200", "phase=prefill ep=384 context=1M")
    assert wide["main cache"] == pytest.approx(1024 * 2**20 * (30 / 4 + 31 / 128) / 1e9)


def test_draft_layers_count_if_they_run() -> None:
    text = "phase=decode ep=384 batch=8"
    without, with_drafts = (gigabytes("pro", "h200", text + more) for more in ("", " mtp=0.5"))
    experts = [found["expert weights"] for found in (without, with_drafts)]
    assert experts[1] / experts[0] == pytest.approx(62 / 61)
    # Embedding and head are shared: a draft layer adds much less than they have.
    assert 0 < with_drafts["dense weights"] - without["dense weights"] < 1


def of_group(name: str, tp: int, experts: str = "share") -> dict[str, float]:
    """Gigabytes of a rank of a group, at one batch."""
    file, config = MODELS[name]
    held = config_of(config)
    module = build_model(ROOT / "models" / f"{file}.st", held, "deployed")
    ShardAttention(tp, experts).apply(context(), module)
    plan, target = plan_module(module), load_machine("h200")
    entries = plan.entries[:1]
    weights, states = stored_weights(plan, entries, target), stored_states(plan, entries)
    deployment = parse_deployment(f"phase=decode tp={tp} batch=4")
    found = memory_use(weights, states, deployment, model_on(config), target)
    return {name: size / 1e9 for name, size in found.parts}


def test_keys_values_and_widths_are_sliced() -> None:
    """Embedding and head stay whole: 2.1 GB of Llama's 16."""
    one, four, sixteen = (of_group("llama", tp) for tp in (1, 4, 16))
    assert one["main cache"] == pytest.approx(4 * 4097 * 32 * 2 * 8 * 128 * 2 / 1e9)
    assert four["main cache"] == pytest.approx(one["main cache"] / 4)
    assert sixteen["main cache"] == pytest.approx(one["main cache"] / 8), "8 key-value heads"
    whole = 2 * 2 * 128256 * 4096 / 1e9
    cut = one["dense weights"] - whole
    assert four["dense weights"] - whole == pytest.approx(cut / 4, rel=1e-3)


def test_experts_are_sliced_where_each_group_has_all() -> None:
    shared, sliced = (of_group("v3", 8, experts) for experts in ("share", "slice"))
    one = of_group("v3", 1)
    assert shared["expert weights"] == pytest.approx(one["expert weights"])
    assert sliced["expert weights"] == pytest.approx(one["expert weights"] / 8, rel=1e-3)
    assert sliced["dense weights"] < shared["dense weights"] < one["dense weights"]
    assert shared["main cache"] == one["main cache"], "one latent entry serves all heads"
