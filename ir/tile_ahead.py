"""Which ops of a loop can run ahead: the loads of later steps, while a step computes.

    for k:  a = load(A[k]);  b = load(B[rows(a)]);  sum = f(sum, a, b)

Both loads run ahead, with `rows` between them, since they need nothing that a step hands to the
next. That changes nothing unless a step stores to what a later one loads.
"""

from __future__ import annotations

from xdsl.ir import BlockArgument, Operation, SSAValue

from supertile.ir import tile
from supertile.ir.tile_attributes import DEVICE


def ops_ahead(loop: tile.Loop) -> list[Operation]:
    """The loads that need nothing of earlier steps, and the ops that these need, in order."""
    bound = _bound_to_steps(loop)
    needed: set[SSAValue] = set()
    ahead: list[Operation] = []
    for op in reversed(list(loop.body.block.ops)):
        wanted = _moves(op) and not any(value in bound for value in op.operands)
        if wanted or any(value in needed for value in op.results):
            ahead.append(op)
            needed.update(op.operands)
    return ahead[::-1]


def _bound_to_steps(loop: tile.Loop) -> set[SSAValue]:
    """The values that depend on what the loop carries, or that a loop in it makes."""
    bound: set[SSAValue] = set(loop.body.block.args[1:])
    for op in loop.body.block.ops:
        if op.regions or any(value in bound for value in op.operands):
            bound.update(op.results)
    return bound


def _moves(op: Operation) -> bool:
    """Whether an op brings something from device memory."""
    return isinstance(op, tile.Load | tile.Gather) and op.space.data != DEVICE


def overwritten(loop: tile.Loop) -> Operation | None:
    """A store in the body to what is loaded ahead: then a load may not run before it."""
    ahead = ops_ahead(loop)
    loaded = {_memory(op.ref) for op in ahead if isinstance(op, tile.Load | tile.Gather)}
    for op in loop.walk():
        if isinstance(op, tile.Store | tile.Scatter) and _memory(op.ref) in loaded:
            return op
    return None


def _memory(ref: SSAValue) -> SSAValue:
    """The reference itself, or the operand that it overwrites."""
    kernel = ref.block.parent_op() if isinstance(ref, BlockArgument) else None
    if not isinstance(kernel, tile.Kernel) or not isinstance(ref, BlockArgument):
        return ref
    result = ref.index - kernel.inputs.value.data
    reused = kernel.reuses.get_values()[result] if result >= 0 else -1
    return ref if reused < 0 else kernel.body.block.args[reused]
