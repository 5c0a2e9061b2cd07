"""Stacks of states in entries, where the functions of layers have a slice of each."""

from __future__ import annotations

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.group_layout import SHARD
from supertile.ir.locations import location_text
from supertile.ir.op import properties_of
from supertile.ir.shard import ShardAttr
from supertile.passes.split_axes import mark_state, set_type, slice_value


def split_stacks(module: ModuleOp) -> None:
    """Cut the stacks that layers take rows of as the layers' functions cut these."""
    functions = {op.sym_name.data: op for op in module.ops if isinstance(op, FuncOp)}
    for function in functions.values():
        for op in [held for held in function.walk() if isinstance(held, graph.Layers)]:
            for stack, shard in _shards(op, functions).items():
                _cut_stack(function, op, stack, shard)
        set_type(function)


def _shards(op: graph.Layers, functions: dict[str, FuncOp]) -> dict[int, ShardAttr]:
    """The stacks that are cut. All functions that use a stack cut it alike."""
    found: dict[int, set[ShardAttr | None]] = {}
    properties = properties_of(op)
    first = len(op.carried) + len(op.shared) + 1
    for name, uses in zip(properties["functions"], properties["uses"], strict=True):
        for number, stack in enumerate(uses, first):
            found.setdefault(stack, set()).add(_shard(functions[name], number))
    if any(len(held) > 1 for held in found.values()):
        raise UserError("shard.states", place=location_text(op.location))
    shards = {stack: next(iter(held)) for stack, held in found.items()}
    return {stack: shard for stack, shard in shards.items() if shard is not None}


def _shard(function: FuncOp, number: int) -> ShardAttr | None:
    held = function.arg_attrs.data[number] if function.arg_attrs else None
    shard = held.data.get(SHARD) if isinstance(held, DictionaryAttr) else None
    return shard if isinstance(shard, ShardAttr) else None


def _cut_stack(function: FuncOp, op: graph.Layers, stack: int, row: ShardAttr) -> None:
    """One axis more than in a layer: that of the layers."""
    shard = ShardAttr.of(row.axis + 1, row.parts, row.ranks)
    states = op.states[stack]
    assert isinstance(states, BlockArgument), "stacks are arguments of an entry"
    mark_state(function, states.index, shard)
    slice_value(states, shard)
    slice_value(op.results[len(op.carried) + stack], shard)
