"""Small models brought to the tiled level for a deployment, as `supertile compile` does it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from model_files import model_for
from xdsl.dialects.builtin import ModuleOp

import supertile.models
from supertile.cli.deploy import Answer, Goal, Schedules, with_options
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir.verify import verify_module
from supertile.passes.driver import run_passes
from supertile.passes.instruments import fill_locations
from supertile.passes.pipeline import PIPELINE, load_pass
from supertile.targets.deploy import parse_deployment
from supertile.targets.deployment_timeline import Question, Tiled, read_tiled
from supertile.targets.machine import load_machine
from supertile.targets.step_costs import NO_OVERLAP, CostedStep, Overlap, costed_step
from supertile.targets.step_work import StepWork

DATA = Path(__file__).parents[1] / "data"
MODELS = Path(next(iter(supertile.models.__path__)))
DECODE = "phase=decode ep=4 batch=8 context=64"


@dataclass(frozen=True)
class Asked:
    """A question with the module that answers it, up to the tiled level."""

    module: ModuleOp
    question: Question
    tiled: Tiled
    schedules: Schedules

    def scheduled(self, overlap: Overlap = NO_OVERLAP) -> ModuleOp:
        """The module as programs."""
        module = self.schedules.scheduled(overlap)
        verify_module(module, "scheduled")
        return module

    def work(self, overlap: Overlap = NO_OVERLAP) -> StepWork:
        self.scheduled(overlap)
        return self.schedules.work(overlap)

    def step(self, overlap: Overlap = NO_OVERLAP) -> CostedStep:
        return costed_step(self.work(overlap), self.tiled.costs)


@cache
def asked(case: str, machine: str = "ascend-910c", deployment: str = DECODE) -> Asked:
    """A case of `tests/data`, in deployed numerics, tiled for a machine and a deployment."""
    config = read_config(DATA / case / "config.json")
    goal = Goal((case, case), config, load_machine(machine), parse_deployment(deployment))
    module = build_model(model_for(config), config, "deployed", goal.entries)
    goal = goal.of_module(module)
    names = [name for phase, name in PIPELINE if phase != "scheduled"]
    run_passes(module, with_options([load_pass(n)() for n in names], goal.pass_options(), None))
    fill_locations(module)
    schedules, question = Schedules(goal, module), Answer(goal).question
    tiled = read_tiled(module, schedules.work(NO_OVERLAP), question)
    return Asked(module, question, tiled, schedules)
