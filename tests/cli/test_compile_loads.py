"""`supertile compile --loads`: a step under loads, with a plan and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_files import DATA

from supertile.cli.main import main

SMALL = ["deepseek_v3", "--config", str(DATA / "deepseek_v3"), "--target", "ascend-910c"]
"""A dense layer and three of 16 experts."""
DEPLOYED = [*SMALL, "--deploy", "phase=decode ep=4 batch=64 context=128 slots=20"]


def step(folder: Path, *more: str) -> dict[str, object]:
    """The summary of the step, without where its loads come from."""
    assert main(["compile", *DEPLOYED, *more, "-o", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    del summary["loads"]
    return summary  # type: ignore[no-any-return]


def test_even_loads_are_balanced_routing(tmp_path: Path) -> None:
    assert step(tmp_path / "even", "--loads", "uniform") == step(tmp_path / "none")


def test_a_plan_looks_better_than_no_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = ("--loads", "zipf:1.2,seed=3")
    assert main(["plan", *DEPLOYED, *loads, "-o", str(tmp_path / "plan")]) == 0
    plan = ("--plan", str(tmp_path / "plan" / "plan.json"))
    balanced, dealt = step(tmp_path / "balanced"), step(tmp_path / "dealt", *loads)
    planned = step(tmp_path / "planned", *plan)
    assert balanced["step_ms"] == pytest.approx(planned["step_ms"], rel=1e-3)
    assert dealt["step_ms"] > planned["step_ms"]  # type: ignore[operator]
    assert planned == step(tmp_path / "both", *plan, *loads), "a plan holds its loads"
    told = capsys.readouterr().out
    assert "loads: zipf:1.2,seed=3" in told and "experts dealt round-robin: the fullest" in told
    assert "experts as planned: the fullest rank has 1.000 times the" in told


def test_an_answer_is_kept_for_its_loads(tmp_path: Path) -> None:
    """Files of one name and other counts are other questions."""
    file = tmp_path / "loads.json"
    asked = ("--loads", str(file))
    file.write_text(json.dumps([[1] * 16] * 3))
    even = step(tmp_path / "even", *asked)
    file.write_text(json.dumps([[9] + [1] * 15] * 3))
    assert step(tmp_path / "uneven", *asked)["step_ms"] > even["step_ms"]  # type: ignore[operator]


def test_loads_of_another_model_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "experts.json").write_text(json.dumps([[1] * 7] * 3))
    (tmp_path / "layers.json").write_text(json.dumps([[1] * 16] * 9))
    for name, expected in (("experts", "16 experts in a row"), ("layers", "3 rows, one for each")):
        assert main(["compile", *DEPLOYED, "--loads", str(tmp_path / f"{name}.json")]) == 1
        told = capsys.readouterr().err
        assert f"does not fit the {name} of the model" in told and f"expected: {expected}" in told
        assert f"{name}.json" in told and "Traceback" not in told


def test_an_engine_starts_with_its_experts_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Expert 0 alone is loaded: it is on rank 0, and its replica on the last, which halves it."""
    file = tmp_path / "loads.json"
    file.write_text(json.dumps([[1] + [0] * 15] * 3))
    asked = ("--loads", str(file), "--engine", "sglang")
    step(tmp_path / "start", *asked)
    told = " ".join(capsys.readouterr().out.split())
    assert "SGLang 0.5.23, experts where it starts, split by its rule: the fullest rank has" in told
    assert "the fullest rank has 2.000 times the mean" in told
    module = (tmp_path / "start" / "module.mlir").read_text()
    slots = " ".join(map(str, [*range(16), *range(4)]))
    assert f'1 "{slots}"' in module, "what is costed is where the module has it"
    uneven = [*SMALL, "--deploy", "phase=decode ep=4 context=128 slots=17", *asked]
    assert main(["compile", *uneven]) == 1
    assert "SGLang 0.5.23 has as many slots on each rank" in capsys.readouterr().err
    assert main(["compile", *DEPLOYED, "--engine", "sglang"]) == 1
    assert "--loads or --plan beside --engine" in capsys.readouterr().err


def test_loads_need_a_deployment_and_plans_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compile", *SMALL, "--loads", "zipf:1"]) == 1
    assert "--deploy beside --loads" in capsys.readouterr().err
    assert main(["plan", *DEPLOYED, "-o", str(tmp_path)]) == 0
    plan = json.loads((tmp_path / "plan.json").read_text())
    for layer in plan["layers"]:
        del layer["loads"]
    (tmp_path / "old.json").write_text(json.dumps(plan))
    capsys.readouterr()
    line = ["compile", *DEPLOYED, "--plan", str(tmp_path / "old.json")]
    assert main(line) == 1
    assert "does not hold the loads that it was made for" in capsys.readouterr().err
    assert main([*line, "--loads", "uniform"]) == 0
