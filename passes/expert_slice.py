"""The experts of a layer as a module of their own: what is between dispatch and combine.

    func.func @experts(%x, %chosen, %weight, %layer) {
      %r, %g, %n, %o = graph.dispatch %x, %chosen, %weight
      ... grouped products ...
      %y = graph.combine %c, %o
      return %y
    }

Passes fuse and tile it as they do within the layer, in a small part of the time: nothing that they
group reaches across a dispatch or a combine of several ranks.
"""

from __future__ import annotations

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    FunctionType,
    ModuleOp,
    StringAttr,
    TensorType,
)
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Operation, Region, SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC

ENTRY = "experts"


def expert_slice(module: ModuleOp) -> ModuleOp:
    """The experts of the first layer that has some; the module, with `graph.dispatch`, stays."""
    dispatch = next(op for op in module.walk() if isinstance(op, graph.Dispatch))
    combine = next(iter(dispatch.order.uses)).operation
    ops = _between(dispatch, combine)
    inner = {result for op in ops for result in op.results}
    arguments = list(
        dict.fromkeys(value for op in ops for value in op.operands if value not in inner)
    )
    block = Block(arg_types=[value.type for value in arguments])
    values: dict[SSAValue, SSAValue] = dict(zip(arguments, block.args, strict=True))
    for op in ops:
        block.add_op(op.clone(values))
    (result,) = (values[value] for value in combine.results)
    block.add_op(ReturnOp(result))
    kind = FunctionType.from_lists([value.type for value in arguments], [result.type])
    function = FuncOp(ENTRY, kind, Region(block))
    function.arg_attrs = ArrayAttr([_named(value, n) for n, value in enumerate(arguments)])
    return ModuleOp([function])


def _between(dispatch: graph.Dispatch, combine: Operation) -> list[Operation]:
    """The ops that the combine needs, from the dispatch on, in the order of their block."""
    needed: set[Operation] = {combine, dispatch}
    waiting = [combine]
    while waiting:
        owners = (value.owner for value in waiting.pop().operands)
        more = {owner for owner in owners if isinstance(owner, Operation)} - needed
        needed |= more
        waiting += more
    block = dispatch.parent
    assert block is not None
    return [op for op in block.ops if op in needed]


def _named(value: SSAValue, number: int) -> DictionaryAttr:
    """What the shape rules ask of an argument: dynamic axes are those of a call's tokens."""
    name = {"graph.name": StringAttr(value.name_hint or f"argument{number}")}
    if not isinstance(value.type, TensorType):
        return DictionaryAttr(name)
    sizes = ["T" if size == DYNAMIC else str(size) for size in shape_of(value)]
    return DictionaryAttr({**name, "graph.sizes": ArrayAttr([StringAttr(s) for s in sizes])})
