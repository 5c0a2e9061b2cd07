"""Placing experts: what becomes of dispatch, weights, quantisation and combine, and of groups."""

import re
from collections import Counter
from pathlib import Path

import pytest
from fusion_checks import FUSIONS, apply, graph_of
from pass_checks import check, check_kept, module_of, module_text, text_of
from placement_plans import plan_for

from supertile.cli.inputs import model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir import comm, graph
from supertile.ir.comm_work import copy_bytes, wire_of
from supertile.ir.errors import UserError
from supertile.ir.expert_plan import PLAN, ExpertPlan, PlanAttr
from supertile.ir.placement import Placement, place
from supertile.ir.text import parse_module
from supertile.ir.types import ELEMENT_NAMES, type_of
from supertile.ir.work import function_shapes
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline

X, CHOSEN, PICKED = "tensor<?x8xf32>", "tensor<?x2xi32>", "tensor<?x2xf32>"
ROWS, VECTOR, COUNTS = X, "tensor<?xf32>", "tensor<4xi32>"
STORED = "tensor<4x8x8xf32>"
HERE = "placement = #comm.placement<4, [[0, 3], [1], [2]]>"
CODES = "tensor<?x8xf8E4M3FN, #graph.mx<[1, 4], f8E8M0FNU>>"
SIGNATURE = f"(%x: {X}, %c: {CHOSEN}, %w: {PICKED}) -> {X}"
DISPATCH = (
    f"%r, %g, %n, %o = graph.dispatch %x, %c, %w {{experts = 4}} : "
    f"({X}, {CHOSEN}, {PICKED}) -> ({ROWS}, {VECTOR}, {COUNTS}, tensor<?xi32>)"
)
COMBINE = f"%y = graph.combine %p, %o {{choices = 2}} : ({ROWS}, tensor<?xi32>) -> {X}"
SENT_COMBINE = f"%y = comm.combine %p, %o, %c : ({ROWS}, tensor<?x2xi32>, {CHOSEN}) -> {X}"


def snippet(*lines: str) -> str:
    return "\n".join([SIGNATURE, *lines, f"func.return %y : {X}"])


def weight(here: str = "", count: int = 4) -> str:
    kind = STORED.replace("4x", f"{count}x", 1)
    return f'%e = graph.weight {{checkpoint = "e.{{e}}.w"{here}}} : () -> {kind}'


def product(rows: str = "%r", kind: str = ROWS, count: int = 4, name: str = "%p") -> str:
    stored, counts = STORED.replace("4x", f"{count}x", 1), COUNTS.replace("4x", f"{count}x")
    return f"{name} = graph.grouped_linear {rows}, %e, %n : ({kind}, {stored}, {counts}) -> {ROWS}"


def sent(rows: str = "%x", kind: str = X) -> str:
    return (
        f"%r, %g, %n, %o = comm.dispatch {rows}, %c, %w {{{HERE}}} : ({kind}, {CHOSEN}, {PICKED})"
        f" -> ({kind}, {VECTOR}, tensor<2xi32>, tensor<?x2xi32>)"
    )


PLAIN = snippet(DISPATCH, weight(), product(), COMBINE)
PLACE = "plan-experts{ranks=3 slots=2,1,1}"


def test_rows_travel_and_weights_are_those_of_the_rank():
    after = snippet(sent(), weight(f", {HERE}", 2), product(count=2), SENT_COMBINE)
    report = check(PLAIN, PLACE, after)
    assert report.passes[0].patterns == {"place experts": 1}


def test_one_rank_without_slots_changes_nothing():
    check_kept(PLAIN, "plan-experts")


def test_one_rank_with_slots_is_a_placement():
    module = module_of(PLAIN)
    apply(module, "plan-experts{slots=4}")
    dispatch = next(op for op in module.walk() if isinstance(op, comm.Dispatch))
    assert dispatch.placement.placement == place(4, 1)


def test_a_program_without_experts_is_kept():
    check_kept(f"(%y: {X}) -> {X}\nfunc.return %y : {X}", PLACE)


# ---- plans -------------------------------------------------------------------------------------


def with_plan(module, plan):
    module.attributes[PLAN] = PlanAttr(plan)
    return module


def test_a_plan_of_the_module_is_named_by_its_ops():
    plan = ExpertPlan(Placement(4, ((0, 3), (1,), (2,))))
    module = with_plan(module_of(PLAIN), plan)
    run_passes(module, parse_pipeline("plan-experts{ranks=3}"))
    here = f'placement = #comm.planned<4, 3, 2, 0, "{plan.digest}">'
    after = snippet(sent(), weight(f", {HERE}", 2), product(count=2), SENT_COMBINE)
    text = module_text(after.replace(HERE, here))
    head = f"builtin.module attributes {{comm.plan = #comm.plan<{plan.text}>}} {{"
    assert text_of(module) == text_of(parse_module(text.replace("builtin.module {", head)))


