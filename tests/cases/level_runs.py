"""A case of `tests/data` compiled to a level, with tiles smaller than all sizes."""

from case_runs import DATA, build
from scheduled_runs import scheduled
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.hf_config import read_config
from supertile.ir.text import context
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.instruments import fill_locations
from supertile.passes.pipeline import PIPELINE, load_pass, parse_pipeline

LEVELS = ("graph", "fused", "tiled", "scheduled")


def module_at(case: str, level: str, placed: str = "", length: int = 12) -> ModuleOp:
    """The module up to a level, for two rows of so many tokens; `placed` passes place experts."""
    module = build(read_config(DATA / case / "config.json"))
    fusions = [load_pass(name)() for phase, name in PIPELINE if phase == "fused"]
    passes = [*parse_pipeline("canonicalize,cse")]
    passes += parse_pipeline(placed) if placed else []
    passes += fusions if level != "graph" else []
    if level in ("tiled", "scheduled"):
        passes += [ChooseTiles(force="test"), *parse_pipeline("lower-to-tile")]
    for step in passes:
        step.apply(context(), module)
    fill_locations(module)
    if level != "scheduled":
        return module
    return scheduled(module, tokens=2 * length, batch=2, context=length, memory="runtime")
