"""`--plan F`: where the experts of each layer live, from a file into the module.

A file that ends with .json is one of `supertile plan`; any other is IR text of a placed module.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.ir.expert_plan import ExpertPlan
    from supertile.targets.deploy import Deployment, Model
    from supertile.targets.engines.engine import Engine
    from supertile.targets.machine_types import Machine
    from supertile.targets.plan.plan_fit import Use
    from supertile.targets.plan.plan_types import PlanFile


def add_other_plan_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--allow-other-plan",
        action="store_true",
        help="take a plan that was made for another model, machine or phase; what differs is told",
    )


def use_of(
    options: argparse.Namespace,
    machine: Machine | None = None,
    deployment: Deployment | None = None,
) -> Use:
    """What a command takes a plan for."""
    from supertile.targets.plan.plan_fit import Use

    return Use(Path(options.model).stem, Path(options.config).stem, machine, deployment)


def read_plan(options: argparse.Namespace) -> ExpertPlan:
    """The plan of `--plan`: of a plan.json, or of the module in IR text, whatever else is in it."""
    file = options.plan
    if os.path.splitext(file)[1].lower() == ".json":
        from supertile.targets.plan.plan_file import read_plan as read_plan_file

        plan = read_plan_file(file)
        tell_differences(plan, options, use_of(options), file)
        return expert_plan(plan)
    from supertile.cli.opt import read_ir
    from supertile.ir.expert_plan import plan_of
    from supertile.ir.text import parse_module

    held = plan_of(parse_module(read_ir(file), file))
    if held is None:
        raise UserError("placement.plan_file", file=file)
    return held


def tell_differences(plan: PlanFile, options: argparse.Namespace, use: Use, file: str) -> None:
    """On stderr, a line. UserError: `plan.other_use`."""
    from supertile.targets.plan.plan_fit import check_use

    for line in check_use(plan, use, file, options.allow_other_plan):
        print(line, file=sys.stderr)


def expert_plan(plan: PlanFile) -> ExpertPlan:
    """The plan as a module holds it."""
    from supertile.targets.placement.layer_placements import expert_plan_of

    return expert_plan_of(plan.placement, plan.numbers)


def started_plan(engine: Engine, deployment: Deployment, model: Model) -> ExpertPlan:
    """Where the experts are before the engine has any plan."""
    from supertile.targets.placement.layer_placements import expert_plan_of
    from supertile.targets.plan.loads_on_ranks import start_of
    from supertile.targets.plan.model import expert_layers

    layers = expert_layers(model).moe
    return expert_plan_of(start_of(engine, deployment, model, len(layers)), layers)


def read_plan_for(
    options: argparse.Namespace, machine: Machine, deployment: Deployment
) -> PlanFile:
    """The plan of `--plan`, if it is for the ranks and slots of the deployment, and for its use."""
    from supertile.targets.plan.plan_file import read_plan

    file = options.plan
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
    tell_differences(plan, options, use_of(options, machine, deployment), file)
    return plan


def put_plan(module: ModuleOp, plan: ExpertPlan) -> None:
    """Let the module hold the plan: `plan-experts` finds it there, and so do reproducers."""
    from supertile.ir.expert_plan import PLAN, PlanAttr

    module.attributes[PLAN] = PlanAttr(plan)
