"""What a layer of routed experts is, read from the dispatch, combine and weights of a module.

    layer = expert_layer(module)        # behind legalize-formats; None where no layer has experts
    layer.row.out                       # bytes of a row on its way to an expert

This is the one source for everybody who asks: routes, bounds, plans and costs all read it. It reads
`graph.dispatch` (rows travel in the format that `plan-experts` will give them) and `comm.dispatch`
alike, before ops are fused. Sizes are of whole experts, also where a group of ranks slices them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, OpResult, SSAValue

from supertile.ir import comm, graph
from supertile.ir.comm_work import CopyBytes, copy_bytes, sent_bytes
from supertile.ir.errors import UserError
from supertile.ir.layer_functions import layers_of_functions, main_layers
from supertile.ir.op import shape_of
from supertile.ir.types import ELEMENT_BITS, ELEMENT_NAMES, MxAttr, type_of
from supertile.ir.work import bytes_of

Dispatch = graph.Dispatch | comm.Dispatch

# What may stand between the weights of experts and their product: each expert is converted alone.
CONVERSIONS = (graph.Cast, graph.Quantize, graph.Dequantize)


@dataclass(frozen=True)
class ExpertSizes:
    """The sizes of one layer of routed experts; bytes and operations are of whole experts."""

    channels: int
    """Of a row."""
    inner: int
    """Width of what the products of a row with an expert's first weights give."""
    experts: int
    choices: int
    """Experts that each token goes to: top-k."""
    row: CopyBytes
    flops: float
    """Operations of one row through one expert."""
    expert_bytes: float
    """Weights of one expert in one layer, scales included."""
    element: str
    """The format that rows are multiplied in: of rows and weights the wider one."""
    shared: float = 0.0
    """Operations of a token in the shared experts, over those of one row in a routed one."""
    shared_bytes: float = 0.0
    """Weights of the shared experts of one layer, scales included."""
    groups: int = 0
    """Groups of neighbouring experts that the router compares; 0: it has none."""

    @property
    def pair_bytes(self) -> float:
        """Bytes of one row there and back, without what routes it."""
        return float(self.row.out + self.row.back)


@dataclass(frozen=True)
class ExpertLayer(ExpertSizes):
    """The layers of experts of a model, which are alike, and where they stand."""

    numbers: tuple[int, ...] = ()
    """Main layers that have experts, ascending; those of drafts are not among them."""
    hashed: tuple[int, ...] = ()
    """Those of them whose experts follow from the token id alone, by a table of the checkpoint."""
    table: str = ""
    """The checkpoint's name of that table, with {l} for the layer; empty where none has one."""
    main_layers: int = 0
    """Main layers of the model, dense ones too."""

    @property
    def layers(self) -> int:
        """How many main layers have experts."""
        return len(self.numbers)


def expert_layer(module: ModuleOp) -> ExpertLayer | None:
    """The layers of experts of a module; None where it has none.

    `placement.unlike_experts` where two layers have experts of different sizes.
    """
    dispatches = list(_dispatches(module))
    if not dispatches:
        return None
    numbers = layers_of_functions(module)
    sizes = expert_sizes(dispatches[0][1])
    moe: list[int] = []
    hashed: list[int] = []
    table = ""
    for name, dispatch in dispatches:
        _check_alike(name, sizes, expert_sizes(dispatch))
        served = numbers[name].layers if numbers[name].first == 0 else ()
        moe += served
        weight = _table(dispatch)
        if weight is not None:
            table = weight.checkpoint.data
            hashed += served
    return ExpertLayer(
        **vars(sizes),
        numbers=tuple(sorted(moe)),
        hashed=tuple(sorted(hashed)),
        table=table,
        main_layers=main_layers(module),
    )


def expert_sizes(dispatch: Dispatch) -> ExpertSizes:
    """The sizes of the layer that a dispatch sends rows to."""
    products = _products(dispatch)
    first = [op for op in products if weight_of(op.x)[0] is dispatch.rows]
    weights = list(dict.fromkeys(op.w for op in products))
    shapes = {weight: _whole_shape(weight) for weight in weights}
    operations = 2.0 * sum(math.prod(shapes[op.w][1:]) for op in products)
    shared = _shared_weights(dispatch)
    return ExpertSizes(
        channels=shape_of(dispatch.x)[1],
        inner=shapes[first[0].w][1],
        experts=_experts(dispatch),
        choices=shape_of(dispatch.chosen)[1],
        row=_row(dispatch),
        flops=operations,
        expert_bytes=sum(_bytes_of_one(weight, shapes[weight]) for weight in weights),
        element=_wider(first[0].x, first[0].w),
        shared=2.0 * sum(math.prod(_whole_shape(weight)) for weight in shared) / operations,
        shared_bytes=sum(
            float(bytes_of(type_of(weight), _whole_shape(weight))) for weight in shared
        ),
        groups=_groups(dispatch),
    )


def _dispatches(module: ModuleOp) -> Iterator[tuple[str, Dispatch]]:
    """With the names of their functions."""
    for function in module.ops:
        if isinstance(function, FuncOp):
            for op in function.body.block.ops:
                if isinstance(op, graph.Dispatch | comm.Dispatch):
                    yield function.sym_name.data, op


def _check_alike(function: str, first: ExpertSizes, sizes: ExpertSizes) -> None:
    """Raise where the experts of a function differ from the first ones: the size that differs."""
    expected, found = vars(first), vars(sizes)
    for name in expected:
        if expected[name] != found[name]:
            difference = {"size": name, "expected": expected[name], "found": found[name]}
            raise UserError("placement.unlike_experts", function=function, **difference)


# ---- rows --------------------------------------------------------------------------------------


