"""Machine files that people write and names that they give: one thing wrong, and it is told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from supertile.cli.main import main
from supertile.ir.errors import UserError
from supertile.targets.machine import load_machine
from supertile.targets.machine_notes import machine_notes

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "targets" / "machines"
CONFIG = ROOT / "tests" / "data" / "qwen3_moe" / "config.json"
MODEL = ["qwen3_moe", "--config", str(CONFIG), "--target"]
DEPLOY = ["--deploy", "phase=decode ep=4 batch=2 context=64"]


def h200_with(path: Path, *changes: tuple[str, str], times: int = 1) -> str:
    """A copy of the file of the H200, which still calls itself `h200`, with texts changed."""
    text = (SHIPPED / "h200.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, times)
    path.write_text(text)
    return str(path)


# What is off by a thousand, the figure that the note stands at, and both figures of the note.
THOUSAND = [
    (('read = { value = 4.8, unit = "TB/s"', 'read = { value = 4800, unit = "TB/s"'),
     "memories.hbm.read", ("4800 TB/s", "4.8 TB/s", "1,000 times")),
    (("clock = { value = 1.83", "clock = { value = 1830"),
     "engines.tensor.clock", ("1830 GHz", "2.06 GHz", "888 times")),
    (('bf16 = { value = 989, unit = "TFLOP/s"', 'bf16 = { value = 989, unit = "GFLOP/s"'),
     "engines.tensor.rate.bf16", ("989 GFLOP/s", "132 cores x 1.83 GHz", "1/3.91 of")),
]  # fmt: skip


@pytest.mark.parametrize(("change", "path", "parts"), THOUSAND, ids=[row[1] for row in THOUSAND])
def test_a_figure_off_by_a_thousand_is_noted(
    change: tuple[str, str], path: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    file = h200_with(tmp_path / "m.toml", change, times=2)
    machine = load_machine(file)
    spot = machine.spots[path]
    start = f"{file}:{spot.line}:{spot.column}: note: `{path}` is "
    lines = [line for line in machine_notes(machine) if line.startswith(start)]
    assert any(all(part in line for part in parts) for line in lines)


def test_notes_go_to_stderr_and_the_answer_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = h200_with(tmp_path / "m.toml", THOUSAND[0][0])
    assert main(["compile", *MODEL, file, *DEPLOY, "--no-cache"]) == 0
    output, told = capsys.readouterr()
    assert "`memories.hbm.read` is 4800 TB/s, 1,000 times `memories.hbm.write`" in told
    assert "no formula reads `engines.tensor.clock`" in told
    assert "step " in output and "note: `" not in output


def test_a_rate_that_no_formula_can_take_is_an_error_of_the_file(tmp_path: Path) -> None:
    file = h200_with(tmp_path / "m.toml", ("value = 4.8,", "value = 1e-320,"))
    with pytest.raises(UserError) as caught:
        load_machine(file)
    error = caught.value
    assert error.spot is not None and (error.spot.line, error.spot.column) == (49, 18)
    assert error.message == "`memories.hbm.read.value` is beyond what any machine has"
    assert error.expected == "from 1000 to 1e+18 B/s"
    assert error.found.endswith(" TB/s")


def test_a_server_of_small_devices_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight devices of 32 GB, made from a machine of 64 GB: V4-Flash needs some 40 GB of each."""
    text = (SHIPPED / "ascend-910c.toml").read_text().replace("ascend-910c", "npu-server", 1)
    text = re.sub(r"\[domains\.(package|supernode)[^\n]*\n(?:(?!\[)[^\n]*\n)*", "", text)
    text = text.replace("value = 768, unit", "value = 8, unit")
    text = text.replace("devices = { value = 16", "devices = { value = 8")
    text = text.replace(
        'capacity = { value = 64, unit = "GB"', 'capacity = { value = 32, unit = "GB"'
    )
    file = tmp_path / "machine.toml"
    file.write_text(text)
    model = ["deepseek_v4", "--config", "deepseek_v4_flash", "--target", str(file), "--no-cache"]
    assert main(["compile", *model, "--deploy", "phase=decode ep=8 tp=8"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "memory does not fit:" in output and "32 GB a die" in output


WRITE_ONE = "write a file for it: docs/machines.md"
NAMES = [
    *((name, WRITE_ONE) for name in ("b200", "B200", "h20", "H20", "ascend-910b", "910B")),
    *((name, WRITE_ONE) for name in ("910b4", "mi355x", "MI355X", "dgx-spark", "gb10", "h800")),
    ("gb200", "did you mean gb200-nvl72?"),
    ("910c", "did you mean ascend-910c?"),
    ("H200", "did you mean h200?"),
]


@pytest.mark.parametrize(("name", "hint"), NAMES)
def test_a_machine_that_is_not_shipped(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_machine(name)
    assert caught.value.suggestion == hint


def test_a_users_file_is_marked_in_every_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    h200_with(tmp_path / "m.toml")
    marked = "h200 (file m.toml)"
    assert main(["compile", *MODEL, "m.toml", *DEPLOY, "--no-cache", "-o", "step"]) == 0
    assert f"on {marked}: phase=decode" in capsys.readouterr().out
    assert json.loads(Path("step/summary.json").read_text())["machine"] == marked
    assert marked in Path("step/report.html").read_text()
    assert marked in Path("step/schedule.json").read_text()
    plan = ["plan", *MODEL, "m.toml", *DEPLOY, "--loads", "zipf:0.6"]
    assert main([*plan, "-o", "plan"]) == 0
    assert f"on {marked}: phase=decode" in capsys.readouterr().out
    assert json.loads(Path("plan/plan.json").read_text())["machine"] == marked
    assert marked in Path("plan/report.html").read_text()
    assert main(["list", "ops", *["--model", *MODEL], "m.toml"]) == 0
    assert f"on {marked}: " in capsys.readouterr().out
    assert main(["list", "targets", "--show", "m.toml"]) == 0
    assert capsys.readouterr().out.startswith(f"{marked}: ")
    assert main(["plan", *MODEL, "m.toml,h200", "--sweep", "ep=4 batch=2"]) == 0
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
        marked,
        "",
    ]


def test_a_shipped_name_is_the_shipped_file_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    h200_with(tmp_path / "h200", ("value = 141,", "value = 14,"))
    for target, capacity in (("h200", "141 GB"), ("./h200", "14 GB")):
        assert main(["list", "targets", "--show", target]) == 0
        output, told = capsys.readouterr()
        assert re.search(rf"memories.hbm.capacity +{capacity}", output)
        is_told = "note: h200 is the shipped machine; the file of that name here is ./h200" in told
        assert is_told == (target == "h200")
