"""`supertile plan` from the command line: files, text, and one paragraph for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_files import DATA

from supertile.cli.main import main

MODEL = ["plan", "deepseek_v4", "--config", str(DATA / "deepseek_v4"), "--target", "ascend-910c"]
DEPLOYED = [*MODEL, "--deploy", "phase=decode ep=4 batch=64 slots=12"]
PRO = ["plan", "deepseek_v4", "--config", "deepseek_v4_pro", "--target", "ascend-910c"]


def test_a_plan_its_page_and_its_exports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = "sglang,vllm,vllm-ascend,tensorrt-llm"
    line = [*DEPLOYED, "--loads", "zipf:0.8", "--export", engines, "-o", str(tmp_path)]
    assert main(line) == 0
    names = {"plan.json", "report.html", "sglang.json", "vllm.py", "vllm-ascend.json"}
    names |= {"vllm-pr53022.json", "vllm-pr49572.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"tensorrt-llm.yaml"}
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [layer["layer"] for layer in plan["layers"]] == list(range(6))
    assert all(0 < layer["balancedness"] <= 1 for layer in plan["layers"])
    assert all(layer["ratio"] >= 1 - 1e-9 for layer in plan["layers"])
    assert set(plan["communication"]) == {"dispatch", "combine"}
    rows = json.loads((tmp_path / "sglang.json").read_text())["physical_to_logical_map"]
    assert rows == [layer["slots"] for layer in plan["layers"]]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2 and "<script" not in page
    output, told = capsys.readouterr()
    assert "12 slots (3 a rank), 4 redundant" in output
    assert "start SGLang with --ep-size 4 --ep-num-redundant-experts 4" in told


def test_json_on_the_terminal_is_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DEPLOYED, "--json", "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / "plan.json").read_text()


def test_a_planned_program_runs_as_one_rank_does(tmp_path: Path) -> None:
    held = np.load(DATA / "deepseek_v4" / "io.npz")
    np.save(tmp_path / "ids.npy", held["input_ids"][:, :12])
    assert main([*DEPLOYED, "--loads", "lognormal:1", "-o", str(tmp_path)]) == 0
    line = ["run", "deepseek_v4", "--config", str(DATA / "deepseek_v4")]
    line += ["--weights", str(DATA / "deepseek_v4"), "--tokens", str(tmp_path / "ids.npy")]
    one, four = str(tmp_path / "one.npz"), str(tmp_path / "four.npz")
    assert main([*line, "-o", one]) == 0
    assert main([*line, "--plan", str(tmp_path / "plan.json"), "-o", four]) == 0
    logits = [np.load(path)["logits"] for path in (one, four)]
    assert np.abs(logits[0] - logits[1]).max() < 1e-4


def test_a_planned_deployment_costs_what_the_plan_balances(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exact balance costs no more than the deal of balanced routing, dealt Zipf loads far more."""
    compiled = ["compile", *MODEL[1:], "--deploy", "phase=decode ep=4 batch=64"]
    steps = []
    for loads, slots in (("zipf:0.8", "slots=12"), ("zipf:2", "slots=8")):
        asked = ["--deploy", f"phase=decode ep=4 batch=64 {slots}", "--loads", loads]
        assert main([*MODEL, *asked, "-o", str(tmp_path)]) == 0
        line = [*compiled, "--plan", str(tmp_path / "plan.json"), "-o", str(tmp_path / "step")]
        assert main(line) == 0
        module = (tmp_path / "step" / "module.mlir").read_text()
        assert "#comm.planned<" in module
        assert f"loads: {loads}" in capsys.readouterr().out
        steps.append(json.loads((tmp_path / "step" / "summary.json").read_text())["wire_bytes"])
    assert steps[1] > 1.2 * steps[0]


def test_a_plan_for_other_slots_is_not_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DEPLOYED, "-o", str(tmp_path)]) == 0
    line = ["compile", *MODEL[1:], "--plan", str(tmp_path / "plan.json")]
    assert main([*line, "--deploy", "phase=decode ep=4 slots=8"]) == 1
    assert "found: ep=4 and 8 slots" in capsys.readouterr().err
    assert main(line) == 1
    assert "--deploy beside --plan" in capsys.readouterr().err


