"""Plans: what is planned is checked, cheaper than what was there, and bounded from below."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployed_models import kernels_on, model_on

from supertile.ir.errors import UserError
from supertile.targets.deploy import parse_deployment
from supertile.targets.machine import load_machine
from supertile.targets.placement.check import check_map
from supertile.targets.placement.eplb import without_twins
from supertile.targets.plan.argument import loads_from
from supertile.targets.plan.model import expert_layers
from supertile.targets.plan.plan_file import plan_text, read_plan
from supertile.targets.plan.plan_lines import plan_lines
from supertile.targets.plan.planned import Planned
from supertile.targets.plan.planner import Request, Robustness, make_plan

SMALL = "data/deepseek_v4"


def request(
    deployment: str, loads: str = "zipf:0.8", config: str = SMALL, **more: object
) -> Request:
    model = model_on(config)
    return Request(
        model="deepseek_v4",
        config_name="config",
        config=model,
        machine=load_machine("ascend-910c"),
        deployment=parse_deployment(deployment),
        loads=loads_from(loads, expert_layers(model)),
        works=kernels_on(config),
        **more,  # type: ignore[arg-type]
    )


def real_request(deployment: str, **more: object) -> Request:
    """Three layers of V4-Pro."""
    asked = request(deployment, "zipf:0.6", "deepseek_v4_pro", **more)
    loads = asked.loads
    few = replace(loads, counts=loads.counts[:, 58:], layers=loads.layers[58:])
    return replace(asked, loads=few)


def plan(deployment: str = "phase=decode ep=4 batch=64 slots=12", **more: object) -> Planned:
    return make_plan(request(deployment, **more))  # type: ignore[arg-type]


def fullest(planned: Planned, name: str) -> np.ndarray:
    return dict(planned.sides())[name].loads(planned.load).max(axis=1)


def test_the_real_model_is_balanced_exactly() -> None:
    planned = make_plan(real_request("phase=decode ep=384 batch=64 slots=768"))
    assert check_map(planned.after, planned.load) == []
    assert fullest(planned, "planned") == pytest.approx(planned.bound, rel=1e-9)
    assert (fullest(planned, "EPLB") > planned.bound * 1.01).all()
    assert (fullest(planned, "round-robin") > planned.bound * 5).all()
    assert (planned.layer_seconds(planned.after) < planned.layer_seconds(planned.before)).all()
    layer = planned.plan_file().layers[2]
    assert (layer.layer, layer.balancedness, layer.ratio) == (
        60,
        pytest.approx(1),
        pytest.approx(1),
    )
    # No node holds all replicas of an expert, so none is lost with one.
    assert any("0.0% of the experts with several" in line for line in planned.communication)


@pytest.mark.parametrize("shares", ["weighted", "equal"])
@pytest.mark.parametrize("slots", ["slots=9", "slots=12", "slots=4x1,2x2,3x1", "slots=8"])
def test_no_plan_beats_its_bound(slots: str, shares: str) -> None:
    planned = plan(f"phase=decode ep=4 batch=64 {slots}", shares=shares)
    assert check_map(planned.after, planned.load) == []
    assert (fullest(planned, "planned") >= planned.bound * (1 - 1e-9)).all()
    assert (fullest(planned, "planned") <= fullest(planned, "round-robin") * (1 + 1e-9)).all()


def test_a_plan_reads_back_and_is_the_same_again(tmp_path: Path) -> None:
    first, second = (plan().plan_file() for _ in range(2))
    assert plan_text(first) == plan_text(second)
    (tmp_path / "plan.json").write_text(plan_text(first))
    assert read_plan(tmp_path / "plan.json") == first


def test_few_tokens_want_few_replicas() -> None:
    """A layer of V4-Pro with one token a rank: reading a second expert costs more than it saves."""
    deployment = "phase=decode ep=384 batch=1 slots=768"
    timed = make_plan(real_request(deployment))
    tokens = make_plan(real_request(deployment, objective="tokens"))
    assert (timed.layer_seconds(timed.after) < tokens.layer_seconds(tokens.after)).all()
    assert (tokens.after.balancedness(tokens.load) > timed.after.balancedness(timed.load)).all()
    assert any("hold a replica without tokens" in note for note in timed.notes)
    assert (timed.after.expert >= 0).all()  # engines load no idle slots


def test_scenarios_are_planned_for_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    planned = plan(robust=Robustness(drift=0.2, count=4))
    assert planned.expected is not None and planned.expected_before is not None
    assert (planned.expected >= planned.expected_before - 1e-3).all()
    text = "\n".join(plan_lines(planned))
    assert "4 scenarios not used for planning: drift 0.2" in text
    assert f"{planned.expected.mean():.4f}" in text


def test_moves_from_a_plan_in_use_are_limited() -> None:
    current = plan(loads="zipf:0.8,seed=1").plan_file()
    moved = [plan(loads="zipf:0.8,seed=2", current=current, moves=moves) for moves in (0, 3, None)]
    counts = [len(one.moves or ()) for one in moved]
    assert counts[0] == 0 and counts[1] <= 3 < counts[2]
    worst = [(fullest(one, "planned") / one.bound).mean() for one in moved]
    assert worst[0] >= worst[1] >= worst[2] - 1e-3
    assert (moved[0].after.expert == current.placement.expert).all()


def test_a_plan_in_use_for_other_ranks_is_refused() -> None:
    current = plan("phase=decode ep=2 batch=64 slots=8").plan_file()
    with pytest.raises(UserError) as raised:
        plan(current=current)
    assert raised.value.code == "plan.current"
    assert raised.value.expected == "8 experts, 4 ranks, 12 slots, 6 layers"
    assert raised.value.found == "8 experts, 2 ranks, 8 slots, 6 layers"


def test_one_rank_sends_nothing() -> None:
    planned = plan("phase=decode ep=1 batch=64")
    assert planned.communication == ()
    assert (planned.after.balancedness(planned.load) == 1).all()


@pytest.mark.parametrize("machine", ["h200", "ascend-910c", "gb300-nvl72"])
@pytest.mark.parametrize("ranks", ["ep=1", "ep=2 slots=4x1,6x1", "ep=4 slots=12"])
@pytest.mark.parametrize("robust", [None, Robustness(drift=0.2, count=2)])
@pytest.mark.parametrize("paired", [False, True])
def test_ranks_of_one_domain_or_several(
    machine: str, ranks: str, robust: Robustness | None, paired: bool
) -> None:
    asked = request(f"phase=decode {ranks} batch=8", robust=robust)
    asked = replace(asked, machine=load_machine(machine))
    if paired:
        layers, experts = asked.loads.total.shape
        pairs = np.random.default_rng(0).random((layers, experts, experts))
        asked = replace(asked, loads=replace(asked.loads, pairs=pairs))
    planned = make_plan(asked)
    assert check_map(planned.after, planned.load) == []
    assert (planned.over_bound >= 1 - 1e-9).all()


def test_every_placement_has_its_expected_balance_and_progress_ends() -> None:
    parts: list[float] = []
    planned = plan(robust=Robustness(drift=0.2, count=4), progress=parts.append)
    assert planned.baseline is not None and planned.expected_baseline is not None
    assert (planned.expected_baseline <= 1).all()
    row = next(line for line in plan_lines(planned) if line.startswith("EPLB"))
    assert row.endswith(f"{planned.expected_baseline.mean():.4f}")
    assert parts == sorted(parts) and parts[0] > 0 and parts[-1] <= 1


@pytest.mark.parametrize("objective", ["time", "tokens"])
@pytest.mark.parametrize("shares", ["weighted", "equal"])
@pytest.mark.parametrize("loads", ["zipf:0.8", "lognormal:0.7"])
def test_no_layer_of_a_plan_is_worse_than_eplbs(objective: str, shares: str, loads: str) -> None:
    planned = plan(
        "phase=decode ep=4 batch=64 slots=12", loads=loads, objective=objective, shares=shares
    )
    assert planned.baseline is not None
    if objective == "time":
        ours, theirs = planned.layer_seconds(planned.after), planned.layer_seconds(planned.baseline)
    else:
        ours, theirs = fullest(planned, "planned"), fullest(planned, "EPLB")
    single = (without_twins(planned.baseline).expert >= 0).all(axis=1)
    assert single.any()  # where a rank has an expert twice, no plan with equal shares may follow
    counts = single | (shares == "weighted")
    assert (ours <= theirs * (1 + 1e-9))[counts].all()


def test_the_bound_is_that_of_the_objective() -> None:
    deployment = "phase=decode ep=384 batch=1 slots=768"
    timed, tokens = (
        make_plan(real_request(deployment, objective=name)) for name in ("time", "tokens")
    )
    assert timed.over_bound == pytest.approx(timed.layer_seconds(timed.after) / timed.bound_seconds)
    assert tokens.over_bound == pytest.approx(fullest(tokens, "planned") / tokens.bound)
    said = f"least time: {timed.over_bound.mean():.4f} x its lower bound"
    assert any(line.startswith(said) for line in plan_lines(timed))
