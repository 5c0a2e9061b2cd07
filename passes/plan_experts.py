"""Places the experts on ranks: rows travel to the rank that holds their expert, and back.

    %w = graph.weight {checkpoint = "experts.{e}.w1"} : () -> tensor<8x..>
    %r, %g, %n, %o = graph.dispatch %x, %chosen, %weight {experts = 8}
    %q = graph.quantize %r
    ... grouped products of %q with %w by %n ...
    %y = graph.combine %c, %o {choices = 2}
-> plan-experts{ranks=4}
    %w = graph.weight {checkpoint = "experts.{e}.w1", placement = ...} : () -> tensor<2x..>
    %q = graph.quantize %x
    %r, %g, %n, %o = comm.dispatch %q, %chosen, %weight {placement = ...}
    ... grouped products of %r with %w by %n ...
    %y = comm.combine %c, %o, %chosen

Where the module holds a plan (`ir/expert_plan.py`), experts are placed as it says, layer by layer:
`placement = #comm.planned<..>` names the plan.

All ranks run the result, each on sequences of its own; everything but the experts is on every rank.
Rows are quantised one by one, so before they travel: codes are half as many bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.expert_layer import sent_type, weight_of
from supertile.ir.expert_plan import AnyPlacement, ExpertPlan, PlannedAttr, plan_of
from supertile.ir.layer_functions import LayerNumbers, layers_of_functions
from supertile.ir.locations import location_text
from supertile.ir.op import shape_of
from supertile.ir.placement import RANK_LIMIT, SHOWN_RANKS, PlacementAttr, place
from supertile.ir.types import DYNAMIC, tensor
from supertile.ir.verify import function_name
from supertile.passes.ragged import make_ragged, resize
from supertile.passes.rewriting import Equivalence, Pass, count, rewrites_of


@dataclass(frozen=True)
class PlanExperts(Pass):
    """graph.dispatch, graph.combine -> comm.dispatch, comm.combine; each rank reads its experts."""

    name = "plan-experts"
    equivalence: ClassVar[Equivalence] = "reassociate"
    takes: ClassVar[tuple[str, ...]] = ("graph", "placed")

    ranks: int = count(1, most=RANK_LIMIT)
    slots: tuple[int, ...] = count((), least=0, most=RANK_LIMIT)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        plan = plan_of(op)
        if self.ranks == 1 and not self.slots and plan is None:
            return
        rewrites = rewrites_of(ctx)
        dispatches = [held for held in op.walk() if isinstance(held, graph.Dispatch)]
        placement = self._dealt() if plan is None else self._planned(op, plan, dispatches)
        for dispatch in dispatches:
            _place_group(dispatch, placement(dispatch))
            rewrites.count("place experts")

    def _dealt(self) -> Callable[[graph.Dispatch], AnyPlacement]:
        @cache
        def dealt(experts: int) -> PlacementAttr:
            return PlacementAttr.of(place(experts, self.ranks, self.slots))

        return lambda dispatch: dealt(dispatch.experts.value.data)

    def _planned(
        self, module: ModuleOp, plan: ExpertPlan, dispatches: Sequence[graph.Dispatch]
    ) -> Callable[[graph.Dispatch], AnyPlacement]:
        if self.slots:
            raise UserError("placement.plan_slots")
        if self.ranks not in (1, plan.ranks):
            raise UserError("placement.plan_ranks", ranks=self.ranks, found=plan.ranks)
        numbers = layers_of_functions(module)
        placed = {function_name(dispatch) for dispatch in dispatches}
        check_layers(plan, {name: held for name, held in numbers.items() if name in placed})
        for experts in {dispatch.experts.value.data for dispatch in dispatches}:
            if experts != plan.experts:
                raise UserError("placement.plan_experts", experts=experts, found=plan.experts)
        return lambda dispatch: PlannedAttr.of(plan, numbers[function_name(dispatch)].first)


def check_layers(plan: ExpertPlan, functions: Mapping[str, LayerNumbers]) -> None:
    """A plan lists all layers with experts that the main model has, and no layer without experts.

    Those behind it (of a draft) may be left to the default. `UserError` where that is not so.
    """
    known = {layer for held in functions.values() for layer in held.layers}
    main = {layer for held in functions.values() if held.first == 0 for layer in held.layers}
    listed = set(plan.by_number)
    if listed and (main - listed or listed - known):
        missing, more = sorted(main - listed), sorted(listed - known)
        found = f"lacks {_some(missing)}" if missing else f"has {_some(more)}"
        raise UserError("placement.plan_layers", layers=_some(sorted(known)), found=found)


def _some(layers: Sequence[int]) -> str:
    """Layer numbers: of many the first and the last."""
    shown = [str(layer) for layer in layers]
    if len(shown) > SHOWN_RANKS:
        shown = [*shown[: SHOWN_RANKS // 2], "..", *shown[-SHOWN_RANKS // 2 :]]
    return f"layer{'' if len(layers) == 1 else 's'} {' '.join(shown)}"


def _place_group(dispatch: graph.Dispatch, placement: AnyPlacement) -> None:
    """One dispatch with its products and its combines."""
    weights = _weights(dispatch)
    combines = [use.operation for use in dispatch.order.uses]
    _quantize_before(dispatch)
    block = dispatch.parent
    assert block is not None
    for weight, conversions in weights:
        _localize(weight, conversions, placement)
    operands: list[SSAValue | list[SSAValue]] = [dispatch.x, dispatch.chosen, dispatch.weight]
    sent = graph.create(comm.Dispatch, operands, placement=placement)
    sent.location = dispatch.location
    block.insert_op_before(sent, dispatch)
    chosen = dispatch.chosen
    for old, new in zip(dispatch.results, sent.results, strict=True):
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)
    block.erase_op(dispatch)
    make_ragged([sent, *_followers(sent)])
    for combine in combines:
        assert isinstance(combine, graph.Combine), "only combine reads the order of rows"
        _bring_back(combine, chosen)


# ---- weights -----------------------------------------------------------------------------------


def _weights(dispatch: graph.Dispatch) -> list[tuple[graph.Weight, list[Operation]]]:
    """The weights that the rows are multiplied by, each with the ops that convert it, in order."""
    found: dict[graph.Weight, list[Operation]] = {}
    for use in dispatch.counts.uses:
        product = use.operation
        assert isinstance(product, graph.GroupedLinear), "only products read the counts"
        weight, conversions = _origin(product)
        found.setdefault(weight, []).extend(conversions)
    return list(found.items())


def _origin(product: graph.GroupedLinear) -> tuple[graph.Weight, list[Operation]]:
    value, conversions = weight_of(product.w)
    owner = value.owner
    if isinstance(owner, graph.Weight) and "{e}" in owner.checkpoint.data:
        return owner, conversions
    name = owner.name if isinstance(owner, Operation) else "an argument"
    raise UserError("placement.weights", place=location_text(product.location), op=name)


def _localize(weight: graph.Weight, conversions: list[Operation], placement: AnyPlacement) -> None:
    """As many experts as a rank has slots, in the weight and in what is made of it."""
    if weight.placement is not None:
        return
    weight.properties["placement"] = placement
    width = placement.width
    if weight.stored is not None:
        weight.properties["stored"] = _with_experts(weight.stored, width)
    for op in (weight, *dict.fromkeys(conversions)):
        resize(op.results[0], (width, *shape_of(op.results[0])[1:]))


def _with_experts(kind: graph.Tensor, experts: int) -> graph.Tensor:
    return tensor((experts, *kind.get_shape()[1:]), kind.element_type, kind.encoding)


# ---- rows --------------------------------------------------------------------------------------


def _quantize_before(dispatch: graph.Dispatch) -> None:
    """Quantise the tokens instead of the rows, if the rows are read in one format, row by row."""
    kind = sent_type(dispatch)
    if kind is None:
        return
    users = [use.operation for use in dispatch.rows.uses]
    quantized = tensor(shape_of(dispatch.x), kind.element_type, kind.encoding)
    dispatch.operands[0] = _quantized(dispatch, quantized, users[0])
    Rewriter.replace_value_with_new_type(dispatch.rows, kind)
    for user in users:
        user.results[0].replace_all_uses_with(dispatch.rows)
        Rewriter.erase_op(user)


def _quantized(dispatch: graph.Dispatch, kind: graph.Tensor, origin: Operation) -> SSAValue:
    """The tokens as codes: what another op has already made of them, or a new op above."""
    block = dispatch.parent
    assert block is not None
    alike = [
        use.operation
        for use in dispatch.x.uses
        if isinstance(use.operation, graph.Quantize) and use.operation.result.type == kind
    ]
    alike = [op for op in alike if op.parent is block]
    for op in alike:
        if op.is_before_in_block(dispatch):
            return op.results[0]
    if alike:
        block.detach_op(alike[0])
        block.insert_op_before(alike[0], dispatch)
        return alike[0].results[0]
    new = graph.Quantize.create(
        operands=[dispatch.x], result_types=[kind], location=origin.location
    )
    new.result.name_hint = origin.results[0].name_hint
    block.insert_op_before(new, dispatch)
    return new.result


def _followers(sent: Operation) -> list[Operation]:
    """What is made of the rows, in order, up to where they are brought back."""
    block = sent.parent
    assert block is not None
    made = {value for value in sent.results if DYNAMIC in shape_of(value)}
    found: list[Operation] = []
    for op in block.ops:
        if isinstance(op, graph.Combine | comm.CommOp) or made.isdisjoint(op.operands):
            continue
        found.append(op)
        made.update(op.results)
    return found


def _bring_back(combine: graph.Combine, chosen: SSAValue) -> None:
    block = combine.parent
    assert block is not None
    back = comm.Combine.create(
        operands=[combine.rows, combine.order, chosen],
        result_types=[combine.result.type],
        location=combine.location,
    )
    block.insert_op_before(back, combine)
    back.results[0].name_hint = combine.result.name_hint
    combine.result.replace_all_uses_with(back.results[0])
    block.erase_op(combine)
