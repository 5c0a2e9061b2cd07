"""Plans of modules: as text, what is none, and ops that name another."""

import pytest
from hypothesis import given, settings, strategies as st
from placement_plans import plan_for, weighted
from xdsl.dialects.builtin import ModuleOp

from supertile.ir.comm import Dispatch
from supertile.ir.errors import UserError
from supertile.ir.expert_plan import (
    PLAN,
    ExpertPlan,
    PlanAttr,
    PlannedAttr,
    layer_placements,
    plan_of,
)
from supertile.ir.placement import IDLE, Placement, place
from supertile.ir.text import parse_module, print_module


def text_of(plan: ExpertPlan) -> str:
    return print_module(ModuleOp([], {PLAN: PlanAttr(plan)}))


def read(parameters: str) -> ExpertPlan | None:
    head = "// supertile IR 1\nbuiltin.module attributes {comm.plan = #comm.plan<"
    return plan_of(parse_module(f"{head}{parameters}>}} {{\n}}\n"))


@settings(max_examples=30)
@given(st.integers(1, 9), st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 99))
def test_a_plan_reads_back_to_the_number(experts, slots, layer):
    plan = plan_for([layer, layer + 3], experts, len(slots), (*slots[:-1], slots[-1] + experts))
    found = plan_of(parse_module(text_of(plan)))
    assert found == plan and found.digest == plan.digest


def test_the_text_of_a_plan():
    shares = ((2**31, 2**32, 7), (2**31, 2**32 - 7))
    layer = Placement(3, ((0, 2, 1), (0, 1)), shares)
    default = Placement(3, ((0, 1, 2), (1, 0)))
    plan = ExpertPlan.of({4: layer}, default)
    assert plan.text == (
        '3, [[3, 1], [2, 1]], default "0 1 2 1 0", '
        '4 "0 2 1 0 1" shares "2147483648 7 2147483648 4294967289"'
    )
    assert plan.at(4) is layer and plan.at(0) is plan.at(5) is default


def test_thousands_of_ranks_stay_compact():
    """61 layers on 8192 ranks of 2 slots with shares: some 13 MB, printed once."""
    held = weighted(384, 8192, (2,), 0)
    plan = ExpertPlan.of(dict.fromkeys(range(3), held), place(384, 8192, (2,)))
    assert len(text_of(plan)) < 70_000 + 3 * (70_000 + 16_384 * 11)
    assert plan_of(parse_module(text_of(plan))) == plan


@pytest.mark.parametrize(
    "parameters, told",
    [
        ("3, [[2, 2]]", "expected a default placement"),
        ('3, [[2, 2]], default "0 1 2"', "3 numbers for 4 slots"),
        ('3, [[2, 2]], default "0 1 2 x"', "invalid literal"),
        ('3, [[2, 2]], default "0 1 2 3"', "experts are 0 to 2"),
        ('3, [[2, 2]], default "0 1 2 7" shares "1"', "experts are 0 to 2, found 7"),
        ('3, [[2, 2]], default "0 1 0 1"', "1 of 3 experts have no slot"),
        ('3, [[2, 2]], default "0 1 2 0" shares "1 2"', "expert 0 add up to 3 of 4294967296"),
        ('3, [[2, 2]], default "0 1 2 0" shares "1"', "fewer shares"),
        ('3, [[2, 2]], default "0 1 2 0" shares "0 4294967296 1"', "more shares"),
        ('3, [[2, 2]], default "0 1 2 0" shares "-1 4294967297"', "a share is 0 to"),
        ('3, [[2, 2]], default "0 1 2 0", 2 "0 1 2 0", 1 "0 1 2 0"', "ascending"),
        ('3, [[2, 2]], default "0 1 2 0", 2 "0 1 2 0", 2 "0 1 2 0"', "ascending"),
        ('3, [[2, 2]], default "0 1 2 0", 99999999 "0 1 2 0"', "layers are numbers below 65536"),
        ('3, [[2, 99999999999]], default ""', "1 to 1048576 ranks"),
        ('3, [[9999999, 9999]], default ""', "1 to 1048576 ranks with slots"),
        ("3, [[2]], default", "how many slots how many ranks have"),
        ("3, [2], default", "expected|Expected"),
    ],
)
def test_text_that_is_no_plan_is_refused(parameters, told):
    with pytest.raises(UserError, match=told):
        read(parameters)


@pytest.mark.parametrize(
    "layer, told",
    [
        (place(4, 2, (2,)), "layer 1 has 4 of 3 experts"),
        (place(3, 2, (3,)), "ranks have other numbers of slots in layer 1"),
        (place(3, 3, (2,)), "ranks have other numbers of slots in layer 1"),
    ],
)
def test_layers_that_do_not_fit_together(layer, told):
    with pytest.raises(ValueError, match=told):
        ExpertPlan.of({1: layer}, place(3, 2, (2,)))


# ---- ops ---------------------------------------------------------------------------------------

X, CHOSEN, WEIGHT = "tensor<4x8xf32>", "tensor<4x2xi32>", "tensor<4x2xf32>"
PLACED = f"""// supertile IR 1
builtin.module attributes {{comm.plan = #comm.plan<PLAN>}} {{
  func.func @f(%x: {X}, %c: {CHOSEN}, %w: {WEIGHT}) {{
    %r, %g, %n, %o = comm.dispatch %x, %c, %w {{placement = PLACED}} : \
({X}, {CHOSEN}, {WEIGHT}) -> (tensor<?x8xf32>, tensor<?xf32>, tensor<2xi32>, tensor<?x2xi32>)
    func.return
  }}
}}
"""
TWO = ExpertPlan.of({5: weighted(3, 2, (2,), 1)}, place(3, 2, (2,)))


def placed(plan: ExpertPlan, attribute: PlannedAttr) -> str:
    return PLACED.replace("PLAN", plan.text).replace("PLACED", str(attribute))


def test_an_op_has_the_placements_of_its_layers():
    module = parse_module(placed(TWO, PlannedAttr.of(TWO, 3)))
    dispatch = next(op for op in module.walk() if isinstance(op, Dispatch))
    held = layer_placements(dispatch, dispatch.placement)
    assert held.at(2) == TWO.at(5) != TWO.default
    assert held.at(None) == held.at(0) == TWO.default
    assert (held.ranks, held.experts) == (2, 3)
    assert print_module(parse_module(print_module(module))) == print_module(module)


def test_an_op_that_names_another_plan_is_refused():
    with pytest.raises(UserError, match="is not that of the module"):
        parse_module(placed(ExpertPlan(TWO.default), PlannedAttr.of(TWO, 3)))


def test_an_op_without_a_plan_is_refused():
    text = placed(TWO, PlannedAttr.of(TWO, 3)).replace("comm.plan = ", "comm.other = ")
    with pytest.raises(UserError, match="is not that of the module: none"):
        parse_module(text)


def test_idle_slots_have_no_share():
    with pytest.raises(ValueError, match="an idle slot has no share"):
        Placement(1, ((0, IDLE),), ((2**32, 1),))
    with pytest.raises(ValueError, match="one share for each slot"):
        Placement(1, ((0, IDLE),), ((2**32,),))
