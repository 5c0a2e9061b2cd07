"""Cases lowered to tiles and scheduled, and what runs them; also used by `tests/passes`."""

from functools import cache

from case_runs import DATA, Model, build
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.hf_config import read_config
from supertile.ir import sched
from supertile.ir.expert_plan import PLAN, ExpertPlan, PlanAttr
from supertile.ir.text import context
from supertile.ir.verify import verify_module
from supertile.passes.build_schedule import BuildSchedule
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.instruments import fill_locations
from supertile.passes.lower_to_tile import LowerToTile
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.plan import plan_module
from supertile.runtime.weights import Weights

FUSIONS = ("fuse-norm", "fuse-residual", "fuse-attention", "fuse-moe")


@cache
def tiled(
    case: str, ranks: int = 1, fused: bool = True, plan: ExpertPlan | None = None
) -> ModuleOp:
    """The module of a case, lowered; do not change it."""
    module = build(read_config(DATA / case / "config.json"))
    if plan is not None:
        module.attributes[PLAN] = PlanAttr(plan)
    names = ["canonicalize", "cse", f"plan-experts{{ranks={ranks}}}", *(FUSIONS if fused else ())]
    for one in [*parse_pipeline(",".join(names)), ChooseTiles(), LowerToTile()]:
        one.apply(context(), module)
    fill_locations(module)
    return module


def scheduled(module: ModuleOp, **options) -> ModuleOp:
    """The module as programs, verified."""
    result = module.clone()
    BuildSchedule(**options).apply(context(), result)
    verify_module(result, "scheduled")
    return result


def programs(module: ModuleOp) -> dict[str, sched.Program]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, sched.Program)}


def symbols(module: ModuleOp):
    return {op.sym_name.data: op for op in module.ops}


def model_of(case: str, module: ModuleOp, row_invariant: bool = False) -> Model:
    plan = plan_module(module, row_invariant)
    return Model(module, plan, Weights(Checkpoint(DATA / case), plan, list(plan.entries)))
