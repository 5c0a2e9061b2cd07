"""Figures of plan files: those of the planner hold, and one that is changed is refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from plan_models import even, plan_of, weighted

from supertile.cli.main import main
from supertile.ir.errors import UserError
from supertile.targets.plan.plan_figures import contradiction, split_placement
from supertile.targets.plan.plan_file import plan_text, read_plan

DATA = Path(__file__).parents[2] / "data"
OPTIONS = {
    "weighted": ["--robust", "--scenarios", "1"],
    "equal": ["--shares", "equal"],
    "sglang": ["--engine", "sglang"],
}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """plan.json of the planner by how it was made, each read back."""
    found = {}
    for name, options in OPTIONS.items():
        folder = tmp_path_factory.mktemp(name.replace("-", "_"))
        asked = ["plan", "deepseek_v4", "--config", str(DATA / "deepseek_v4"), "--target", "h200"]
        asked += ["--deploy", "phase=decode ep=4 batch=64 slots=12", "--loads", "lognormal:1.5"]
        assert main([*asked, *options, "-o", str(folder)]) == 0
        assert contradiction(read_plan(folder / "plan.json")) is None
        found[name] = json.loads((folder / "plan.json").read_text())
    return found


def failure(folder: Path, plan: dict[str, Any]) -> UserError:
    path = folder / "changed.json"
    path.write_text(json.dumps(plan))
    with pytest.raises(UserError) as caught:
        read_plan(path)
    return caught.value


LAYER = ("balancedness", "bound", "ratio", "max_load")


@settings(max_examples=25)
@given(
    st.sampled_from([*OPTIONS]),
    st.integers(0, 5),
    st.sampled_from(LAYER),
    st.floats(0.05, 20).filter(lambda factor: abs(factor - 1) > 1e-6),
)
def test_a_changed_figure_of_a_layer_is_refused(folder, plans, case, layer, name, factor):
    plan = copy.deepcopy(plans[case])
    plan["layers"][layer][name] *= factor
    found = failure(folder, plan)
    assert found.code in ("plan.figure", "plan.value") and f"layers[{layer}]." in found.message


@settings(max_examples=10)
@given(st.sampled_from([*OPTIONS]), st.sampled_from([0.2, 0.9, 1.1, 30.0]), st.data())
def test_a_changed_figure_of_the_whole_is_refused(folder, plans, case, factor, data):
    plan = copy.deepcopy(plans[case])
    steps = data.draw(
        st.sampled_from(
            [
                ("comparison", "planned", "load_over_mean"),
                ("comparison", "EPLB", "step_seconds"),
                ("comparison", "planned", "tokens_per_second_per_device"),
                ("bounds", "overlapped"),
            ]
        )
    )
    place = plan
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] *= factor
    assert failure(folder, plan).code == "plan.figure"


@settings(max_examples=30)
@given(st.sampled_from([*OPTIONS]), st.integers(0, 5), st.integers(0, 11), st.integers(-1, 8))
def test_a_changed_slot_is_refused_or_its_figures_hold(folder, plans, case, layer, slot, expert):
    """What is read is a plan whose figures are those of the placement that it has now."""
    plan = copy.deepcopy(plans[case])
    plan["layers"][layer]["slots"][slot] = expert
    path = folder / "changed.json"
    path.write_text(json.dumps(plan))
    try:
        read = read_plan(path)
    except UserError as error:
        assert error.code.startswith("plan.") and error.spot is not None
        return
    placed = split_placement(read)
    assert placed is not None and read.load is not None
    ranks = np.zeros((6, 4))
    for at in range(12):
        for row in range(6):
            held = placed.expert[row, at]
            ranks[row, at // 3] += placed.share[row, at] * read.load[row, held] * (held >= 0)
    np.testing.assert_allclose([one.max_load for one in read.layers], ranks.max(axis=1))
    balance = ranks.mean(axis=1) / ranks.max(axis=1)
    np.testing.assert_allclose([one.balancedness for one in read.layers], balance)


@pytest.mark.parametrize("shares", ["equal", "weighted"])
def test_figures_without_loads_are_held_against_each_other(tmp_path, shares):
    text = plan_text(plan_of(even() if shares == "equal" else weighted()))
    path = tmp_path / "plan.json"
    path.write_text(text)
    assert read_plan(path).load is None
    for name, value, told in (
        ("balancedness", 0.1, "0.333333 to 1, as there are 3 ranks"),
        ("balancedness", 1.0, "from the mean to the largest load"),
        ("max_load", 1e300, "max_load over bound"),
        ("bound", 1e9, "max_load over bound"),
        ("ratio", 1e-9, "max_load over bound"),
    ):
        plan = json.loads(text)
        plan["layers"][1][name] = value
        found = failure(tmp_path, plan)
        assert found.code == "plan.figure" and told in found.expected
        assert "layers[1]." in found.message


def test_an_engine_without_its_setting_is_held_against_itself(tmp_path, plans):
    """Older plans do not say what the engine's rule was told."""
    plan = copy.deepcopy(plans["sglang"])
    del plan["engine_setting"]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan))
    assert read_plan(path).setting is None
    plan["layers"][0]["ratio"] *= 2
    assert failure(tmp_path, plan).code == "plan.figure"
    plan["engine_setting"] = {"nodes": 3, "groups": None, "tp": 1, "rows": 1}
    assert "divides 4 ranks" in failure(tmp_path, plan).expected
