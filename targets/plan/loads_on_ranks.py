"""Loads of experts on the ranks of a deployment: with a plan of the experts, or as they are dealt.

What `compile` costs a step under, and `plan` the placements that it compares.
"""

from __future__ import annotations

import numpy as np

from supertile.ir.errors import UserError
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.deploy import Deployment, Model, expert_slots
from supertile.targets.engines.engine import engine_named
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.layer_placements import dealt_map, layers_of
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.plan_types import PlanFile

DEALT, PLANNED = "experts dealt round-robin", "experts as planned"


def dealt_loads(loads: Loads, deployment: Deployment, model: Model) -> PlacedLoads:
    """The loads with the experts dealt to the slots of the deployment."""
    load = loads.total
    slots = np.array(expert_slots(deployment, model), np.int64)
    placed = dealt_map(load.shape[1], slots, len(load))
    return PlacedLoads.of(placed, load, loads.source, DEALT)


def planned_loads(
    plan: PlanFile, loads: Loads | None, file: str, setting: EngineSetting
) -> PlacedLoads:
    """The loads, or those that the plan was made for, with the experts where the plan has them.

    Replicas share an expert's tokens by the rule of the engine that the plan was made for, if it
    was made for one. `file` is that of the plan. UserErrors: `command.plan_loads` where neither
    are known, `placement.plan_experts`, `engine.unknown`.
    """
    engine = engine_named(plan.engine) if plan.engine else None
    where = PLANNED if engine is None else f"{PLANNED}, split by {engine.title}"
    numbers = [layer.layer for layer in plan.layers]
    if loads is None:
        if plan.load is None:
            raise UserError("command.plan_loads", file=file)
        placed = plan.placement if engine is None else engine.split(plan.placement, setting)
        return PlacedLoads.of(placed, plan.load, plan.loads, where)
    load, found = loads.total, plan.placement.experts
    if found != load.shape[1]:
        raise UserError("placement.plan_experts", experts=load.shape[1], found=found)
    placed = layers_of(plan.placement, numbers, loads.layers)
    placed = placed if engine is None else engine.split(placed, setting)
    return PlacedLoads.of(placed, load, loads.source, where)
