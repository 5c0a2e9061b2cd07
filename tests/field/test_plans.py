"""Plans and engine files that are taken for what they were not made for, and plans that are wrong
in themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supertile.cli.main import main

DATA = Path(__file__).parents[1] / "data"
SMALL = DATA / "deepseek_v4"
DEPLOYED = "phase=decode ep=4 batch=4 slots=12"
FOREIGN = {
    "model": ("llama", "deepseek_v4", "llama"),
    "machine": ("gb300-nvl72", "h200", "gb300-nvl72"),
    "phase": ("phase=prefill ep=4 context=64", "phase=decode", "phase=prefill"),
}
"""What a plan says it is for, what it is taken for, and how that is told."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """plan.json of six layers of eight experts, for the decoding of DeepSeek-V4 on H200."""
    folder = tmp_path_factory.mktemp("plan")
    assert main([*planned("zipf:0.6"), "-o", str(folder)]) == 0
    found: dict[str, Any] = json.loads((folder / "plan.json").read_text())
    return found


def planned(loads: str, deployment: str = DEPLOYED, *more: str) -> list[str]:
    asked = ["plan", "deepseek_v4", "--config", str(SMALL), "--target", "h200"]
    return [*asked, "--deploy", deployment, "--loads", loads, *more]


def uses(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command that takes a plan."""
    compiled = ["--target", "h200", "--deploy", "phase=decode ep=4 batch=4", "--plan", str(file)]
    yield "compile", ["compile", "deepseek_v4", "--config", str(SMALL), *compiled]
    tokens = ["--tokens", str(SMALL / "io.npz"), "--prompt", "2", "--plan", str(file)]
    yield "run", ["run", "deepseek_v4", "--config", str(SMALL), "--weights", str(SMALL), *tokens]
    yield "plan", planned("zipf:0.6", DEPLOYED, "--current", str(file))


def changed(plan: dict[str, Any], folder: Path, **values: Any) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps({**plan, **values}))
    return path


@pytest.mark.parametrize("what", FOREIGN)
def test_a_plan_of_something_else_is_refused_by_name(plan, tmp_path, capsys, what):
    value, here, there = FOREIGN[what]
    values = {"deployment" if what == "phase" else what: value}
    if what == "machine":
        plan = {key: value for key, value in plan.items() if key != "domains"}
    for command, asked in uses(changed(plan, tmp_path, **values)):
        if command == "run" and what != "model":
            continue  # a run is on no machine, and has both phases
        assert main(asked) == 1
        told = capsys.readouterr().err
        assert f"was made for another {what}" in told and "--allow-other-plan" in told
        assert f"expected: a plan for {here}" in told and f"found: a plan for {there}" in told
        if command == {"model": "run", "machine": "compile", "phase": "plan"}[what]:
            assert main([*asked, "--allow-other-plan"]) == 0
            told = capsys.readouterr().err
            assert f"plan.json was made for {there}" in told and f"taken for {here}" in told


def test_all_that_differs_is_told_at_once(plan, tmp_path, capsys):
    other = {key: value for key, value in plan.items() if key != "domains"}
    values = {"model": "llama", "machine": "gb300", "deployment": FOREIGN["phase"][0]}
    for command, asked in uses(changed(other, tmp_path, **values)):
        assert main(asked) == 1
        what = "model" if command == "run" else "model, machine, phase"
        assert f"was made for another {what}\n" in capsys.readouterr().err


def test_domains_of_a_machine_are_compared_by_size(plan, tmp_path, capsys):
    assert plan["domains"] == {}, "four ranks are in one node"
    file = changed(plan, tmp_path, domains={"board": 2})
    _, asked = next(uses(file))
    assert main(asked) == 1
    told = capsys.readouterr().err
    assert "h200, all ranks in one domain" in told and "h200, 2 ranks a board" in told
    _, asked = next(uses(changed(plan, tmp_path, machine="mine")))
    assert main(asked) == 0
    assert "was made for mine, and is taken for h200" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (slice(0, 5), "6 layers, with 8 experts in layers 0 to 4"),
        (slice(1, 6), "6 layers, with 8 experts in layers 1 to 5"),
    ],
)
def test_a_plan_of_other_layers_is_refused(plan, tmp_path, capsys, layers, told):
    file = changed(plan, tmp_path, layers=plan["layers"][layers], comparison={})
    for command, asked in uses(file):
        assert main([*asked, "--allow-other-plan"]) == 1
        found = capsys.readouterr().err
        if command == "run":
            assert "does not fit the layers of the model" in found
        else:
            assert f"found: a plan of {told}" in found
            assert "expected: a plan of 6 layers, with 8 experts in layers 0 to 5" in found


def test_what_fits_less_well_is_told(plan, tmp_path, capsys):
    """Another batch, context or config: the placement is right, and not the best."""
    file = changed(plan, tmp_path, config="other")
    asked = ["--target", "h200", "--deploy", "phase=decode ep=4 batch=64 context=96"]
    command = ["compile", "deepseek_v4", "--config", str(SMALL), *asked, "--plan", str(file)]
    assert main([*command, "--loads", "lognormal:1"]) == 0
    written = capsys.readouterr()
    assert (
        "was made for other batch=4 context=4096, and is taken for deepseek_v4 batch=64 context=96"
    ) in written.err
    assert "experts as planned for zipf:0.6,seed=0" in " ".join(written.out.split())


LIES = {
    "balancedness": (0.001, "0.25 to 1, as there are 4 ranks"),
    "max_load": (1e300, "which the placement gives"),
    "bound": (1e-9, "no placement goes below"),
    "ratio": (1e-9, "max_load over bound"),
}


@pytest.mark.parametrize("figure", LIES)
def test_a_plan_that_contradicts_itself_is_refused_by_figure(plan, tmp_path, capsys, figure):
    value, expected = LIES[figure]
    layers = [{**layer, figure: value} for layer in plan["layers"]]
    for _, asked in uses(changed(plan, tmp_path, layers=layers)):
        assert main(asked) == 1
        told = capsys.readouterr().err
        assert f"`layers[0].{figure}` contradicts" in told and expected in told
        assert f"found: {value:.10g}" in told
