"""Steps of a deployment with one placement of its experts after the other, under the same loads.

The model is compiled once up to the tiled level. Behind it only what hides communication, the
schedule that follows, and the costs depend on where the experts are. Each step is the one that
`supertile compile` costs with the placement and the loads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
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
        module, _ = goal.build(_asked(goal))
        goal = goal.of_module(module)
    layers = len(planned.layers) + drafted_tokens(deployment, goal.model)
    steps = placement_steps(goal, module, planned.placed_loads())
    return replace(planned, steps={name: step_figures(one, layers) for name, one in steps})


def placement_steps(
    goal: Goal, module: ModuleOp, placed: Mapping[str, PlacedLoads]
) -> Iterator[tuple[str, Timeline]]:
    """(name, timeline) of each; the deployment of `goal` has the slots of all placements.

    `module`, of the graph level, is changed.
    """
    from supertile.passes.driver import Options, run_passes
    from supertile.targets.deployment_timeline import deployment_timeline, read_tiled, step_costs
    from supertile.targets.overlap_choice import choose_overlap
    from supertile.targets.step_costs import NO_OVERLAP

    passes = goal.passes(_asked(goal))
    cut = [one.name for one in passes].index(TILED) + 1
    quick = Options(verify=False)  # `compile` verifies what these passes leave
    run_passes(module, passes[:cut], quick)
    schedules = Schedules(goal, module)
    tiled = read_tiled(module, schedules.work(NO_OVERLAP), Answer(goal).question)
    for name, loads in placed.items():
        question = replace(Answer(goal).question, loads=loads)
        costs = step_costs(tiled.work, question)
        chosen = choose_overlap(schedules.work, costs, goal.overlap).chosen
        held = replace(tiled, costs=costs)
        yield name, deployment_timeline(held, schedules.scheduled(chosen), question)


def _asked(goal: Goal) -> argparse.Namespace:
    """The options of `supertile compile`."""
    model, config = goal.names
    return argparse.Namespace(model=model, config=config, numerics=goal.numerics, **UNASKED)
