"""`supertile plan` and `supertile compile` say the same of a step with a placement under loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_files import DATA

from supertile.cli.main import main

LOADS = ("--loads", "zipf:1.2,seed=3")
SMALL = ["deepseek_v3", "--config", str(DATA / "deepseek_v3")]
DECODE = "phase=decode ep=4 batch=64 context=128 slots=20"
DRAFTS = ["deepseek_v4", "--config", str(DATA / "deepseek_v4_deployed")]
CASES = {
    "910C": (SMALL, "ascend-910c", DECODE, ()),
    "H200, engine": (SMALL, "h200", DECODE, ("--engine", "sglang")),
    "prefill": (SMALL, "h200", "phase=prefill ep=4 batch=2 context=128", ()),
    "drafts": (DRAFTS, "ascend-910c", "phase=decode ep=4 batch=1 context=64 mtp=0.5", ()),
}


def rate(folder: Path, asked: list[str], *more: str) -> tuple[float, float]:
    """(seconds, tokens per second per device) of the step that `compile` costs."""
    assert main(["compile", *asked, *more, "-o", str(folder)]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    tokens = summary["tokens_per_second_per_device"]
    return summary["step_ms"] / 1e3, tokens or summary["prefill_tokens_per_second_per_device"]


def told(row: dict[str, Any]) -> tuple[float, float]:
    return row["step_seconds"], row["tokens_per_second_per_device"]


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_compile(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, machine, deployment, engine = CASES[case]
    asked = [*model, "--target", machine, "--deploy", deployment]
    assert main(["plan", *asked, *LOADS, *engine, "-o", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    rows = json.loads((tmp_path / "plan.json").read_text())["comparison"]
    plan = ("--plan", str(tmp_path / "plan.json"))
    assert told(rows["planned"]) == rate(tmp_path / "planned", asked, *plan)
    if engine:
        start = rate(tmp_path / "start", asked, *LOADS, *engine)
        assert told(rows["engine's start"]) == start
    if case in ("910C", "prefill"):
        assert told(rows["round-robin"]) == rate(tmp_path / "dealt", asked, *LOADS)
    tokens = rows["planned"]["tokens_per_second_per_device"]
    assert f"The plan gives {tokens:,.0f} " in output
    assert set(rows) >= {"round-robin", "EPLB", "planned"}


def test_a_plan_in_use_is_a_row_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan for other loads is the current placement; the new one is as much better."""
    asked = [*SMALL, "--target", "ascend-910c", "--deploy", DECODE]
    old = str(tmp_path / "old")
    assert main(["plan", *asked, "--loads", "zipf:1.2,seed=4", "-o", old]) == 0
    capsys.readouterr()
    current = ("--current", str(tmp_path / "old" / "plan.json"))
    assert main(["plan", *asked, *LOADS, *current, "-o", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "plan.json").read_text())["comparison"]
    assert list(rows) == ["round-robin", "in use", "EPLB", "planned"]
    assert told(rows["in use"]) == rate(tmp_path / "step", asked, "--plan", current[1], *LOADS)
    assert "more than the current\n  placement (in use)." in capsys.readouterr().out
