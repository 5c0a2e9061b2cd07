"""Plans for engines: every slot is full, and by the engine's own rule they are better than EPLB."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployed_models import kernels_on, model_on

from supertile.ir.errors import UserError
from supertile.ir.placement import IDLE
from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.machine import load_machine
from supertile.targets.placement.check import check_map
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.exports import export_text
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.planned import PLANNED, Planned
from supertile.targets.plan.planner import Request, make_plan, place_experts

DATA = Path(__file__).parents[2] / "data"


def request(loads: str = "lognormal:0.5", **more: object) -> Request:
    """Three layers of DeepSeek-V3 on two nodes, 32 experts more than one of each."""
    model = model_on("deepseek_v3", "h200")
    found = loads_from(loads, expert_layers(model))
    few = replace(found, counts=found.counts[:, :3], layers=found.layers[:3])
    values = {"shares": "equal", "loads": few, **more}
    return Request(
        model="deepseek_v3",
        config_name="deepseek_v3",
        config=model,
        works=kernels_on("deepseek_v3", "h200"),
        machine=load_machine("h200"),
        deployment=parse_deployment("phase=decode ep=16 batch=64 slots=288"),
        **values,  # type: ignore[arg-type]
    )


def on_four_nodes() -> Request:
    """One layer with a few very hot experts, on 32 ranks."""
    row = json.loads((DATA / "hot_experts.json").read_text())
    asked = request(objective="tokens")
    loads = replace(
        asked.loads, counts=np.array([[row]], np.float64), layers=asked.loads.layers[:1]
    )
    deployment = parse_deployment("phase=decode ep=32 batch=64 slots=288")
    return replace(asked, machine=load_machine("h100"), deployment=deployment, loads=loads)


def largest(planned: Planned, name: str) -> np.ndarray:
    found: np.ndarray = planned.loads[name].max(axis=1)
    return found


def test_without_an_engine_slots_stay_idle_and_no_engine_takes_the_plan() -> None:
    planned = make_plan(request())
    assert (planned.after.expert == IDLE).any()
    with pytest.raises(UserError, match="sglang cannot leave a slot idle"):
        export_text(planned.plan_file(), "sglang")


@pytest.mark.parametrize("name", engine_names())
@pytest.mark.parametrize("objective", ["time", "tokens"])
def test_for_an_engine_every_slot_is_full(name: str, objective: str) -> None:
    planned = make_plan(request(engine=engine_named(name), objective=objective))
    assert (planned.after.expert != IDLE).all()
    assert check_map(planned.after, planned.load) == []
    assert export_text(planned.plan_file(), name).text
    if objective == "tokens":
        assert (largest(planned, PLANNED) <= largest(planned, "EPLB")).all()
    else:
        sides = dict(planned.sides())
        seconds = [planned.layer_seconds(sides[side]) for side in (PLANNED, "EPLB")]
        assert (seconds[0] <= seconds[1]).all()


def test_loads_whose_replicas_do_not_fit_fill_every_slot() -> None:
    """Counts of replicas that balance this layer best leave some without a rank that lacks them."""
    row = json.loads((DATA / "cold_experts.json").read_text())
    asked = request(objective="tokens")
    counts = np.array([[row]], np.float64)
    loads = replace(asked.loads, counts=counts, layers=asked.loads.layers[:1])
    planned = make_plan(replace(asked, loads=loads, engine=engine_named("sglang")))
    assert (planned.after.expert != IDLE).all()
    assert (largest(planned, PLANNED) < largest(planned, "EPLB")).all()


@pytest.mark.parametrize("name", ["vllm-ascend", "sglang"])
def test_an_even_split_is_not_that_of_an_engine(name: str) -> None:
    """Of an expert with three replicas 32 ranks send to them by 11, 11 and 10."""
    asked, engine = on_four_nodes(), engine_named(name)
    load = asked.loads.total
    evenly = place_experts(asked).after
    assert evenly.balancedness(load).round(4).tolist() == [0.9998]
    assert engine.split(evenly, asked.setting).balancedness(load).round(4).tolist() == [0.9885]
    planned = replace(asked, engine=engine)
    assert planned.split(place_experts(planned).after).balancedness(load) > 0.993


def test_the_figures_of_a_plan_are_by_the_split_of_its_engine() -> None:
    engine = engine_named("vllm-ascend")
    asked = request(engine=engine)
    planned = make_plan(asked)
    loads = engine.split(planned.after, asked.setting).loads(planned.load)
    plan = planned.plan_file()
    assert plan.engine == "vllm-ascend"
    for row, layer in enumerate(plan.layers):
        assert layer.balancedness == loads[row].mean() / loads[row].max()
        assert layer.max_load == loads[row].max()
    assert (planned.after.loads(planned.load) != loads).any()
