"""`supertile plan --engine`: the figures are those of the engine that loads the plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_files import DATA

from supertile.cli.main import main

H100 = ["plan", "deepseek_v3", "--config", "deepseek_v3", "--target", "h100"]
EP32 = [*H100, "--deploy", "phase=decode ep=32 batch=64 slots=288"]
"""Four nodes, which divide the eight expert groups of DeepSeek-V3."""


@pytest.fixture(scope="module")
def hot_experts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Loads of 61 layers, the first three dense, the others with a few very hot experts."""
    row = json.loads((DATA / "hot_experts.json").read_text())
    file = tmp_path_factory.mktemp("loads") / "loads.json"
    file.write_text(json.dumps({"logical_count": [[0] * 256] * 3 + [row] * 58}))
    return str(file)


def balance(output: str, row: str) -> str:
    """The balancedness that a row of the table tells."""
    table = output.partition("\nplacement ")[2]
    return next(line.split()[3] for line in table.splitlines() if line.startswith(f"{row} "))


def test_eplb_is_hierarchical_where_the_nodes_divide_the_groups(
    hot_experts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*EP32, "--loads", hot_experts]) == 0
    assert balance(capsys.readouterr().out, "EPLB") == "0.9689"


@pytest.mark.parametrize("engines", ["vllm-ascend,sglang", "sglang,vllm-ascend"])
def test_the_balance_is_that_of_the_split_of_the_engine(
    hot_experts: str, engines: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*EP32, "--loads", hot_experts, "--shares", "equal", "--export", engines]
    assert main([*line, "-o", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert balance(output, "planned") == "0.9885" and "loads the plan: " in output
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["engine"] == engines.split(",")[0]
    assert {round(layer["balancedness"], 4) for layer in plan["layers"]} == {0.9885}


def test_an_unknown_engine_is_told_before_anything_is_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*EP32, "--engine", "triton"]) == 1
    told = capsys.readouterr().err
    assert "no serving engine is known as triton" in told and "sglang, trtllm, vllm" in told


def test_a_plan_comes_from_the_file_that_an_engine_has_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["plan", "deepseek_v4", "--config", str(DATA / "deepseek_v4"), "--target", "h200"]
    deployed = [*model, "--deploy", "phase=decode ep=4 batch=64 slots=12", "--shares", "equal"]
    first = [*deployed, "--loads", "zipf:0.8,seed=1", "--export", "sglang", "-o", str(tmp_path)]
    assert main(first) == 0
    in_use = str(tmp_path / "sglang.json")
    told = {}
    for moves in ("0", "4"):
        line = [*deployed, "--loads", "zipf:0.8,seed=2", "--current", in_use, "--moves", moves]
        capsys.readouterr()
        assert main([*line, "--engine", "sglang"]) == 0
        told[moves] = capsys.readouterr().out
    assert "moves from the plan in use: 0 experts" in told["0"]
    assert "moves from the plan in use: 4 experts" in told["4"]
    assert main([*model, "--deploy", "phase=decode ep=4 batch=64", "--current", in_use]) == 1
    assert "the plan in use is not for this deployment" in capsys.readouterr().err
