"""`list ops` and `compile` agree: what one calls missing on a machine, the other refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertile.cli.deployed_model import deployed_model
from supertile.cli.inputs import model_path
from supertile.cli.main import main
from supertile.cli.op_support import support_rows
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir.errors import UserError
from supertile.targets.machine import load_machine, machine_names

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
PAGE = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
CONFIGS = {
    "deepseek_v4": "deepseek_v4_deployed",
    "deepseek_v3": "deepseek_v3",
    "qwen3_moe": "qwen3_moe",
    "llama": "llama",
}


def config_of(model: str) -> str:
    return str(DATA / CONFIGS[model] / "config.json")


def missing_rows(model: str, target: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The ops that `list ops` calls missing, with the reason."""
    options = ["--model", model, "--config", config_of(model), "--target", target]
    assert main(["list", "ops", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [" ".join(line.split()) for line in lines[1:] if " missing: " in line]


@pytest.mark.parametrize("model", CONFIGS)
def test_the_passes_take_what_is_not_missing(model: str) -> None:
    """On every shipped machine, after the pass that brings formats to what it has."""
    config = read_config(Path(config_of(model)))
    module = build_model(model_path(model), config, "deployed", None)
    machines = (
        ("ascend-910c", "gb200-nvl72", "numpy") if model == "deepseek_v4" else machine_names()
    )
    for name in machines:
        machine = load_machine(name)
        rows = [row for row in support_rows(module, machine) if row.status.startswith("missing")]
        assert rows == []
        deployed_model(module, config, machine)


# Lines of the page's example that are changed, and an op that this makes missing; none: "".
CHANGES = [
    ({}, ""),
    ({"rate.f8e4m3": None, '"f32", "bf16", "f8e4m3"': '"f32", "bf16"'}, ""),
    ({'"f32", "bf16", "f8e4m3"': '"f32", "f16", "f8e4m3"', "rate.bf16": "rate.f16"}, "bf16"),
    ({"rate.f8e4m3 = {": "rate.f8e4m3 = UNKNOWN"}, "rate.f8e4m3 is unknown"),
    ({"rate.bf16 = {": "rate.bf16 = UNKNOWN"}, "rate.bf16 is unknown"),
    ({"rate.f32 = {": "rate.f32 = UNKNOWN"}, "rate.f32 is unknown"),
    ({"rate.f32 = {": "rate.bf16 = {"}, "rate.f32"),
]


def changed(changes: dict[str, str | None]) -> str:
    """The example with each text replaced, or its line left out."""
    lines = []
    for line in EXAMPLE.splitlines():
        for old, new in changes.items():
            if old in line and new is None:
                line = ""
            elif old in line and new is not None and new.endswith("UNKNOWN"):
                line = new.removesuffix("UNKNOWN") + '{ value = "unknown", reason = "hidden" }'
            elif old in line and new is not None:
                line = line.replace(old, new)
        lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("model", "changes", "why"),
    [("qwen3_moe", *change) for change in CHANGES if "f8e4m3" not in change[1]]
    + [("deepseek_v4", *change) for change in (CHANGES[0], CHANGES[3])],
)
def test_an_op_is_missing_in_both_or_in_neither(
    model: str,
    changes: dict[str, str | None],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "m.toml"
    file.write_text(changed(changes))
    missing = missing_rows(model, str(file), capsys)
    deploy = "phase=decode ep=2 batch=2 context=64"
    options = ["--config", config_of(model), "--target", str(file), "--deploy", deploy]
    code = main(["compile", model, *options, "--no-cache"])
    error = capsys.readouterr().err
    assert code == (1 if missing else 0), error
    reasons = {row.partition(" missing: ")[2] for row in missing}
    assert all(reason in error for reason in reasons)
    assert bool(why) == bool(missing) and (not why or why in " ".join(reasons))


def test_the_example_is_costed_at_every_number_of_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without experts to place a sweep is quick: all numbers of ranks that the page allows."""
    file = tmp_path / "example.toml"
    file.write_text(EXAMPLE)
    degrees = ",".join(str(ep) for ep in range(1, 65))
    model = ["qwen3_moe", "--config", config_of("qwen3_moe"), "--target", str(file)]
    assert main(["plan", *model, "--sweep", f"ep={degrees} batch=4"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert len(rows) == 64 and not any(" - " in row for row in rows)
    assert missing_rows("deepseek_v4", str(file), capsys) == []
    for ep in (3, 64):
        deploy = f"phase=decode ep={ep} batch=2 context=64"
        assert main(["compile", *model, "--deploy", deploy, "--no-cache"]) == 0


def test_more_ranks_than_the_example_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "example.toml"
    file.write_text(EXAMPLE)
    model = ["qwen3_moe", "--config", config_of("qwen3_moe"), "--target", str(file)]
    assert main(["compile", *model, "--deploy", "phase=decode ep=65 context=64", "--no-cache"]) == 1
    assert "has fewer devices" in capsys.readouterr().err


def test_all_missing_ops_are_one_error(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(changed({"rate.bf16 = {": "rate.bf16 = UNKNOWN"}))
    config = read_config(Path(config_of("deepseek_v4")))
    module = build_model(model_path("deepseek_v4"), config, "deployed", None)
    with pytest.raises(UserError) as caught:
        deployed_model(module, config, load_machine(file))
    assert caught.value.code == "format.missing"
    assert caught.value.message == (
        "example-npu lacks what the model needs: engines.tensor.rate.bf16 is unknown "
        "(graph.linear, graph.grouped_linear, graph.einsum, graph.attend)"
    )
