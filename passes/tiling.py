"""How a function falls into kernels, and a kernel into phases: what `choose-tiles` sizes and
`lower-to-tile` builds.

A unit is a fused group, or an op alone. A phase of a unit is one grid: ops that act on each row by
itself share one, a product has one, and so has each op that knows sequences or experts. Rows are
those of a row space: the tokens of the call (T), a rank's share of them in a group (share4), the
windows they complete (windows4), the rows routed to experts (T*6).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, StringAttr, TensorType
from xdsl.ir import Block, Operation, OpResult, SSAValue

from supertile.ir import graph
from supertile.ir.op import properties_of, shape_of
from supertile.ir.tile_places import ELEMENTWISE as ELEMENTWISE
from supertile.ir.types import DYNAMIC
from supertile.ir.walk import captured, operations
from supertile.passes.tile_factors import is_product

WHOLE = ""
"""The row space of what is the same for all rows: weights, constants, states."""

Spaces = dict[SSAValue, str]

# ---- row spaces --------------------------------------------------------------------------------


def row_spaces(function: func.FuncOp) -> Spaces:
    """The row space of the first axis of each value of a function; states and weights have none."""
    spaces: Spaces = {}
    for number, argument in enumerate(function.body.block.args):
        spaces[argument] = _argument_space(function, number)
    _propagate(function.body.block, spaces)
    return spaces


def _argument_space(function: func.FuncOp, number: int) -> str:
    attributes = function.arg_attrs.data[number].data if function.arg_attrs else {}
    sizes = attributes.get("graph.sizes")
    if "graph.state" in attributes or not isinstance(sizes, ArrayAttr) or not sizes.data:
        return WHOLE
    first = sizes.data[0]
    return first.data if isinstance(first, StringAttr) and first.data == "T" else WHOLE


def _propagate(block: Block, spaces: Spaces) -> None:
    for op in block.ops:
        for region in op.regions:
            _propagate(region.block, spaces)
        for value, space in zip(op.results, _result_spaces(op, spaces), strict=True):
            spaces[value] = space


def _result_spaces(op: Operation, spaces: Spaces) -> list[str]:
    match op:
        case graph.CompletedWindows():
            return [f"windows{op.ratio.value.data}"] * 2
        case graph.PoolWindows():
            return [f"windows{op.ratio.value.data}", WHOLE]
        case graph.Append():
            return [WHOLE, WHOLE]
        case graph.Dispatch():
            routed = f"{spaces[op.x]}*{shape_of(op.chosen)[1]}"
            return [routed, routed, WHOLE, routed]
        case graph.Combine():
            return [spaces[op.order].rsplit("*", 1)[0]]
        case _ if op.name == "comm.dispatch":
            return ["received", "received", WHOLE, *["T"] * (len(op.results) - 3)]
        case _ if op.name == "comm.combine":
            return [spaces[op.operands[2]]]
        case _ if op.name == "comm.share":
            return [f"share{properties_of(op)['ranks']}"]
        case _ if op.name == "comm.all_gather":
            return [spaces[op.operands[1]]]
        case graph.Layers():
            carried = [spaces[value] for value in op.carried]
            return [*carried, *[WHOLE] * (len(op.results) - len(carried))]
        case graph.Fused():
            assert op.body.block.last_op is not None
            return [spaces[value] for value in op.body.block.last_op.operands]
        case _:
            found = next((s for s in (spaces.get(v, WHOLE) for v in op.operands) if s), WHOLE)
            return [found] * len(op.results)


def stored_values(phase: Phase, unit: Unit) -> list[SSAValue]:
    """The values of a phase that later phases or other kernels use, in order."""
    own = set(phase.ops)
    used = set(unit.results)
    for op in unit.ops:
        if op not in own:
            used.update(op.operands)
    return [value for op in phase.ops for value in op.results if value in used]


# ---- columns -----------------------------------------------------------------------------------


def has_columns(value: SSAValue) -> bool:
    """Whether the last axis is that of the entries of a state: too long for a tile, so cut."""
    made = value.op if isinstance(value, OpResult) else None
    match made:
        case graph.Einsum():
            return made.sequence is not None
        case graph.ReduceSum() | graph.ReduceMax():
            return has_columns(made.x) and made.axis.value.data < len(shape_of(made.x)) - 1
        case None:
            return False
        case _ if type(made) in ELEMENTWISE:
            return any(has_columns(operand) for operand in made.operands)
        case graph.Fused():
            assert isinstance(value, OpResult)
            assert made.body.block.last_op is not None
            return has_columns(made.body.block.last_op.operands[value.index])
        case _:
            return False


# ---- units and phases --------------------------------------------------------------------------

KEPT = (graph.Weight, graph.Constant, graph.Layers, graph.Yield, func.ReturnOp)
"""Ops that stay in the function: they move and compute nothing."""

SPECIAL: dict[type[Operation], str] = {
    graph.Linear: "product",
    graph.GroupedLinear: "grouped_product",
    graph.Append: "append",
    graph.CompletedWindows: "completed_windows",
    graph.PoolWindows: "pool_windows",
    graph.WindowIndex: "window_index",
    graph.Attend: "attend",
    graph.Dispatch: "dispatch",
    graph.Combine: "combine",
}


@dataclass
class Phase:
    """One grid: its kind, and its ops in order."""

    kind: str
    space: str
    ops: list[Operation] = field(default_factory=list)


@dataclass
class Unit:
    """What becomes one kernel: a fused group or one op."""

    op: Operation
    ops: list[Operation]
    phases: list[Phase]

    @property
    def kind(self) -> str:
        """The kind of the group, or the name of the op."""
        if isinstance(self.op, graph.Fused):
            return self.op.kind.data
        return self.op.name.removeprefix("graph.")

    @property
    def results(self) -> list[SSAValue]:
        """The values inside that the results of the unit are."""
        if isinstance(self.op, graph.Fused):
            assert self.op.body.block.last_op is not None
            return list(self.op.body.block.last_op.operands)
        return list(self.op.results)

    def inputs(self) -> list[SSAValue]:
        """Values from outside, each once, constants aside: kernels have their own."""
        found = captured(self.op) if isinstance(self.op, graph.Fused) else self.op.operands
        return [v for v in dict.fromkeys(found) if not _is_constant(v)]


def _is_constant(value: SSAValue) -> bool:
    return isinstance(value, OpResult) and isinstance(value.op, graph.Constant)


def units_of(function: func.FuncOp, spaces: Spaces) -> Iterator[Unit]:
    """The units of a function, in order. A reshape between kernels is a view and needs none."""
    for op in function.body.block.ops:
        if isinstance(op, (*KEPT, graph.Reshape)) or op.name.startswith("comm."):
            continue
        inner = [o for o in operations(op) if not isinstance(o, graph.Constant)]
        ops = inner if isinstance(op, graph.Fused) else [op]
        yield Unit(op, ops, phases_of(ops, spaces))


def phases_of(ops: list[Operation], spaces: Spaces) -> list[Phase]:
    """The ops cut into grids, in an order that keeps rows together.

    Among the ops whose operands are there, one that fits the phase being filled comes first, then
    one that needs a phase of its own, and only then the first of a new phase of rows.
    """
    waiting = [op for op in ops if not _is_shared(op, spaces) or len(ops) == 1]
    inside = {value for op in waiting for value in op.results}
    missing = {op: inside.intersection(op.operands) for op in waiting}
    places = {op: (_kind(op, spaces), _space(op, spaces)) for op in waiting}
    phases: list[Phase] = []
    while waiting:
        last = phases[-1] if phases else None
        # Of several that rank alike, `min` takes the first.
        ready = [op for op in waiting if not missing[op]]
        rank, chosen = min(
            ((_rank(*places[op], last), op) for op in ready), key=lambda pair: pair[0]
        )
        if last is None or rank:
            phases.append(last := Phase(*places[chosen]))
        last.ops.append(chosen)
        waiting.remove(chosen)
        for values in missing.values():
            values.difference_update(chosen.results)
    return phases


def _rank(kind: str, space: str, last: Phase | None) -> int:
    """0: fits the last phase; 1: a phase of its own; 2: begins a phase of rows."""
    if kind in SPECIAL.values() or kind == "einsum_product":
        return 1
    fits = last is not None and last.kind == kind and last.space == space
    closed = fits and last is not None and isinstance(last.ops[-1], graph.TopK)
    return 0 if fits and not (closed and kind == "columns") else 2


def _space(op: Operation, spaces: Spaces) -> str:
    return next((s for s in (spaces.get(v, WHOLE) for v in op.operands) if s), WHOLE)


def _kind(op: Operation, spaces: Spaces) -> str:
    if type(op) in SPECIAL:
        return SPECIAL[type(op)]
    if isinstance(op, graph.Einsum):
        if op.sequence is not None:
            return "columns"
        held = [spaces.get(value, WHOLE) for value in op.inputs]
        return "einsum_product" if not all(held) and is_product(op) else "rows"
    if any(has_columns(value) for value in op.operands):
        return "columns"
    return "rows"


def _is_shared(op: Operation, spaces: Spaces) -> bool:
    """Whether an op computes what is the same for all rows: each block repeats it for itself."""
    return type(op) not in SPECIAL and not any(spaces.get(v, WHOLE) for v in op.operands)


def is_tensor(value: SSAValue) -> bool:
    return isinstance(value.type, TensorType)


def is_dynamic(value: SSAValue) -> bool:
    return DYNAMIC in shape_of(value)
