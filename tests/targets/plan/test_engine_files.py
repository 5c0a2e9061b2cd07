"""Plans of any loads, redundancy and ranks: each engine loads its file, and splits as was told.

The rules of the engines are written down once more in `engine_rules` and `engine_splits`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from deployed_models import kernels_on, model_on
from engine_rules import ascend_layer, load_policy, sglang_map, tensorrt_map, vllm_initial_map
from engine_splits import ascend_slot, candidates, sglang_slots, vllm_slot
from hypothesis import given, settings, strategies as st
from plan_models import plan_of

from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.machine import load_machine
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.exports import Drafts, export_files
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.planner import Request, place_experts

MODEL = model_on("data/deepseek_v4", "h200")
LOADS = loads_from("uniform", expert_layers(MODEL))
EACH_WITH_75 = 75
"""Settings for each of four engines: 300."""
LAYERS = (2, 4)
"""Of five, the others dense."""


class Setting(NamedTuple):
    """One deployment on servers of eight."""

    ranks: int
    experts: int
    slots: int
    groups: int
    tp: int
    batch: int
    objective: str
    load: np.ndarray
    """[1 or 2, experts]"""

    def request(self, engine: str) -> Request:
        assert MODEL.experts is not None
        experts = replace(MODEL.experts, experts=self.experts, groups=self.groups)
        layers = LAYERS[: len(self.load)]
        text = f"phase=decode ep={self.ranks} tp={self.tp} batch={self.batch}"
        return Request(
            model="small",
            config_name="config",
            config=replace(MODEL, experts=experts),
            machine=load_machine("h200"),
            deployment=parse_deployment(f"{text} slots={self.slots}/rank"),
            loads=replace(LOADS, counts=self.load[None], layers=layers),
            works=kernels_on("data/deepseek_v4", "h200"),
            shares="equal",
            objective=self.objective,
            engine=engine_named(engine),
        )


@st.composite
def deployments(draw: st.DrawFn) -> Setting:
    ranks, experts = draw(st.sampled_from([2, 3, 4, 6, 8, 16])), draw(st.integers(4, 20))
    fewest = -(-experts // ranks)
    # Small layers are searched for longer, so they are drawn more seldom.
    usual = min(experts, max(fewest, 20 // ranks + 1))
    least = usual if draw(st.integers(0, 7)) else fewest
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sigma = draw(st.sampled_from([0.0, 0.5, 2.0]))
    load = np.exp(sigma * random.standard_normal((draw(st.integers(1, 2)), experts)))
    load[:, : draw(st.integers(0, experts - 1))] *= draw(st.sampled_from([1.0, 0.0, 20.0]))
    return Setting(
        ranks,
        experts,
        draw(st.integers(least, min(experts, least + 3))),
        draw(st.sampled_from([1, *(n for n in (2, 4) if experts % n == 0)])),
        draw(st.sampled_from([1, *(n for n in (2,) if ranks % n == 0)])),
        draw(st.sampled_from([1, 3, 64])),
        draw(st.sampled_from(["time", "tokens", "tokens"])),
        load,
    )


# ---- what each engine makes of its files: [L][P]


def sglang_rows(files: dict[str, str], asked: Setting, monkeypatch: Any) -> list[list[int]]:
    redundant = asked.ranks * asked.slots - asked.experts
    rows = sglang_map(files["sglang.json"], 5, asked.experts, redundant, asked.ranks)
    return [rows[layer].tolist() for layer in LAYERS[: len(asked.load)]]


def vllm_rows(files: dict[str, str], asked: Setting, monkeypatch: Any) -> list[list[int]]:
    total = asked.ranks * asked.slots
    policy, _ = load_policy(files["vllm.py"], monkeypatch)
    rows = policy.rebalance_experts(np.zeros(asked.load.shape), total, 1, 1, asked.ranks).tolist()
    counts = (len(asked.load), asked.experts, total - asked.experts)
    assert vllm_initial_map(files["vllm-pr49572.json"], *counts).tolist() == rows
    return [list(map(int, row)) for row in rows]


def ascend_rows(files: dict[str, str], asked: Setting, monkeypatch: Any) -> list[list[int]]:
    text, positions = files["vllm-ascend.json"], range(len(asked.load) + 1)
    found = [ascend_layer(text, at, asked.experts, asked.ranks) for at in positions]
    assert {redundant for _, redundant in found} == {asked.ranks * asked.slots - asked.experts}
    return [placement.ravel().tolist() for placement, _ in found[:-1]]


def tensorrt_rows(files: dict[str, str], asked: Setting, monkeypatch: Any) -> list[list[int]]:
    layers = [*LAYERS[: len(asked.load)], 5]
    found = tensorrt_map(files["trtllm.yaml"], layers, asked.experts, asked.ranks)
    return list(found.values())[:-1]


ROWS_OF: dict[str, Callable[[dict[str, str], Setting, Any], list[list[int]]]] = {
    "sglang": sglang_rows,
    "vllm": vllm_rows,
    "vllm-ascend": ascend_rows,
    "trtllm": tensorrt_rows,
}


# ---- how each engine splits tokens: the slot of each source, for one expert


def sources(engine: str, row: list[int], expert: int, asked: Setting, nodes: int) -> list[int]:
    ranks = range(asked.ranks)
    if engine == "sglang":
        return sglang_slots(row, expert, asked.ranks, nodes)
    if engine == "vllm":
        rows = max(1, round(asked.batch / asked.tp))
        return [vllm_slot(row, expert, token) for token in range(rows)]
    if engine == "vllm-ascend":
        return [ascend_slot(row, expert, rank, asked.tp) for rank in ranks]
    return candidates(row, expert)


def balance(engine: str, rows: list[list[int]], asked: Setting) -> list[float]:
    """Mean over largest load of a rank in each layer, tokens spread evenly over their sources."""
    nodes = asked.ranks // 8 if asked.ranks % 8 == 0 else 1
    found = []
    for row, load in zip(rows, asked.load, strict=True):
        loads = np.zeros(asked.ranks)
        for expert in range(asked.experts):
            chosen = sources(engine, row, expert, asked, nodes)
            for slot in chosen:
                loads[slot // asked.slots] += load[expert] / len(chosen)
        found.append(loads.mean() / loads.max() if loads.max() else 1.0)
    return found


@pytest.mark.parametrize("engine", engine_names())
def test_each_engine_loads_its_file_and_splits_as_told(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @settings(max_examples=EACH_WITH_75, derandomize=True, deadline=None, database=None)
    @given(deployments())
    def check(asked: Setting) -> None:
        request = asked.request(engine)
        placed = place_experts(request)
        numbers = LAYERS[: len(asked.load)]
        plan = plan_of(placed.after, numbers, model_layers=5, engine=engine)
        files = export_files(plan, engine, Drafts(1, running=True))
        rows = ROWS_OF[engine](
            {name: made.text for name, made in files.items()}, asked, monkeypatch
        )
        assert rows == placed.after.expert.tolist()
        told = request.split(placed.after).balancedness(asked.load)
        assert np.allclose(balance(engine, rows, asked), told, rtol=1e-12, atol=0)

    check()
