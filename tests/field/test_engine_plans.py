"""Plans for the engines that load them, in the settings that users tried: the file is whole, the
plan is not worse than EPLB by the clock that it is told by, and EPLB is the one that would run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from deployed_models import kernels_on, model_on
from engine_splits import ascend_slot

from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import engine_named
from supertile.targets.machine import load_machine
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.exports import Drafts, export_files
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.planned import Planned
from supertile.targets.plan.planner import Request, make_plan


def planned(
    config: str,
    machine: str,
    deployment: str,
    loads: str | np.ndarray,
    engine: str | None = None,
    **more: Any,
) -> Planned:
    """Two layers of a shipped model under the loads of a law, or of counts [2, E]."""
    model = model_on(config, machine)
    found = loads_from("uniform" if isinstance(loads, np.ndarray) else loads, expert_layers(model))
    few: Loads = replace(found, counts=found.counts[:, -2:], layers=found.layers[-2:])
    if isinstance(loads, np.ndarray):
        few = replace(few, counts=loads[None].astype(np.float64))
    return make_plan(
        Request(
            model=config,
            config_name=config,
            config=model,
            machine=load_machine(machine),
            deployment=parse_deployment(deployment),
            loads=few,
            works=kernels_on(config, machine),
            engine=None if engine is None else engine_named(engine),
            **{"shares": "equal", **more},
        )
    )


def is_worse(plan: Planned) -> np.ndarray:
    """[L]: than EPLB."""
    seconds = {name: plan.layer_seconds(placed) for name, placed in plan.sides()}
    return np.asarray(seconds["planned"] > seconds["EPLB"])


def has_twins(plan: Planned) -> np.ndarray:
    """[L]: whether EPLB has an expert twice on a rank, as no plan does."""
    assert plan.baseline is not None
    ranks = plan.baseline.expert.reshape(len(plan.layers), plan.baseline.ranks, -1)
    return np.array([any(len({*rank}) < len(rank) for rank in layer) for layer in ranks.tolist()])


@pytest.mark.parametrize("objective", ["time", "tokens"])
@pytest.mark.parametrize(("law", "slots"), [("lognormal:0.5", 288), ("zipf:1.2", 272)])
def test_sglang_gets_an_expert_in_every_slot(objective, slots, law):
    deployment = f"phase=decode ep=16 batch=64 slots={slots}"
    plan = planned("deepseek_v3", "h200", deployment, law, "sglang", objective=objective)
    text = export_files(plan.plan_file(), "sglang")["sglang.json"].text
    rows = json.loads(text)["physical_to_logical_map"]
    assert [len(row) for row in rows] == [slots] * 61
    assert all(set(row) == set(range(256)) for row in rows)
    if objective == "time":
        assert not (is_worse(plan) & ~has_twins(plan)).any() and not has_twins(plan).all()


def test_tensorrt_llm_has_a_row_for_the_draft_layer_that_runs():
    deployment = "phase=decode ep=32 batch=64 slots=416 mtp=0.8"
    plan = planned("deepseek_v4_pro", "gb300-nvl72", deployment, "zipf:0.6", "tensorrt-llm")
    drafts = Drafts(1, running=True)
    files = export_files(plan.plan_file(), "tensorrt-llm", drafts)
    table = yaml.safe_load(files["tensorrt-llm.yaml"].text)
    assignments = table["initial_global_assignments"]
    assert [*assignments] == [59, 60, 61] and table["num_slots"] == 416
    assert assignments[61] == [slot % 384 for slot in range(416)]
    # The loader of vllm-ascend counts layers by position, all devices with as many slots.
    files = export_files(plan.plan_file(), "vllm-ascend", drafts)
    layers = json.loads(files["vllm-ascend.json"].text)["layer_list"]
    for position, layer in enumerate(layers):
        devices = [device["device_expert"] for device in layer["device_list"]]
        assert layer["layer_id"] == position and {len(device) for device in devices} == {13}
        row = [expert for device in devices for expert in device]
        reached = {ascend_slot(row, expert, rank) for expert in range(384) for rank in range(32)}
        assert reached == set(range(416)), "every slot gets tokens of a rank"


def hot(experts: int, seed: int) -> np.ndarray:
    """A few very hot experts, many cold ones."""
    random = np.random.default_rng(seed)
    loads = np.round(random.lognormal(2, 0.7, (2, experts)))
    for row in loads:
        row[random.choice(experts, 5, replace=False)] *= [400, 300, 100, 80, 60]
    return loads


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shares", ["weighted", "equal"])
def test_few_hot_experts_are_not_placed_worse_than_by_eplb(seed, shares):
    deployment = "phase=decode ep=16 batch=64 slots=288"
    plan = planned("deepseek_v4_flash", "h200", deployment, hot(256, seed), shares=shares)
    assert not is_worse(plan).any()


def test_eplb_is_the_policy_that_the_engine_runs():
    """Four nodes divide the eight expert groups of DeepSeek-V3: its groups stay on a node; three
    nodes do not, and DeepSeek-V4 has no groups."""

    def groups_of_nodes(config: str, ranks: int) -> list[set[int]]:
        deployment = f"phase=decode ep={ranks} batch=64 slots=288"
        plan = planned(config, "h100", deployment, hot(256, 9), "sglang", objective="tokens")
        assert plan.baseline is not None
        row = plan.baseline.expert[0].reshape(ranks // 8, -1)
        return [set((node // 32).tolist()) for node in row]

    for groups in groups_of_nodes("deepseek_v3", 32):
        assert len(groups) == 2
    assert max(map(len, groups_of_nodes("deepseek_v3", 24))) > 2
    assert max(map(len, groups_of_nodes("deepseek_v4_flash", 32))) > 2


def test_the_balance_told_is_that_of_whole_ranks():
    """vllm-ascend's rank r takes replica r mod n: counted here rank by rank, with even tokens."""
    deployment = "phase=decode ep=32 batch=64 slots=288"
    counts = hot(256, 3)
    plan = planned("deepseek_v3", "h100", deployment, counts, "vllm-ascend", objective="tokens")
    held = plan.plan_file()
    for row, layer in enumerate(held.layers):
        slots, loads = held.placement.expert[row].tolist(), np.zeros(32)
        for expert, tokens in enumerate(counts[row]):
            for rank in range(32):
                loads[ascend_slot(slots, expert, rank) // 9] += tokens / 32
        assert layer.balancedness == pytest.approx(loads.mean() / loads.max(), abs=1e-12)
        even = held.placement.loads(plan.load)[row]
        assert even.max() != pytest.approx(loads.max(), rel=1e-4), "an even split is another one"
