"""The walkers that analyses share: all ops as they stand in the text, or fused groups read as if
their ops stood in the function.

Both make lists: xDSL's generators, one in the other, take several times as long.
"""

from __future__ import annotations

from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import graph

GROUPS = (graph.Fused.name, graph.Yield.name)
"""Names, since `isinstance` of a class that xDSL makes takes several times as long."""


def ops_within(op: Operation) -> list[Operation]:
    """The op and all ops in its regions, in the order of the text."""
    found = [op]
    for region in op.regions:
        for block in region.blocks:
            inner = block.first_op
            while inner is not None:
                if inner.regions:
                    found += ops_within(inner)
                else:
                    found.append(inner)
                inner = inner.next_op
    return found


def operations(function: Operation, groups: bool = False) -> list[Operation]:
    """All ops of a function (or of any op with regions) in execution order.

    The ops of a fused group come in its place. With `groups`, the `graph.fused` itself comes
    before its ops and its `graph.yield` after them; without, neither is seen, so that a program
    reads the same with and without fusion.
    """
    found = ops_within(function)[1:]
    return found if groups else [op for op in found if op.name not in GROUPS]


def captured(fused: Operation) -> list[SSAValue]:
    """The values used inside a group but defined outside, each once, in the order of first use."""
    # A dict for its order; values compare by identity.
    outside: dict[SSAValue, None] = {}
    defined: set[SSAValue] = set()
    for op in operations(fused, groups=True):
        for value in op.operands:
            if value not in defined:
                outside.setdefault(value)
        # The results of a nested group come before the values of its ops: harmless, since no op
        # of the group can use them.
        defined.update(op.results)
        for region in op.regions:
            defined.update(argument for block in region.blocks for argument in block.args)
    return list(outside)


def inside(value: SSAValue) -> SSAValue:
    """The value itself, behind the results of fused groups."""
    while isinstance(value, OpResult) and isinstance(value.op, graph.Fused):
        assert value.op.body.block.last_op is not None
        value = value.op.body.block.last_op.operands[value.index]
    return value


def is_state(value: SSAValue) -> bool:
    """Whether a value is a version of the state: written in place, so to be used at most once."""
    if isinstance(value, BlockArgument):
        return _is_state_argument(value)
    if not isinstance(value, OpResult):
        return False
    op = value.op
    match op:
        case graph.Append() | graph.PoolWindows():
            return value.index == 1
        case graph.Layers():
            return value.index >= len(op.carried)
        case graph.Fused():
            last = op.body.block.last_op
            return last is not None and is_state(last.operands[value.index])
        case _:
            return False


def _is_state_argument(value: BlockArgument) -> bool:
    function = value.block.parent_op()
    if not isinstance(function, FuncOp) or function.arg_attrs is None:
        return False
    return "graph.state" in function.arg_attrs.data[value.index].data