def sent_type(dispatch: graph.Dispatch) -> graph.Tensor | None:
    """The format of codes that tokens travel in where rows are read in one format, row by row.

    Rows are then quantised one by one, which may as well be done before they travel: codes are
    fewer bytes. None where rows travel as they are. The shape is that of the rows.
    """
    users = [use.operation for use in dispatch.rows.uses]
    kinds = {user.results[0].type for user in users if isinstance(user, graph.Quantize)}
    if len(kinds) != 1 or not all(isinstance(user, graph.Quantize) for user in users):
        return None
    kind = type_of(users[0].results[0])
    assert isinstance(kind.encoding, MxAttr)
    return None if any(size != 1 for size in kind.encoding.sizes[:-1]) else kind


def _row(dispatch: Dispatch) -> CopyBytes:
    if isinstance(dispatch, comm.Dispatch):
        combine = _combine(dispatch)
        assert isinstance(combine, comm.Combine)
        return copy_bytes(dispatch, combine)
    combine = _combine(dispatch)
    assert isinstance(combine, graph.Combine)
    return sent_bytes(dispatch, combine, sent_type(dispatch) or type_of(dispatch.x))


def _combine(dispatch: Dispatch) -> Operation:
    """The op that brings the rows back."""
    value = dispatch.origin if isinstance(dispatch, comm.Dispatch) else dispatch.order
    operation: Operation = next(iter(value.uses)).operation
    return operation


def _experts(dispatch: Dispatch) -> int:
    if isinstance(dispatch, comm.Dispatch):
        return int(dispatch.placement.expert_count)
    return int(dispatch.experts.value.data)


# ---- weights -----------------------------------------------------------------------------------


def _products(dispatch: Dispatch) -> list[graph.GroupedLinear]:
    """The products of the rows with the experts, in the order of the block."""
    users = {use.operation for use in dispatch.counts.uses}
    block = dispatch.parent
    assert block is not None
    products = [op for op in block.ops if op in users]
    return [op for op in products if isinstance(op, graph.GroupedLinear)]


def weight_of(value: SSAValue) -> tuple[SSAValue, list[Operation]]:
    """Where an operand of a product comes from, rows or weights; its conversions, in order."""
    conversions: list[Operation] = []
    while isinstance(value, OpResult) and isinstance(value.op, CONVERSIONS):
        conversions.insert(0, value.op)
        value = value.op.x
    return value, conversions


def _whole_shape(weight: SSAValue) -> tuple[int, ...]:
    """The shape of what a product multiplies by, with the slices of all ranks of a group."""
    origin, _ = weight_of(weight)
    shape = shape_of(weight)
    if isinstance(origin.owner, graph.Weight) and origin.owner.shard is not None:
        return origin.owner.shard.whole(shape)
    return tuple(shape)


def _bytes_of_one(weight: SSAValue, shape: tuple[int, ...]) -> float:
    """Bytes of one expert; the first axis is that of experts."""
    return float(bytes_of(type_of(weight), shape)) / shape[0]


def _wider(x: SSAValue, w: SSAValue) -> str:
    kinds = [type_of(value).element_type for value in (x, w)]
    return ELEMENT_NAMES[max(kinds, key=ELEMENT_BITS.__getitem__)]


# ---- beside the routed experts -----------------------------------------------------------------


def _shared_weights(dispatch: Dispatch) -> list[SSAValue]:
    """The weights of experts that every token goes to.

    They are those of products between the tokens and what is added to the combined rows. What is
    added but does not follow from the tokens, as a residual, is none.
    """
    block = dispatch.parent
    assert block is not None
    tokens, _ = weight_of(dispatch.x)
    following: set[SSAValue] = {tokens}
    for op in block.ops:
        if not following.isdisjoint(op.operands):
            following.update(op.results)
    weights: list[SSAValue] = []
    waiting = _addends(_combine(dispatch).results[0])
    seen: set[SSAValue] = {tokens}
    while waiting:
        value = waiting.pop(0)
        if value in seen or value not in following or not isinstance(value, OpResult):
            continue
        seen.add(value)
        if isinstance(value.op, graph.Linear):
            weights.append(value.op.w)
        waiting += value.op.operands
    return weights


def _addends(combined: SSAValue) -> list[SSAValue]:
    """What is added to combined rows: the other operand of the sum that they go into."""
    uses = [use.operation for use in combined.uses]
    while len(uses) == 1 and isinstance(uses[0], graph.Cast):
        combined = uses[0].result
        uses = [use.operation for use in combined.uses]
    if len(uses) != 1 or not isinstance(uses[0], graph.Add):
        return []
    return [value for value in uses[0].operands if value is not combined]


def _groups(dispatch: Dispatch) -> int:
    """Of the scores [T, E] that the choice follows from: taken as [T, groups, E / groups]."""
    waiting, seen = [dispatch.chosen], set[SSAValue]()
    while waiting:
        value = waiting.pop()
        if value in seen or not isinstance(value, OpResult):
            continue
        seen.add(value)
        op = value.op
        if isinstance(op, graph.Reshape) and shape_of(op.x)[1:] == (_experts(dispatch),):
            _, *parts = shape_of(op.result)
            if len(parts) == 2:
                return parts[0]
        waiting += () if isinstance(op, graph.Linear) else op.operands
    return 0


def _table(dispatch: Dispatch) -> graph.Weight | None:
    """The table that names the experts of each token id, where experts follow from that alone."""
    chosen = dispatch.chosen
    if not isinstance(chosen, OpResult) or not isinstance(chosen.op, graph.Gather):
        return None
    table = chosen.op.operands[0].owner
    return table if isinstance(table, graph.Weight) else None
