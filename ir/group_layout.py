"""What the ranks of a group have of each value: all of it, rows of their own, or a slice.

    whole   equal on all ranks of the group
    rows    the rows of a rank's own tokens, from `comm.share` or `comm.dispatch` on
    slice   a part of another axis, or of a sum, from a weight or a state with a shard on

A value is the last of these that any of its operands is; a collective brings its group together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import comm, graph, sched
from supertile.ir.walk import operations

WHOLE, ROWS, SLICE = LAYOUTS = ("whole", "rows", "slice")
SHARD = "graph.shard"
"""The attribute of a function's argument that says which slice of a state a rank has."""

# What has inputs and outputs among its operands; layers have theirs apart.
ACTIONS = (sched.Task, sched.Transfer, sched.Copy)
Layouts = dict[SSAValue, str]


def layouts(function: FuncOp | sched.Program) -> Layouts:
    """The layout of every value of a function or of a program; groups of ops are looked into."""
    if isinstance(function, FuncOp):
        attributes: Iterable[Attribute] = function.arg_attrs or ArrayAttr([])
    else:
        attributes = function.arguments
    found: Layouts = {}
    for argument, held in zip(function.body.block.args, attributes, strict=False):
        is_slice = isinstance(held, DictionaryAttr) and SHARD in held.data
        found[argument] = SLICE if is_slice else WHOLE
    for op in operations(function, groups=True):
        _visit(op, found)
    return found


def _visit(op: Operation, found: Layouts) -> None:
    made: Sequence[SSAValue] = op.outputs if isinstance(op, ACTIONS) else op.results
    match op:
        case graph.Weight() if op.shard is not None:
            layout = SLICE
        case graph.Layers() | sched.Layers():
            _pass_layers(op, found)
            return
        case graph.Yield():
            group = op.parent_op()
            assert group is not None
            found.update(zip(group.results, [found[value] for value in op.operands], strict=True))
            return
        case _:
            layout = _layout(op, found)
    found.update(dict.fromkeys(made, layout))


def _layout(op: Operation, found: Layouts) -> str:
    kind = op.kind.data if isinstance(op, sched.Transfer) else op.name.removeprefix("comm.")
    inputs = op.inputs if isinstance(op, ACTIONS) else op.operands
    if isinstance(op, comm.CommOp | sched.Transfer):
        if kind in ("dispatch", "share"):
            return ROWS
        if kind in ("all_gather", "all_reduce"):
            return WHOLE
        return found[inputs[2]]  # combine: the rows of `chosen`
    held = [found.get(value, WHOLE) for value in inputs]
    return max(held, key=LAYOUTS.index, default=WHOLE)


def _pass_layers(op: graph.Layers | sched.Layers, found: Layouts) -> None:
    """What layers carry is whole; a stack of states is as it was."""
    found.update(dict.fromkeys(op.outputs, WHOLE))
    if isinstance(op, graph.Layers):
        stacks = op.results[len(op.carried) :]
        found.update({new: found[old] for new, old in zip(stacks, op.states, strict=True)})
    else:
        found.update(dict.fromkeys(op.spares, WHOLE))
