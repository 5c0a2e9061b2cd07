"""Families as users bring them: shipped ones under other names, and their own in files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from supertile.cli.inputs import config_path
from supertile.cli.main import main
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.runtime.plan import plan_module

DATA = Path(__file__).parents[1] / "data"
FIELD = DATA / "field"
MIXTRAL = Path(str(config_path("mixtral_8x7b"))).parents[1] / "mixtral.st"
DECODE = "phase=decode ep=8 batch=64 context=4K"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and all that is told, in lines that are not broken."""
    code = main([*arguments])
    shown = capsys.readouterr()
    return code, " ".join((shown.out + shown.err).split())


# ---- shipped models ----------------------------------------------------------------------------

SHIPPED = [("deepseek_v3", "kimi_k2"), ("deepseek_v3", "moonlight_16b_a3b"),
           ("mixtral", "mixtral_8x7b")]  # fmt: skip


@pytest.mark.parametrize(("model", "config"), SHIPPED)
def test_its_experts_are_deployed(
    model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    common = ("--config", config, "--target", "h200", "--deploy", DECODE, "-o", out)
    code, text = told(capsys, "compile", model, *common)
    assert code == 0 and "experts on 8 ranks" in text and "did you mean" not in text
    code, text = told(capsys, "list", "ops", "--model", model, "--config", config,
                      "--target", "h200")  # fmt: skip
    assert code == 0 and " 0 missing" in text and "graph.dispatch" in text


@pytest.mark.parametrize(("model", "config"), SHIPPED[2:])
def test_its_experts_are_planned(
    model: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slots = 8 * (json.loads(config_path(config).read_text()).get("n_routed_experts", 8) // 8 + 1)
    deploy = f"phase=decode ep=8 batch=16 slots={slots}"
    code, text = told(capsys, "plan", model, "--config", config, "--target", "h200",
                      "--deploy", deploy, "--loads", "zipf:0.6", "-o", str(tmp_path))  # fmt: skip
    assert code == 0 and "planned" in text and (tmp_path / "plan.json").is_file()


# ---- families that nobody ships ----------------------------------------------------------------


@pytest.mark.parametrize("family", ["glm_moe_dsa", "minimax_m2", "llama4"])
@pytest.mark.parametrize("model", ["llama", "deepseek_v3"])
def test_it_is_told_how_to_bring_one_and_led_to_no_other_model(
    family: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(FIELD / "families" / f"{family}.json")
    code, text = told(capsys, "compile", model, "--config", config, "-o", str(tmp_path))
    named = json.loads(Path(config).read_text())["model_type"]
    assert code == 1 and f'write a model file for "{named}": docs/language.md' in text
    assert "did you mean" not in text


# ---- a model file of the user's own ------------------------------------------------------------


def mixtral_for(family: str, folder: Path, **changes: Any) -> tuple[str, str]:
    """Mixtral's file for another model_type, and a config that says so."""
    model, config = folder / "mine.st", folder / "config.json"
    model.write_text(MIXTRAL.read_text().replace('for "mixtral"', f'for "{family}"'))
    data = {**json.loads(config_path("mixtral_8x7b").read_text()), "model_type": family, **changes}
    config.write_text(json.dumps(data, indent=1))
    return str(model), str(config)


@pytest.mark.parametrize("family", ["deepseek_v3", "what_ever"])
def test_the_model_line_alone_says_which_configs_a_file_takes(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where another model is shipped under that name; the experts are those of the file."""
    model, config = mixtral_for(family, tmp_path)
    code, text = told(capsys, "compile", model, "--config", config, "--target", "h200",
                      "--deploy", DECODE, "-o", str(tmp_path / "out"))  # fmt: skip
    assert code == 0 and "8 experts on 8 ranks" in text


def test_a_key_of_experts_that_the_file_does_not_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = mixtral_for("llama", tmp_path, n_routed_experts=8)
    code, text = told(capsys, "compile", model, "--config", config, "--target", "h200",
                      "--deploy", DECODE, "-o", str(tmp_path / "out"))  # fmt: skip
    assert (code == 1 and "n_routed_experts" in text) or "8 experts on 8 ranks" in text
    assert "bug" not in text


def test_keys_that_are_missing_are_named_with_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = mixtral_for("mixtral", tmp_path)
    data = json.loads(Path(config).read_text())
    del data["num_local_experts"], data["vocab_size"]
    Path(config).write_text(json.dumps(data))
    code, text = told(capsys, "compile", model, "--config", config, "-o", str(tmp_path / "out"))
    assert code == 1 and "`vocab_size`, `num_local_experts` are missing" in text


# ---- a family in files alone -------------------------------------------------------------------


@pytest.fixture
def family(tmp_path: Path) -> tuple[str, str]:
    """A model file and a config with key names of their own, in a folder of the user's."""
    for name in ("strand.st", "config.json"):
        (tmp_path / name).write_bytes((FIELD / "own_family" / name).read_bytes())
    return str(tmp_path / "strand.st"), str(tmp_path / "config.json")


def test_it_compiles_with_numbers_compared_around_every_pass(
    family: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    code, text = told(capsys, "compile", family[0], "--config", family[1], "-o", out,
                      "--check-numerics")  # fmt: skip
    assert code == 0 and "fuse-moe: exact, bit-equal" in text and "not read" not in text


def test_it_runs_with_seeded_weights(
    family: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One shot and token by token, at the level of the graph and of the tasks."""
    data = json.loads(Path(family[1]).read_text())
    data["words"], data["tower"]["width"], data["branches"]["count"] = 64, 64, 4
    data["tower"] |= {"depth": 3, "dense_width": 32, "query_rank": None}
    data["branches"] |= {"width": 16, "taken": 2}
    Path(family[1]).write_text(json.dumps(data))
    module = build_model(Path(family[0]), read_config(family[1]))
    save_file(seeded(module), tmp_path / "model.safetensors")
    np.save(tmp_path / "ids.npy", np.arange(2 * 7).reshape(2, 7) % 64)
    results = []
    for more in ([], ["--prompt", "1", "--teacher"], ["--level", "scheduled", "--tiles", "test"]):
        out = tmp_path / f"{len(results)}.npz"
        code, text = told(capsys, "run", family[0], "--config", family[1], "--weights",
                          str(tmp_path), "--tokens", str(tmp_path / "ids.npy"), "-o", str(out),
                          *more)  # fmt: skip
        assert code == 0, text
        with np.load(out) as held:
            results.append(held["logits"])
    assert results[0].shape == (2, 7, 64) and np.isfinite(results[0]).all() and results[0].std() > 0
    for other in results[1:]:
        assert np.abs(other - results[0]).max() < 1e-4


def seeded(module: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Weights of every name that the model reads, of a spread that keeps values near 1."""
    random, tensors = np.random.default_rng(3), {}
    for use, layers in plan_module(module).weights_of("logits"):
        shape = use.kind.get_shape()[use.is_stacked :]
        experts = range(use.kind.get_shape()[0]) if use.is_stacked else [0]
        for layer in layers or [0]:
            for expert in experts:
                name = use.pattern.replace("{l}", str(layer)).replace("{e}", str(expert))
                values = random.normal(0, shape[-1] ** -0.5, shape)
                tensors[name] = values.astype(np.float32)
    return tensors


def test_it_is_deployed_planned_and_listed(
    family: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = family
    target = ("--config", config, "--target", "h200")
    out = str(tmp_path / "out")
    code, text = told(capsys, "compile", model, *target, "--deploy", DECODE, "-o", out)
    assert code == 0 and "16 experts on 8 ranks" in text
    deploy = "phase=decode ep=8 batch=16 slots=24"
    code, text = told(capsys, "plan", model, *target, "--deploy", deploy, "--loads", "zipf:0.6",
                      "-o", out)  # fmt: skip
    assert code == 0 and "planned" in text
    code, text = told(capsys, "list", "ops", "--model", model, *target)
    assert code == 0 and "graph.gelu" in text and " 0 missing" in text