def planned_config(name, plan, pipeline="plan-experts"):
    """The small config of a case with its experts placed as the plan says."""
    config = read_config(Path(__file__).parents[1] / "data" / name / "config.json")
    module = with_plan(build_model(model_path(name), config), plan)
    run_passes(module, parse_pipeline(pipeline))
    return module


@pytest.mark.parametrize("listed", [61, 62])
def test_layers_are_numbered_through_all_stacks(listed):
    """Pro's draft is layer 61, and may be left to the default; V3's layer 0 has no experts."""
    module = with_plan(graph_of("pro", "reference"), plan_for(list(range(listed)), 384, 2))
    apply(module, "plan-experts")
    dispatches = [op for op in module.walk() if isinstance(op, comm.Dispatch)]
    assert {op.placement.first.data for op in dispatches} == {0, 61}
    assert planned_config("deepseek_v3", plan_for([1, 2, 3], 16, 2)).attributes[PLAN]
    assert planned_config("deepseek_v3", ExpertPlan(place(16, 2))).attributes[PLAN]


@pytest.mark.parametrize(
    "plan, pipeline, told",
    [
        (plan_for([1, 2, 3], 16, 2), "plan-experts{ranks=3}", "of ranks.*found: a plan for 2"),
        (plan_for([1, 2, 3], 16, 2), "plan-experts{slots=9}", "found: both"),
        (plan_for([1, 2, 3], 8, 2), "plan-experts", "another number of experts.*found: 8"),
        (plan_for([1, 2], 16, 2), "plan-experts", "for layers 1 2 3.*lacks layer 3"),
        (plan_for([0, 1, 2, 3], 16, 2), "plan-experts", "found: a plan that has layer 0"),
        (plan_for([1, 2, 3, 9], 16, 2), "plan-experts", "found: a plan that has layer 9"),
    ],
)  # fmt: skip
def test_a_plan_that_does_not_fit_is_refused(plan, pipeline, told):
    with pytest.raises(UserError, match=re.compile(told, re.DOTALL)):
        planned_config("deepseek_v3", plan, pipeline)


# ---- quantisation ------------------------------------------------------------------------------

QUANTIZE = f"%q = graph.quantize %r : ({ROWS}) -> {CODES}"
EARLY = f"%q = graph.quantize %x : ({X}) -> {CODES}"
BESIDE = f"%b = graph.quantize %x : ({X}) -> {CODES}"


def test_tokens_are_quantised_before_they_travel():
    before = snippet(DISPATCH, weight(), QUANTIZE, product("%q", CODES), COMBINE)
    after = snippet(
        EARLY,
        sent("%q", CODES),
        weight(f", {HERE}", 2),
        product("%r", CODES, 2),
        SENT_COMBINE,
    )
    check(before, PLACE, after)


@pytest.mark.parametrize("first", [True, False])
def test_codes_that_others_make_of_the_tokens_are_the_same(first):
    used = f"%z = graph.dequantize %b : ({CODES}) -> {X}"
    add = f"%s = graph.add %y, %z : ({X}, {X}) -> {X}"
    body = [DISPATCH, weight(), QUANTIZE, product("%q", CODES), COMBINE]
    lines = [BESIDE, *body, used, add] if first else [*body, BESIDE, used, add]
    module = module_of("\n".join([SIGNATURE, *lines, f"func.return %s : {X}"]))
    apply(module, PLACE)
    (quantize,) = [op for op in module.walk() if isinstance(op, graph.Quantize)]
    (dispatch,) = [op for op in module.walk() if isinstance(op, comm.Dispatch)]
    assert dispatch.x is quantize.result and quantize.is_before_in_block(dispatch)


def test_rows_that_are_read_unquantised_too_travel_as_they_are():
    second = product(name="%p2")
    add = f"%p = graph.add %p1, %p2 : ({ROWS}, {ROWS}) -> {ROWS}"
    first = product("%q", CODES, name="%p1")
    module = module_of(snippet(DISPATCH, weight(), QUANTIZE, first, second, add, COMBINE))
    apply(module, PLACE)
    dispatch = next(op for op in module.walk() if isinstance(op, comm.Dispatch))
    assert dispatch.x.name_hint == "x"


def test_blocks_of_several_rows_are_not_torn_apart():
    square = CODES.replace("[1, 4]", "[2, 4]")
    quantize = QUANTIZE.replace(CODES, square)
    module = module_of(snippet(DISPATCH, weight(), quantize, product("%q", square), COMBINE))
    apply(module, PLACE)
    dispatch = next(op for op in module.walk() if isinstance(op, comm.Dispatch))
    assert dispatch.x.name_hint == "x"


