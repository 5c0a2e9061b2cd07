"""Loads of experts on the ranks of a deployment: with a plan of the experts, or as they are dealt.

What `compile` costs a step under, and `plan` the placements that it compares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from supertile.ir.errors import UserError
from supertile.targets.cost.placed_loads import PlacedLoads
from supertile.targets.deploy import Deployment, Model, expert_slots
from supertile.targets.engines.engine import Engine, engine_named, split_by
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.placement.layer_placements import dealt_map, layers_of
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.plan_types import PlanFile

DEALT, PLANNED = "experts dealt round-robin", "experts as planned"


@dataclass(frozen=True)
class Split:
    """How the replicas of an expert share its tokens."""

    engine: Engine | None
    """By its rule; None: by the shares of a placement."""
    setting: EngineSetting

    def of(self, placed: ExpertMap) -> ExpertMap:
        return split_by(self.engine, placed, self.setting)

    def told(self, where: str) -> str:
        return where if self.engine is None else f"{self.engine.title}, {where}, split by its rule"


def start_of(engine: Engine | None, deployment: Deployment, model: Model, layers: int) -> ExpertMap:
    """Where the experts are without a plan: dealt round-robin, or where the engine starts.

    UserError: `engine.slots`, as engines have as many slots on each rank.
    """
    experts = model.expert_layer.experts
    slots = np.array(expert_slots(deployment, model), np.int64)
    if engine is None:
        return dealt_map(experts, slots, layers)
    if len(set(slots.tolist())) > 1:
        found = f"{slots.min()} to {slots.max()} slots a rank"
        raise UserError("engine.slots", engine=engine.title, found=found)
    return engine.start(experts, slots, layers)


def start_loads(loads: Loads, deployment: Deployment, model: Model, split: Split) -> PlacedLoads:
    """The loads with the experts where they are without a plan."""
    load = loads.total
    placed = start_of(split.engine, deployment, model, len(load))
    where = DEALT if split.engine is None else "experts where it starts"
    return PlacedLoads.of(split.of(placed), load, loads.source, split.told(where))


def planned_loads(plan: PlanFile, loads: Loads | None, file: str, split: Split) -> PlacedLoads:
    """The loads, or those that the plan was made for, with the experts where the plan has them.

    Where `split` has no engine, tokens are split by that of the plan. `file` is that of the plan.
    UserErrors: `command.plan_loads` where neither loads are known, `placement.plan_experts`,
    `engine.unknown`.
    """
    if split.engine is None and plan.engine:
        split = replace(split, engine=engine_named(plan.engine))
    where = split.told(PLANNED)
    if loads is None:
        if plan.load is None:
            raise UserError("command.plan_loads", file=file)
        return PlacedLoads.of(split.of(plan.placement), plan.load, plan.loads, where)
    if plan.loads != loads.source:
        where = split.told(f"{PLANNED} for {plan.loads}")
    load, found = loads.total, plan.placement.experts
    if found != load.shape[1]:
        raise UserError("placement.plan_experts", experts=load.shape[1], found=found)
    placed = layers_of(plan.placement, plan.numbers, loads.layers)
    return PlacedLoads.of(split.of(placed), load, loads.source, where)
