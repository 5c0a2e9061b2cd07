"""Steps of a deployment with one placement of its experts after the other, under the same loads.

The model is compiled once up to the tiled level. Behind it only what hides communication, the
schedule that follows, and the costs depend on where the experts are. Each step is the one that
`supertile compile` costs with the placement and the loads.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from supertile.cli.deploy import TILED, Answer, Goal, Schedules

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.targets.cost.placed_loads import PlacedLoads
    from supertile.targets.plan.planned import Planned
    from supertile.targets.timeline import Timeline

UNASKED = {"tiles": "machine", "pipeline": None, "stop_after": None, "entry": None}
"""What `supertile compile` asks besides."""


def compared(goal: Goal, module: ModuleOp, planned: Planned) -> Planned:
    """The plan with a step costed for it and for each placement that it is compared with.

    `module` is of the main model at the graph level, `goal` has read it.
    """
    from supertile.targets.cost.sizes import drafted_tokens
    from supertile.targets.plan.comparison import step_figures

    assert goal.deployment is not None, "a plan is for a deployment"
    deployment = replace(goal.deployment, slots=tuple(planned.after.slots.tolist()))
    goal = replace(goal, deployment=deployment)
    if deployment.mtp is not None:
        module, _ = goal.build(compile_options(goal))
        goal = goal.of_module(module)
    layers = len(planned.layers) + drafted_tokens(deployment, goal.model)
    step = PlacementSteps(goal, module)
    placed = planned.placed_loads().items()
    steps = {name: step_figures(step.timeline(loads), layers) for name, loads in placed}
    return replace(planned, steps=steps)


class PlacementSteps:
    """Steps of one deployment, which has the slots of all placements.

    The module, of the graph level, is tiled in place.
    """

    def __init__(self, goal: Goal, module: ModuleOp) -> None:
        from supertile.passes.driver import Options, run_passes
        from supertile.targets.deployment_timeline import read_tiled
        from supertile.targets.step_costs import NO_OVERLAP

        passes = goal.passes(compile_options(goal))
        cut = [one.name for one in passes].index(TILED) + 1
        # Without checks: `compile` verifies what these passes leave.
        run_passes(module, passes[:cut], Options(verify=False))
        self.goal, self.schedules = goal, Schedules(goal, module)
        self.question = Answer(goal).question
        self.tiled = read_tiled(module, self.schedules.work(NO_OVERLAP), self.question)

    def timeline(self, loads: PlacedLoads) -> Timeline:
        """The step under the loads, communication hidden in the way that is fastest with them."""
        from supertile.targets.deployment_timeline import deployment_timeline, step_costs
        from supertile.targets.overlap_choice import choose_overlap

        question = replace(self.question, loads=loads)
        costs = step_costs(self.tiled.work, question)
        chosen = choose_overlap(self.schedules.work, costs, self.goal.overlap).chosen
        tiled = replace(self.tiled, costs=costs)
        return deployment_timeline(tiled, self.schedules.scheduled(chosen), question)


def compile_options(goal: Goal) -> argparse.Namespace:
    """What `supertile compile` is asked."""
    model, config = goal.names
    return argparse.Namespace(model=model, config=config, numerics=goal.numerics, **UNASKED)
