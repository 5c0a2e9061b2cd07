"""What serving engines do with the files that plans are exported to, as their sources have it.

SGLang 0.5.23 (`srt/eplb/expert_location.py`), vllm-ascend 0.23.0 (`eplb/core/eplb_utils.py`),
vLLM 0.33.0 (`distributed/eplb`), with NumPy in place of torch. TensorRT-LLM's rules are those of
its documentation.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


# ---- SGLang


def sglang_map(text: str, layers: int, experts: int, redundant: int, ep: int) -> Array:
    """[layers, P]: what `--init-expert-location` makes of the file."""
    found = json.loads(text)
    assert "physical_to_logical_map" in found

    def init_by_mapping(model_config: object, physical_to_logical_map: Any) -> Array:
        slots = np.array(physical_to_logical_map)
        physical = experts + redundant
        assert physical % ep == 0
        assert slots.shape == (layers, physical)
        for row in slots.tolist():
            places: list[list[int]] = [[] for _ in range(experts)]
            for slot, expert in enumerate(row):
                places[expert].append(slot)
            assert all(places)
        return slots

    return init_by_mapping(None, **found)  # a further key is an error here


# ---- vllm-ascend


def ascend_layer(text: str, layer: int, experts: int, ep: int) -> tuple[Array, int]:
    """[D, S]: the experts of each device in the layer at a position; and the redundant experts.

    The layer after the last is that of drafts: the default layout in as many slots as layer 0 has.
    """
    data = json.loads(text)
    assert layer <= data["moe_layer_count"] == len(data["layer_list"])
    if layer == data["moe_layer_count"]:
        total = sum(len(device["device_expert"]) for device in data["layer_list"][0]["device_list"])
        return (np.arange(total) % experts).reshape(ep, -1), total - experts
    devices = [device["device_expert"] for device in data["layer_list"][layer]["device_list"]]
    assert len(devices) == ep
    placement = np.array(devices, np.int32)  # rows of equal length
    for held in placement:
        local = np.full(experts, -1)
        local[held] = np.arange(len(held))
        assert (local >= 0).sum() == len(held)  # no expert twice on a device
    return placement, placement.size - experts


# ---- TensorRT-LLM


def tensorrt_table(text: str) -> dict[str, Any]:
    """The part of YAML that these files use: scalars, and lists by whole numbers."""
    if text.startswith("{"):
        table: dict[str, Any] = json.loads(text)
        assignments = table["initial_global_assignments"]
        return {**table, "initial_global_assignments": {int(k): v for k, v in assignments.items()}}
    found: dict[str, Any] = {}
    inner: dict[int, Any] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.startswith("  "):
            inner[int(key)] = json.loads(value)
        else:
            found[key] = json.loads(value) if value.strip() else inner
    return found


def tensorrt_map(text: str, moe: list[int], experts: int, ep: int) -> dict[int, list[int]]:
    """By layer; `moe` are the layers that the engine looks up, those of drafts among them."""
    table = tensorrt_table(text)
    assert table["layer_updates_per_iter"] == 0 and table["num_slots"] % ep == 0
    assignments: dict[int, list[int]] = table["initial_global_assignments"]
    assert sorted(assignments) == moe
    for row in assignments.values():
        assert len(row) == table["num_slots"] and set(row) == set(range(experts))
    return assignments


# ---- vLLM


def vllm_static_map(
    text: str, layers: int, drafts: int, experts: int, redundant: int, groups: int = 1
) -> Array:
    """[N, P]: what the static map of pull request 53022 is checked for."""
    rows = json.loads(text)
    if isinstance(rows[0], int):
        rows = [rows] * (layers + drafts)
    assert len(rows) == layers + drafts
    for row in rows:
        assert all(type(expert) is int for expert in row)
        assert len(row) == experts + redundant and set(row) == set(range(experts))
        if redundant == 0 and groups > 1:
            blocks = np.reshape(row, (groups, -1)) // (experts // groups)
            assert all(len(set(block)) == 1 for block in blocks.tolist())
    return np.array(rows)


def vllm_initial_map(text: str, moe_layers: int, experts: int, redundant: int) -> Array:
    """[L, P]: what the initial map of pull request 49572 is checked for."""
    rows = np.array(json.loads(text))
    assert rows.shape == (moe_layers, experts + redundant)
    assert all(set(row) == set(range(experts)) for row in rows.tolist())
    return rows


class Before:
    """The policy that vLLM has without the plan; it says what it was asked."""

    @classmethod
    def rebalance_experts(cls, *arguments: Any) -> Any:
        return ("before", *arguments)


def load_policy(text: str, monkeypatch: Any) -> tuple[Any, dict[str, Any]]:
    """The class in an exported module, installed; and vLLM's table of policies."""
    policies: dict[str, Any] = {"default": Before}
    torch = ModuleType("torch")
    torch.int64 = np.int64  # type: ignore[attr-defined]
    torch.tensor = lambda rows, dtype: np.array(rows, dtype)  # type: ignore[attr-defined]
    policy = ModuleType("vllm.distributed.eplb.policy")
    policy.EPLB_POLICIES = policies  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    for name in ("vllm", "vllm.distributed", "vllm.distributed.eplb"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, policy.__name__, policy)
    module = ModuleType("planned")
    exec(compile(text, "planned.py", "exec"), vars(module))
    module.install()
    module.install()  # a second time changes nothing
    return policies["default"], policies
