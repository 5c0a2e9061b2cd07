"""Any deployment that fits a machine can be planned for, under any loads and options: ranks that
fill no domain, one rank, slots for every expert or for few more, uneven ranks, hot and empty
layers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_models import kernels_on, model_on
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import UserError
from supertile.targets.deploy import check_deployment, parse_deployment
from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.machine import load_machine
from supertile.targets.placement.check import check_map
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.exports import export_files
from supertile.targets.plan.loads import COUNT_LEAST, COUNT_LIMIT, Loads
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.plan_file import read_plan, write_plan
from supertile.targets.plan.plan_fit import spanned_domains
from supertile.targets.plan.planner import Request, Robustness, make_plan

SMALL = "data/deepseek_v4"
LAYERS, EXPERTS = 6, 8
MACHINES = ("ascend-910c", "ascend-950dt", "gb200-nvl72", "gb300-nvl72", "h100", "h200")
WIDEST = np.geomspace(COUNT_LEAST, COUNT_LIMIT, EXPERTS)
COUNTS = {
    "even": np.ones((1, LAYERS, EXPERTS)),
    "one expert": np.tile(np.arange(EXPERTS) == 3, (1, LAYERS, 1)) * 5.0,
    "no counts but in a layer": np.ones((1, LAYERS, EXPERTS)) * (np.arange(LAYERS) == 2)[:, None],
    "as wide as counts are": np.tile(WIDEST, (1, LAYERS, 1)),
    "least": np.full((1, LAYERS, EXPERTS), COUNT_LEAST),
    "largest": np.full((2, LAYERS, EXPERTS), float(COUNT_LIMIT)),
    "windows": np.arange(3.0 * LAYERS * EXPERTS).reshape(3, LAYERS, EXPERTS),
}


@st.composite
def deployments(draw: Any) -> str:
    ranks = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 12, 16, 24, 32]))
    least = -(-EXPERTS // ranks)
    each = draw(st.integers(least, min(EXPERTS, least + 3)))
    total = draw(st.integers(max(EXPERTS, ranks), min(EXPERTS * ranks, EXPERTS + 3 * ranks)))
    slots = draw(st.sampled_from([f"{each}/rank", str(total), f"{EXPERTS}/rank"]))
    phase = draw(st.sampled_from(["decode", "prefill"]))
    tp = draw(st.sampled_from(["", "", " tp=2"])) if ranks % 2 == 0 else ""
    return f"phase={phase} ep={ranks} batch={draw(st.sampled_from([1, 16, 64]))} context=64 " + (
        f"slots={slots}{tp}"
    )


@st.composite
def loads(draw: Any) -> Loads:
    model = expert_layers(model_on(SMALL))
    law = draw(st.sampled_from(["uniform", "zipf:0.8", "zipf:8", "lognormal:3", *COUNTS]))
    found = loads_from("uniform" if law in COUNTS else law, model)
    if law in COUNTS:
        found = replace(found, counts=COUNTS[law])
    if draw(st.booleans()):
        pairs = np.ones((LAYERS, EXPERTS, EXPERTS)) * (1 - np.eye(EXPERTS))
        found = replace(found, pairs=pairs * draw(st.sampled_from([0, 1, COUNT_LIMIT])))
    return found


@settings(max_examples=12)
@given(
    st.sampled_from(MACHINES),
    deployments(),
    loads(),
    st.sampled_from(["weighted", "equal"]),
    st.sampled_from(["time", "tokens"]),
    st.sampled_from([None, None, Robustness(0.2, 1), Robustness(3.0, 2)]),
    st.sampled_from([None, *engine_names()]),
)
def test_what_fits_a_machine_can_be_planned(
    folder: Path,
    machine: str,
    text: str,
    loads: Loads,
    shares: Any,
    objective: str,
    robust: Robustness | None,
    engine: str | None,
) -> None:
    asked = Request(
        model="deepseek_v4",
        config_name="config",
        config=model_on(SMALL, machine),
        machine=load_machine(machine),
        deployment=parse_deployment(text),
        loads=loads,
        works=kernels_on(SMALL, machine),
        shares=shares,
        objective=objective,
        robust=robust,
        engine=None if engine is None else engine_named(engine),
    )
    try:
        check_deployment(asked.deployment, asked.config, asked.machine)
    except UserError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        planned = make_plan(asked)
    assert check_map(planned.after, planned.load) == []
    write_plan(folder / "plan.json", planned.plan_file())
    plan = read_plan(folder / "plan.json")
    assert plan == planned.plan_file()
    assert plan.domains == spanned_domains(asked.machine, asked.deployment.ep)
    if engine is None or shares == "weighted":
        return
    if len(set(asked.slots.tolist())) == 1:
        assert export_files(plan, engine), "every slot is full"
    else:
        with pytest.raises(UserError, match="same number of slots"):
            export_files(plan, engine)
