"""Adds up parts of sums over a group: as late as all that uses them is a sum, too, but once.

    %a = graph.grouped_linear ..., %b = graph.combine %a, %c = graph.linear ...   (parts)
    %y = graph.add %b, %c
->
    %z = graph.add %b, %c
    %y = comm.all_reduce %z
"""

from __future__ import annotations

from xdsl.dialects.builtin import f32
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.rewriter import Rewriter

from supertile.ir import comm, graph
from supertile.ir.locations import nameless
from supertile.ir.op import attribute_of
from supertile.ir.types import tensor, type_of

Parts = dict[SSAValue, None]  # in order


def add_sums(sums: list[Operation], ranks: int) -> None:
    """Insert `comm.all_reduce` behind ops whose results are parts of sums.

    Parts are float32 whatever the sum is rounded to; the sum bears the name of the value.
    """
    parts: Parts = {op.results[0]: None for op in dict.fromkeys(sums)}
    while _pass_on(parts):
        pass
    for value in list(parts):
        _add_up(value, ranks)


def _pass_on(parts: Parts) -> bool:
    """Replace a part by what a sum makes of it, and it alone; whether there was one."""
    for value in list(parts):
        user = _only_user(value)
        if not _is_sum_of(user, value, parts):
            continue
        assert user is not None
        for operand in user.operands:
            if operand in parts:
                del parts[operand]
                _widen(operand)
        parts[user.results[0]] = None
        return True
    return False


def _only_user(value: SSAValue) -> Operation | None:
    users = [use.operation for use in value.uses]
    return users[0] if len(users) == 1 else None


def _is_sum_of(user: Operation | None, value: SSAValue, parts: Parts) -> bool:
    match user:
        case graph.Combine():
            return user.rows is value
        case graph.Add():
            return all(v in parts and _only_user(v) is user for v in user.operands)
        case _:
            return False


def _widen(value: SSAValue) -> SSAValue:
    """The value in float32; it has no name of its own, being no value of the model."""
    kind = type_of(value)
    if isinstance(value, OpResult):
        value.op.location = nameless(value.op.location)
    if kind.element_type == f32:
        return value
    return Rewriter.replace_value_with_new_type(value, tensor(kind.get_shape(), f32))


def _add_up(value: SSAValue, ranks: int) -> None:
    assert isinstance(value, OpResult)
    made, kind, name = value.op, type_of(value), value.name_hint
    location = made.location
    part = _widen(value)
    total = comm.AllReduce.create(
        operands=[part],
        properties={"ranks": attribute_of(ranks)},
        result_types=[kind],
        location=location,
    )
    block = made.parent
    assert block is not None
    block.insert_op_after(total, made)
    total.result.name_hint, part.name_hint = name, None
    for use in [use for use in part.uses if use.operation is not total]:
        use.operation.operands[use.index] = total.result