def test_hash_routed_layers_follow_the_token_ids(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three layers of the case choose by token id: their loads are counts of the table."""
    (tmp_path / "ids.txt").write_text("5 5 5 5\n7 5\n")
    weights = ["--weights", str(DATA / "deepseek_v4"), "--tokens", str(tmp_path / "ids.txt")]
    assert main([*DEPLOYED, *weights]) == 0
    output = capsys.readouterr().out
    assert "layers 0 to 2: chosen by token id, loads of 6 tokens by the table" in output
    assert "law of all" not in output
    assert output.count(", routed by token id: 6 tokens, each to ") == 3


def test_redundancy_by_number_and_by_memory(capsys: pytest.CaptureFixture[str]) -> None:
    plain = [*PRO, "--deploy", "phase=decode ep=384 batch=64"]
    assert main([*plain, "--redundancy", "9GB"]) == 0
    assert "1152 slots (3 a rank), 768 redundant" in capsys.readouterr().out
    assert main([*MODEL, "--deploy", "phase=decode ep=4 batch=64", "--redundancy", "3"]) == 0
    assert "11 slots (2 to 3 a rank), 3 redundant" in capsys.readouterr().out


def test_without_a_batch_tokens_are_balanced(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*MODEL, "--deploy", "phase=decode ep=4 slots=12"]) == 0
    assert "least tokens of the fullest rank" in capsys.readouterr().out
    assert main(DEPLOYED) == 0
    assert "least time of the fullest rank" in capsys.readouterr().out


def test_many_points_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    machines = [*PRO[:-1], "ascend-950dt,h200"]
    assert main([*machines, "--sweep", "ep=8,8192 batch=1,64", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    points = [(row["machine"], row["ep"], row["batch"]) for row in rows]
    assert points[0] == ("ascend-950dt", 8, 1) and points[-1] == ("h200", 8192, 64)
    assert len(rows) == 8
    assert all(row["total"] >= row["serial"] >= row["overlapped"] > 0 for row in rows)
    assert all(row["holds"] == (row["total"] <= 1e-3) for row in rows if not row["obstacle"])


# Options behind those of MODEL -> the message
WRONG = {
    (): "a plan is made for a deployment",
    ("--deploy", "phase=decode ep=4", "--moves", "3"): "--moves counts from a plan in use",
    ("--deploy", "phase=decode ep=4", "--tokens", "ids.txt"): "token ids alone do not say",
    ("--deploy", "phase=decode ep=4", "--redundancy", "2XB"): "--redundancy is no number of slots",
    ("--deploy", "phase=decode ep=4", "--redundancy", "1B"): "the memory for redundancy holds no",
    ("--deploy", "phase=decode ep=4 slots=9", "--redundancy", "1"): "the deployment says already",
    (
        "--deploy",
        "phase=decode ep=4",
        "--export",
        "sglan",
    ): "no serving engine is known as sglan",
    ("--deploy", "phase=decode ep=4", "--export", "sglang"): "exports are files",
    (
        "--deploy",
        "phase=decode ep=4",
        "--loads",
        "zipp:1",
    ): "loads begin with a law, or name a file",
    ("--deploy", "phase=decode ep=4", "--drift", "nan"): "'nan' is no number from 0 to 5",
    ("--sweep", "ep=0 batch=1"): "--sweep cannot be read",
    ("--sweep", "ep=8"): "--sweep cannot be read",
    ("--sweep", "ep=8 batch=1", "--current", "plan.json"): "--current is for one plan",
    ("--deploy", "phase=decode ep=4", "--current", "nowhere.json"): "nowhere.json does not exist",
}


@pytest.mark.parametrize("more", WRONG, ids=lambda more: " ".join(more) or "none")
def test_what_is_wrong_is_told(
    more: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*MODEL, *more]) == 1
    told = capsys.readouterr().err
    assert WRONG[more] in told
    assert "Traceback" not in told and not list(tmp_path.iterdir())


def test_a_dense_model_has_no_experts_to_place(capsys: pytest.CaptureFixture[str]) -> None:
    line = ["plan", "llama", "--config", "llama_3_1_8b", "--target", "h200"]
    assert main([*line, "--deploy", "phase=decode tp=1"]) == 1
    assert "no experts" in capsys.readouterr().err


def test_a_failed_plan_leaves_the_old_files(tmp_path: Path) -> None:
    assert main([*DEPLOYED, "-o", str(tmp_path)]) == 0
    before = (tmp_path / "plan.json").read_bytes()
    (tmp_path / "sglang.json").mkdir()
    assert main([*DEPLOYED, "--export", "sglang", "-o", str(tmp_path)]) == 1
    assert (tmp_path / "plan.json").read_bytes() == before
