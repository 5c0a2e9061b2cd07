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

from collections.abc import Sequence

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
from supertile.ir.errors import UserError
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC
from supertile.ir.verify import function_name

ENTRY = "experts"


def expert_slice(module: ModuleOp) -> ModuleOp:
    """The experts of the first layer that has some; the module, with `graph.dispatch`, stays.

    `placement.unlike_kernels` where experts of another function are computed by other ops.
    """
    layers = [_between(op) for op in module.walk() if isinstance(op, graph.Dispatch)]
    ops = layers[0]
    for other in layers[1:]:
        if _form(other) != _form(ops):
            raise UserError("placement.unlike_kernels", function=function_name(other[0]))
    inner = {result for op in ops for result in op.results}
    arguments = list(
        dict.fromkeys(value for op in ops for value in op.operands if value not in inner)
    )
    block = Block(arg_types=[value.type for value in arguments])
    values: dict[SSAValue, SSAValue] = dict(zip(arguments, block.args, strict=True))
    for op in ops:
        block.add_op(op.clone(values))
    (result,) = (values[value] for value in ops[-1].results)
    end = ReturnOp(result)
    block.add_op(end)
    kind = FunctionType.from_lists([value.type for value in arguments], [result.type])
    function = FuncOp(ENTRY, kind, Region(block))
    function.arg_attrs = ArrayAttr([_named(value, n) for n, value in enumerate(arguments)])
    function.location = end.location = ops[0].location
    return ModuleOp([function])


def _form(ops: Sequence[Operation]) -> list[tuple[object, ...]]:
    """What the ops are, but for the names of the weights that they read."""
    return [
        (
            op.name,
            {name: value for name, value in op.properties.items() if name != "checkpoint"},
            [result.type for result in op.results],
        )
        for op in ops
    ]


def _between(dispatch: graph.Dispatch) -> list[Operation]:
    """From the dispatch to its combine, with what that needs, in the order of their block."""
    combine = next(iter(dispatch.order.uses)).operation
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
