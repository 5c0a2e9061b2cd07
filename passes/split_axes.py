"""What is cut along with an axis: all that is linked to it, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, FunctionType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, BlockArgument, Operation, OpResult, SSAValue
from xdsl.rewriter import Rewriter

from supertile.ir import graph
from supertile.ir.group_layout import SHARD
from supertile.ir.op import attribute_of, properties_of, shape_of
from supertile.ir.shard import ShardAttr
from supertile.ir.types import MxAttr, tensor, type_of
from supertile.ir.walk import is_state
from supertile.passes.axis_links import Axis, Link, links_of


@dataclass
class Split:
    """The values that are cut, each along one axis."""

    parts: int
    axes: dict[SSAValue, int] = field(default_factory=dict)
    sums: list[Operation] = field(default_factory=list)
    """The ops that sum over an axis that is cut: their results are parts of the sums."""


class BlockedError(Exception):
    """An op needs all of an axis."""

    def __init__(self, op: Operation) -> None:
        super().__init__(op.name)
        self.op = op


def split_from(seed: Axis, parts: int) -> Split:
    """Everything that is cut if `seed` is. `BlockedError` names an op for which that cannot be."""
    split = Split(parts)
    waiting = [seed]
    while waiting:
        value, axis = waiting.pop(0)
        if value in split.axes:
            continue
        split.axes[value] = axis
        for op in _ops_of(value):
            for link in _links_with(op, (value, axis)):
                waiting += [held for held in link.axes if _is_new(split, held, op)]
                if link.is_summed and op not in split.sums:
                    split.sums.append(op)
    return split


def _ops_of(value: SSAValue) -> list[Operation]:
    """The ops that make and use a value, each once; states and weights come from elsewhere."""
    users = [use.operation for use in value.uses]
    if is_state(value):
        users = [op for op in users if not isinstance(op, ReturnOp)]
    makers = [value.op] if isinstance(value, OpResult) else []
    if isinstance(value, BlockArgument) and not is_state(value):
        raise BlockedError(users[0])
    makers = [op for op in makers if not isinstance(op, graph.Weight)]
    return list(dict.fromkeys([*makers, *users]))


def _links_with(op: Operation, axis: Axis) -> list[Link]:
    found = [link for link in links_of(op) if axis in link.axes]
    if not found:
        raise BlockedError(op)
    return found


def _is_new(split: Split, axis: Axis, op: Operation) -> bool:
    """Whether a value is reached for the first time; it cannot be cut along two axes."""
    value, number = axis
    if split.axes.get(value, number) != number:
        raise BlockedError(op)
    return value not in split.axes


def most_parts(value: SSAValue, axis: int, asked: int, has_codes: bool) -> int:
    """The most equal slices, up to those asked for, that cut no block of codes."""
    size, block = shape_of(value)[axis], _block(value, axis) if has_codes else 1
    return next(
        n for n in range(asked, 0, -1) if n == 1 or (size % n == 0 and size // n % block == 0)
    )


def _block(value: SSAValue, axis: int) -> int:
    encoding = type_of(value).encoding
    if not isinstance(encoding, MxAttr):
        return 1
    own = axis - len(shape_of(value)) + len(encoding.sizes)
    return encoding.sizes[own] if own >= 0 else 1


# ---- cutting -----------------------------------------------------------------------------------


def cut(function: FuncOp, split: Split, ranks: int) -> None:
    """Give every value of the split the type of a slice; weights and states say which it is."""
    for value, axis in list(split.axes.items()):
        shard = ShardAttr.of(axis, split.parts, ranks)
        if isinstance(value, BlockArgument):
            mark_state(function, value.index, shard)
        elif isinstance(value, OpResult):
            _cut_op(value.op, shard)
        slice_value(value, shard)
    set_type(function)


def _cut_op(op: Operation, shard: ShardAttr) -> None:
    """What an op says of the sizes of its result."""
    if isinstance(op, graph.Weight):
        op.properties["shard"] = shard
        if op.stored is not None:
            kind = op.stored
            shape = _sliced(kind.get_shape(), shard)
            op.properties["stored"] = tensor(shape, kind.element_type, kind.encoding)
    if isinstance(op, graph.Reshape):
        entries = properties_of(op)["shape"]
        op.properties["shape"] = attribute_of(list(_sliced(entries, shard)))


def _sliced(shape: tuple[int, ...], shard: ShardAttr) -> tuple[int, ...]:
    axis = shard.axis
    return (*shape[:axis], shape[axis] // shard.parts, *shape[axis + 1 :])


def slice_value(value: SSAValue, shard: ShardAttr) -> None:
    """Give a value the type of a slice."""
    kind = type_of(value)
    sliced = tensor(_sliced(kind.get_shape(), shard), kind.element_type, kind.encoding)
    new = Rewriter.replace_value_with_new_type(value, sliced)
    if isinstance(value, BlockArgument) and isinstance(new, BlockArgument):
        new.location = value.location


def mark_state(function: FuncOp, number: int, shard: ShardAttr) -> None:
    """Say of an argument which slice a rank has."""
    assert function.arg_attrs is not None, "states have attributes"
    held: list[DictionaryAttr] = list(function.arg_attrs.data)
    fields: dict[str, Attribute] = dict(held[number].data)
    held[number] = DictionaryAttr(fields | {SHARD: shard})
    function.arg_attrs = ArrayAttr(held)


def set_type(function: FuncOp) -> None:
    """The type of a function whose arguments or results have other types now."""
    last = function.get_return_op()
    outputs = function.function_type.outputs if last is None else last.operand_types
    kinds = [argument.type for argument in function.body.block.args]
    function.function_type = FunctionType.from_lists(kinds, list(outputs))
