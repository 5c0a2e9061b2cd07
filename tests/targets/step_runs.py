"""Small models brought to the tiled level for a deployment, as `supertile compile` does it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xdsl.dialects.builtin import ModuleOp

import supertile.models
from supertile.cli.deploy import Goal, with_options
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import PIPELINE, load_pass
from supertile.targets.deploy import parse_deployment
from supertile.targets.deployment_timeline import Question, Tiled, read_tiled
from supertile.targets.machine import load_machine

DATA = Path(__file__).parents[1] / "data"
MODELS = Path(next(iter(supertile.models.__path__)))
DECODE = "phase=decode ep=4 batch=8 context=64"


@dataclass(frozen=True)
class Asked:
    """A question with the module that answers it, up to a level."""

    module: ModuleOp
    question: Question
    tiled: Tiled


@cache
def asked(case: str, machine: str = "ascend-910c", deployment: str = DECODE) -> Asked:
    """A case of `tests/data`, in deployed numerics, tiled for a machine and a deployment."""
    config = read_config(DATA / case / "config.json")
    goal = Goal((case, case), config, load_machine(machine), parse_deployment(deployment))
    module = build_model(MODELS / f"{config.family}.st", config, "deployed", goal.entries)
    goal = goal.of_module(module)
    names = [name for phase, name in PIPELINE if phase != "scheduled"]
    run_passes(module, with_options([load_pass(n)() for n in names], goal.pass_options(), None))
    assert goal.deployment is not None
    entries = tuple(goal.entries or ())
    question = Question(case, case, goal.model, goal.machine, goal.deployment, entries)
    return Asked(module, question, read_tiled(module, question))
