"""`--plan F`: where the experts of each layer live, from a file into the module.

A file that ends with .json is one of `supertile plan`; any other is IR text of a placed module.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.ir.expert_plan import ExpertPlan
    from supertile.targets.deploy import Deployment, Model
    from supertile.targets.engines.engine import Engine
    from supertile.targets.plan.plan_types import PlanFile


def read_plan(file: str) -> ExpertPlan:
    """The plan in a plan.json, or that a module in IR text holds whatever else is in it."""
    if os.path.splitext(file)[1].lower() == ".json":
        return _from_json(file)
    from supertile.cli.opt import read_ir
    from supertile.ir.expert_plan import plan_of
    from supertile.ir.text import parse_module

    plan = plan_of(parse_module(read_ir(file), file))
    if plan is None:
        raise UserError("placement.plan_file", file=file)
    return plan


def _from_json(file: str) -> ExpertPlan:
    from supertile.targets.plan.plan_file import read_plan

    return expert_plan(read_plan(file))


def expert_plan(plan: PlanFile) -> ExpertPlan:
    """The plan as a module holds it."""
    from supertile.targets.placement.layer_placements import expert_plan_of

    return expert_plan_of(plan.placement, [layer.layer for layer in plan.layers])


def started_plan(engine: Engine, deployment: Deployment, model: Model) -> ExpertPlan:
    """Where the experts are before the engine has any plan."""
    from supertile.targets.placement.layer_placements import expert_plan_of
    from supertile.targets.plan.loads_on_ranks import start_of
    from supertile.targets.plan.model import expert_layers

    layers = expert_layers(model).moe
    return expert_plan_of(start_of(engine, deployment, model, len(layers)), layers)


def read_plan_for(file: str, deployment: Deployment) -> PlanFile:
    """The plan in a file, if it is for the ranks and slots of the deployment."""
    from supertile.targets.plan.plan_file import read_plan

    plan = read_plan(file)
    slots = tuple(plan.placement.slots.tolist())
    if plan.placement.ranks != deployment.ep or deployment.slots not in (None, slots):
        asked = sum(deployment.slots or slots)
        raise UserError(
            "command.plan_ranks",
            file=file,
            expected=f"ep={plan.placement.ranks} and {sum(slots)} slots",
            found=f"ep={deployment.ep} and {asked} slots",
        )
    return plan


def put_plan(module: ModuleOp, plan: ExpertPlan) -> None:
    """Let the module hold the plan: `plan-experts` finds it there, and so do reproducers."""
    from supertile.ir.expert_plan import PLAN, PlanAttr

    module.attributes[PLAN] = PlanAttr(plan)
