"""`supertile plan --engine`: the figures are those of the engine that loads the plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_files import DATA
from engine_splits import ascend_slot, candidates, sglang_nearest, sglang_slots

from supertile.cli.main import main

H100 = ["plan", "deepseek_v3", "--config", "deepseek_v3", "--target", "h100"]
EP32 = [*H100, "--deploy", "phase=decode ep=32 batch=64 slots=288"]
"""Four nodes, which divide the eight expert groups of DeepSeek-V3."""


@pytest.fixture(scope="module")
def hot_experts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Loads of 61 layers, the first three dense, the others with a few very hot experts."""
    row = hot_row()
    file = tmp_path_factory.mktemp("loads") / "loads.json"
    file.write_text(json.dumps({"logical_count": [[0] * 256] * 3 + [row] * 58}))
    return str(file)


def hot_row() -> list[int]:
    row: list[int] = json.loads((DATA / "hot_experts.json").read_text())
    return row


def by_turns(slots: list[int], expert: int) -> list[int]:
    return [ascend_slot(slots, expert, rank) for rank in range(32)]


def by_nearest(slots: list[int], expert: int) -> list[int]:
    return sglang_slots(slots, expert, ranks=32, nodes=4)


def by_nearest_or_any(slots: list[int], expert: int) -> list[int]:
    """The near replica for as many tokens as there are replicas, or each of them for one."""
    places = candidates(slots, expert)
    near = [sglang_nearest(slots, expert, rank, ranks=32, nodes=4) for rank in range(32)]
    return [slot for one in near for slot in (places if one is None else [one] * len(places))]


def mean_over_largest(
    slots: list[int], load: list[int], rule: Callable[[list[int], int], list[int]]
) -> float:
    """Balancedness of 32 ranks where the tokens of an expert go to these slots in equal parts."""
    loads = np.zeros(32)
    for expert, tokens in enumerate(load):
        chosen = rule(slots, expert)
        for slot in chosen:
            loads[slot // 9] += tokens / len(chosen)
    return float(loads.mean() / loads.max())


def balance(output: str, row: str) -> str:
    """The balancedness that a row of the table tells."""
    table = output.partition("\nplacement ")[2]
    return next(line.split()[3] for line in table.splitlines() if line.startswith(f"{row} "))


def test_eplb_is_hierarchical_where_the_nodes_divide_the_groups(
    hot_experts: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*EP32, "--loads", hot_experts]) == 0
    assert balance(capsys.readouterr().out, "EPLB") == "0.9689"


def test_the_balance_told_is_that_of_the_split_of_each_engine(
    hot_experts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [*EP32, "--loads", hot_experts, "--shares", "equal", "--objective", "tokens"]
    assert main([*line, "--export", "vllm-ascend,sglang", "-o", str(tmp_path)]) == 0
    output, told = capsys.readouterr()
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["engine"] == "vllm-ascend" and "vllm-ascend 182b75ea84 loads the plan" in output
    load, (slots, *others) = hot_row(), [layer["slots"] for layer in plan["layers"]]
    assert all(row == slots for row in others)  # the layers have the same loads
    ascend, sglang = (mean_over_largest(slots, load, rule) for rule in (by_turns, by_nearest))
    assert balance(output, "planned") == f"{ascend:.4f}"
    assert (
        f"sglang.json: balancedness as SGLang 0.5.23 splits tokens that come evenly from all "
        f"ranks: {sglang:.4f}" in told
    )
    dynamic = mean_over_largest(slots, load, by_nearest_or_any)
    assert f"which draws for each token, it has {dynamic:.4f} on average" in told
    assert plan["layers"][0]["balancedness"] == pytest.approx(ascend, abs=1e-12)


def test_shares_are_equal_for_an_engine_unless_it_is_asked_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Engines know no shares, so a plan that rests on them is not what they would run."""
    model = ["plan", "deepseek_v4", "--config", str(DATA / "deepseek_v4"), "--target", "h200"]
    deployed = [*model, "--deploy", "phase=decode ep=4 batch=64 slots=12", "--json"]
    for more, shares in {
        (): "weighted",
        ("--engine", "vllm"): "equal",
        ("--engine", "vllm", "--shares", "weighted"): "weighted",
    }.items():
        assert main([*deployed, *more]) == 0
        assert json.loads(capsys.readouterr().out)["shares"] == shares


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
    line = [*deployed, "--loads", "zipf:0.8,seed=2", "--current", in_use, "--moves", "4"]
    assert main([*line, "--engine", "sglang"]) == 0
    assert "moves from the plan in use: 4 experts" in capsys.readouterr().out
    assert main([*model, "--deploy", "phase=decode ep=4 batch=64", "--current", in_use]) == 1
    assert "the plan in use is not for this deployment" in capsys.readouterr().err
