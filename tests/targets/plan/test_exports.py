"""Files of serving engines: the plan is what comes out of each engine's own rules."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from engine_rules import (
    Before,
    ascend_layer,
    load_policy,
    sglang_map,
    tensorrt_map,
    vllm_initial_map,
    vllm_static_map,
)
from plan_models import ROWS, even, plan_of, weighted

from supertile.ir.errors import UserError
from supertile.targets.engines.engine import engine_names
from supertile.targets.plan.export_vllm import INTERFACES
from supertile.targets.plan.export_vllm_map import MAPS
from supertile.targets.plan.exports import Drafts, export, export_files, export_text
from supertile.targets.plan.plan_types import PlanFile

PLAN = plan_of(even())
WINDOW = np.zeros((2, 4))


DEFAULT = [0, 1, 2, 3, 0, 1]
"""What an engine puts into the slots of a layer without a placement."""


def error(plan: PlanFile, engine: str, interface: str | None = None) -> UserError:
    with pytest.raises(UserError) as caught:
        export_text(plan, engine, interface)
    return caught.value


def test_sglang_loads_the_plan(tmp_path):
    notes = export(PLAN, "sglang", tmp_path / "location.json")
    text = (tmp_path / "location.json").read_text()
    slots = sglang_map(text, layers=4, experts=4, redundant=2, ep=3)
    assert slots[[1, 3]].tolist() == ROWS
    assert slots[[0, 2]].tolist() == [[0, 1, 2, 3, 0, 1]] * 2  # dense layers: its own default
    assert notes == (
        "start SGLang with --ep-size 3 --ep-num-redundant-experts 2 --init-expert-location "
        "and this file",
    )


def test_vllm_ascend_loads_the_plan(tmp_path):
    export(PLAN, "vllm-ascend", tmp_path / "map.json")
    text = (tmp_path / "map.json").read_text()
    for position, row in enumerate(ROWS):
        placement, redundant = ascend_layer(text, position, experts=4, ep=3)
        assert placement.ravel().tolist() == row and redundant == 2
    assert [layer["layer_id"] for layer in json.loads(text)["layer_list"]] == [0, 1]


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".json"])
def test_tensorrt_loads_the_plan(tmp_path, suffix):
    path = tmp_path / f"balancer{suffix}"
    export(PLAN, "tensorrt-llm", path)
    found = tensorrt_map(path.read_text(), [1, 3], experts=4, ep=3)
    assert list(found.values()) == ROWS


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_tensorrt_has_a_row_for_each_draft_layer_that_runs(tmp_path, suffix):
    """Without one the engine ends with a KeyError, so a deployment that drafts has it."""
    path = tmp_path / f"balancer{suffix}"
    notes = export(PLAN, "trtllm", path, drafts=Drafts(2, running=True))
    found = tensorrt_map(path.read_text(), [1, 3, 4, 5], experts=4, ep=3)
    assert list(found.values()) == [*ROWS, DEFAULT, DEFAULT]
    assert "draft layers have a row" in notes[-1]
    notes = export(PLAN, "trtllm", path, drafts=Drafts(2, running=False))
    assert sorted(tensorrt_map(path.read_text(), [1, 3], experts=4, ep=3)) == [1, 3]
    assert "does not start with this file" in notes[-1]


def test_other_engines_say_what_becomes_of_drafts():
    drafts = Drafts(1, running=True)
    for engine, told in {
        "sglang": "draft layers have no row",
        "vllm": "draft layers are left to the policy",
        "vllm-ascend": "a layer of drafts takes the engine's default",
    }.items():
        assert told in export_text(PLAN, engine, drafts=drafts).notes[-1]
    slots = sglang_map(export_text(PLAN, "sglang", drafts=drafts).text, 4, 4, 2, 3)
    assert len(slots) == 4
    placement, _ = ascend_layer(export_text(PLAN, "vllm-ascend", drafts=drafts).text, 2, 4, 3)
    assert placement.ravel().tolist() == DEFAULT


def test_maps_of_vllm_lie_beside_the_policy():
    every = plan_of(even(), numbers=(0, 1), model_layers=2)
    files = export_files(every, "vllm", Drafts(1))
    assert list(files) == ["vllm.py", "vllm-pr53022.json", "vllm-pr49572.json"]
    static = vllm_static_map(files["vllm-pr53022.json"].text, 2, 1, experts=4, redundant=2)
    assert static.tolist() == [*ROWS, DEFAULT]
    assert vllm_initial_map(files["vllm-pr49572.json"].text, 2, 4, 2).tolist() == ROWS
    for number, option in (("53022", "expert_map_path"), ("49572", "initial_expert_map_path")):
        (note,) = files[f"vllm-pr{number}.json"].notes
        assert f"pull request {number}, which is in no release" in note and f'"{option}"' in note


def test_a_static_map_is_for_models_without_dense_layers():
    assert list(export_files(PLAN, "vllm")) == ["vllm.py", "vllm-pr49572.json"]
    found = error(PLAN, "vllm", "pr53022")
    assert found.code == "plan.export_dense" and found.found == "2 dense layers"


def test_a_map_of_vllm_is_json(tmp_path):
    for form in MAPS:
        with pytest.raises(UserError) as caught:
            export(plan_of(even(), (0, 1), model_layers=2), "vllm", tmp_path / "map.py", form)
        assert caught.value.expected == "a name that ends with .json"
    export(PLAN, "vllm", tmp_path / "map.json", "pr49572")
    assert json.loads((tmp_path / "map.json").read_text()) == ROWS


def test_vllm_gets_the_plan_from_its_policy(tmp_path, monkeypatch):
    export(PLAN, "vllm", tmp_path / "planned.py")
    policy, policies = load_policy((tmp_path / "planned.py").read_text(), monkeypatch)
    slots = policy.rebalance_experts(WINDOW, 6, 1, 1, 3, np.zeros((2, 6)))
    assert slots.tolist() == ROWS and slots.dtype == np.int64
    drafts = np.zeros((1, 4))
    assert policy.rebalance_experts(drafts, 6, 1, 1, 3, None) == (
        "before",
        drafts,
        6,
        1,
        1,
        3,
        None,
    )
    for replicas, ranks in ((8, 3), (6, 2)):
        with pytest.raises(ValueError, match="the plan is for 6 slots on 3 ranks"):
            policy.rebalance_experts(WINDOW, replicas, 1, 1, ranks)
    assert policy.before is Before and policies == {"default": policy}


def test_older_vllm_gets_the_inverse_and_the_counts_too(monkeypatch):
    policy, _ = load_policy(export_text(PLAN, "vllm", "tensors").text, monkeypatch)
    slots, places, counts = policy.rebalance_experts(WINDOW, 6, 1, 1, 3)
    assert slots.tolist() == ROWS and counts.tolist() == [[2, 2, 1, 1], [2, 1, 1, 2]]
    assert places[0].tolist() == [[0, 3], [1, 5], [2, -1], [4, -1]]
    assert places[1].tolist() == [[3, 5], [2, -1], [1, -1], [0, 4]]


def test_newer_vllm_gets_a_plan_of_its_own_class(monkeypatch):
    policy, _ = load_policy(export_text(PLAN, "vllm", "plan").text, monkeypatch)
    module = ModuleType("newer")
    monkeypatch.setitem(sys.modules, "newer", module)
    module.EplbPlan = SimpleNamespace
    context_class = type("EplbRebalanceContext", (SimpleNamespace,), {"__module__": "newer"})
    context = context_class(load_window_cpu=np.zeros((5, 2, 4)), num_replicas=6)
    plan = policy.rebalance_experts(context)
    assert plan.physical_to_logical_map.tolist() == ROWS
    drafts = context_class(load_window_cpu=np.zeros((5, 1, 4)), num_replicas=6)
    assert policy.rebalance_experts(drafts) == ("before", drafts)


@pytest.mark.parametrize("engine", engine_names())
def test_what_engines_cannot_express(engine):
    uneven = error(plan_of(even([[0, 1, 2, 0, 3, 1]] * 2, (3, 2, 1))), engine)
    assert uneven.code == "plan.export_uneven" and uneven.found == "1 to 3 slots on a rank"
    idle = error(plan_of(even([[0, 1, 2, 0, 3, 1], [0, 1, 2, 0, 3, -1]])), engine)
    assert idle.code == "plan.export_idle" and "1, the first on rank 2 in layer 3" in idle.found
    notes = export_text(plan_of(weighted()), engine).notes
    assert [note for note in notes if "the shares of the plan are left out" in note]
    assert not [note for note in export_text(PLAN, engine).notes if "shares" in note]


def test_vllm_takes_so_many_replicas():
    rows = [[slot // 2 * 2 % 4 + slot % 2 for slot in range(1028)]]
    plan = plan_of(even(rows, [2] * 514), numbers=(1,))
    found = error(plan, "vllm")
    assert found.code == "plan.export_redundant" and found.found == "1024"
    assert export_text(plan, "sglang").text


def test_wrong_engines_interfaces_and_names(tmp_path):
    assert "did you mean sglang?" in error(PLAN, "sg-lang").render()
    assert error(PLAN, "vllm", "tensor").suggestion == "did you mean tensors?"
    assert error(PLAN, "sglang", "map").code == "plan.interface"
    for engine in engine_names():
        with pytest.raises(UserError) as caught:
            export(PLAN, engine, tmp_path / "plan.txt")
        assert caught.value.code == "plan.export_suffix" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("interface", INTERFACES)
def test_modules_are_the_same_for_the_same_plan(interface):
    first, second = (export_text(plan_of(even()), "vllm", interface) for _ in range(2))
    assert first == second and ("was at hand" in first.notes[-1]) == (interface == "plan")
