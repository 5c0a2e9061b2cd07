"""The one walker that analyses share: fused groups read as if their ops stood in the function."""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import graph


def operations(function: Operation, groups: bool = False) -> Iterator[Operation]:
    """All ops of a function (or of any op with regions) in execution order.

    The ops of a fused group come in its place. With `groups`, the `graph.fused` itself comes
    before its ops and its `graph.yield` after them; without, neither is seen, so that a program
    reads the same with and without fusion.
    """
    for region in function.regions:
        for block in region.blocks:
            yield from _block_operations(block, groups)


def _block_operations(block: Block, groups: bool) -> Iterator[Operation]:
    for op in block.ops:
        if groups or not isinstance(op, graph.Fused | graph.Yield):
            yield op
        yield from operations(op, groups)


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
