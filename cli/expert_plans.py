"""`--plan F`: where the experts of each layer live, from a file into the module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.ir.expert_plan import ExpertPlan


def read_plan(file: str) -> ExpertPlan:
    """The plan that a module in IR text holds, whatever else is in the module."""
    from supertile.cli.opt import read_ir
    from supertile.ir.expert_plan import plan_of
    from supertile.ir.text import parse_module

    plan = plan_of(parse_module(read_ir(file), file))
    if plan is None:
        raise UserError("placement.plan_file", file=file)
    return plan


def put_plan(module: ModuleOp, plan: ExpertPlan) -> None:
    """Let the module hold the plan: `plan-experts` finds it there, and so do reproducers."""
    from supertile.ir.expert_plan import PLAN, PlanAttr

    module.attributes[PLAN] = PlanAttr(plan)