# ---- weights -----------------------------------------------------------------------------------


def test_weights_that_are_converted_first():
    half = STORED.replace("f32", "bf16")
    stored = weight().replace("%e", "%h").replace(STORED, half)
    cast = f"%e = graph.cast %h : ({half}) -> {STORED}"
    module = module_of(snippet(DISPATCH, stored, cast, product(), COMBINE))
    apply(module, PLACE)
    kinds = [
        op.results[0].type for op in module.walk() if isinstance(op, graph.Weight | graph.Cast)
    ]
    assert [kind.get_shape() for kind in kinds] == [(2, 8, 8)] * 2


def test_weights_that_loading_converts():
    stored = STORED.replace("f32", "bf16")
    module = module_of(PLAIN.replace('e.{e}.w"', f'e.{{e}}.w", stored = {stored}'))
    apply(module, PLACE)
    weight_op = next(op for op in module.walk() if isinstance(op, graph.Weight))
    assert weight_op.stored.get_shape() == weight_op.result.type.get_shape() == (2, 8, 8)


def test_weights_that_are_no_tensors_of_experts_are_refused():
    stacked = weight().replace(".{e}", "")
    with pytest.raises(UserError, match=r"graph\.weight is between their weights"):
        apply(module_of(snippet(DISPATCH, stacked, product(), COMBINE)), PLACE)


def test_too_few_slots_are_refused():
    with pytest.raises(UserError, match="more experts than slots"):
        apply(module_of(PLAIN), "plan-experts{ranks=3 slots=1}")


# ---- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", ["small", "v3"])
def test_fixed_numbers_of_tokens_are_open_again_at_the_experts(config):
    """Whether the tokens are fixed before or after: rows at the experts stay ragged."""
    texts = set()
    for pipeline in ("specialize{tokens=6},PLACE", "PLACE,specialize{tokens=6}"):
        module = graph_of(config, "deployed")
        apply(module, pipeline.replace("PLACE", "plan-experts{ranks=4}"))
        texts.add(text_of(module))
    assert len(texts) == 1


# ---- models ------------------------------------------------------------------------------------

MODELS = [("pro", "layers_csa_score_router"), ("v3", "layers_moe")]


def placed_groups(config, numerics):
    module = graph_of(config, numerics)
    apply(module, f"plan-experts{{ranks=64}},{FUSIONS}")
    return {function.sym_name.data: function for function in module.ops}


@pytest.mark.parametrize("numerics", ["reference", "deployed"])
@pytest.mark.parametrize("config, name", MODELS)
def test_experts_are_a_group_between_the_transfers(config, name, numerics):
    ops = list(placed_groups(config, numerics)[name].body.block.ops)
    kinds = Counter(op.kind.data for op in ops if isinstance(op, graph.Fused))
    assert kinds["experts"] == kinds["router"] == kinds["shared_expert"] == 1
    dispatch = next(op for op in ops if isinstance(op, comm.Dispatch))
    combine = next(op for op in ops if isinstance(op, comm.Combine))
    experts = next(op for op in ops if isinstance(op, graph.Fused) and op.kind.data == "experts")
    assert combine.rows.owner is experts
    inside = list(experts.body.block.ops)
    assert not any(isinstance(op, comm.CommOp | graph.Dispatch | graph.Combine) for op in inside)
    assert dispatch.rows in {value for op in inside for value in op.operands}


@pytest.mark.parametrize("config, name", MODELS)
def test_deployed_tokens_travel_as_codes(config, name):
    """7,168 codes and a scale of a byte for each 128 of them; results in bf16."""
    function = placed_groups(config, "deployed")[name]
    dispatch = next(op for op in function.walk() if isinstance(op, comm.Dispatch))
    combine = next(op for op in function.walk() if isinstance(op, comm.Combine))
    assert ELEMENT_NAMES[type_of(dispatch.x).element_type] == "f8e4m3"
    each = copy_bytes(dispatch, combine)
    assert (each.out, each.routing, each.back) == (7168 + 56, 4 + 8, 2 * 7168)
    shapes = function_shapes(function)
    choices = type_of(dispatch.chosen).get_shape()[1]
    out, back = wire_of(dispatch, shapes), wire_of(combine, shapes)
    values = {"T": 10, "arrived": 7}
    assert out.sent.evaluate(values) == 10 * choices * (7224 + 12)
    assert out.received.evaluate(values) == 7 * (7224 + 12)
    assert back.sent.evaluate(values) == 7 * 14336
    assert back.received.evaluate(values) == 10 * choices * 14336


def test_only_comm_ops_move_anything():
    op = graph.Constant.create(properties={}, result_types=[])
    with pytest.raises(TypeError, match="moves nothing"):
        wire_of(op)
