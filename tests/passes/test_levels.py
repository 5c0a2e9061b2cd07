"""Every pass on a module of every level: it runs where it belongs, and is refused elsewhere."""

from functools import cache
from itertools import product
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir.errors import UserError
from supertile.ir.levels import LEVELS, level_of
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import load_pass, parse_pipeline, pass_names

ROOT = Path(__file__).parents[2]
# The passes that bring a graph-level module to each level.
PIPELINES = {
    "graph": "canonicalize",
    "placed": "plan-experts{ranks=2}",
    "fused": "plan-experts{ranks=2},fuse-norm,fuse-moe",
    "tiled": "fuse-norm,choose-tiles{force=test},lower-to-tile",
    "scheduled": "fuse-norm,choose-tiles{force=test},lower-to-tile,assign-memory,build-schedule",
}
OPTIONS = {"specialize": "specialize{tokens=4}"}


@cache
def module_of(level: str) -> ModuleOp:
    config = read_config(ROOT / "tests/data/qwen3_moe/config.json")
    module = build_model(ROOT / "models/qwen3_moe.st", config, "reference", None)
    run_passes(module, parse_pipeline(PIPELINES[level]))
    return module


@pytest.mark.parametrize("level", LEVELS)
def test_the_pipelines_leave_a_module_of_each_level(level: str) -> None:
    assert level_of(module_of(level)) == level


@pytest.mark.parametrize(("name", "level"), list(product(pass_names(), LEVELS)))
def test_a_pass_runs_on_its_levels_and_is_refused_on_others(name: str, level: str) -> None:
    module, passes = module_of(level).clone(), parse_pipeline(OPTIONS.get(name, name))
    if level in load_pass(name).takes and name != "lower-to-tile":
        run_passes(module, passes)
        return
    with pytest.raises(UserError) as caught:
        run_passes(module, passes)
    code = "pass.no_tiles" if level in load_pass(name).takes else "pass.level"
    assert caught.value.code == code
    assert level in str(caught.value) or code == "pass.no_tiles"
