"""Experts of a group whose ranks have the same tokens: each rank sends its share of them.

    %s = graph.linear %x, %gate  ... router ...  %chosen, %g
    %r, ... = graph.dispatch %x, %chosen, %g  ... experts ...  %a = graph.combine ...
    %b = graph.linear %x, ...                 ... shared expert ...
    %y = graph.add %a, %b
->
    %p = comm.share %x {ranks = 4}
    the same of %p: router, experts, shared expert
    %z = graph.add %a, %b
    %y = comm.all_gather %z, %x {ranks = 4}

What the dispatch needs and follows from its tokens alone works on a share, and so does what
follows from such values and weights: all ranks together do once what each would do. Ops must treat
rows one by one. Where other values come in, all rows are put together again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdsl.dialects.func import FuncOp
from xdsl.ir import BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import comm, graph
from supertile.ir.locations import nameless
from supertile.ir.op import attribute_of
from supertile.passes.axis_links import links_of
from supertile.passes.ragged import make_ragged

# Ops on the rows of experts: whose rows they are follows from the dispatch.
EXPERT_ROWS = (graph.GroupedLinear, graph.Combine)


def share_tokens(function: FuncOp, ranks: int) -> int:
    """Share the tokens of every dispatch of a function; how many there are."""
    dispatches = [op for op in function.body.block.ops if isinstance(op, graph.Dispatch)]
    for dispatch in dispatches:
        _share(dispatch, ranks)
    return len(dispatches)


@dataclass
class _Region:
    """Ops that work on a share, in order, and the values from outside whose rows they share."""

    ops: dict[Operation, None] = field(default_factory=dict)
    made: set[SSAValue] = field(default_factory=set)
    entering: dict[SSAValue, None] = field(default_factory=dict)

    def add(self, op: Operation, rows: list[SSAValue]) -> None:
        self.ops[op] = None
        self.made.update(op.results)
        self.entering.update({value: None for value in rows if value not in self.made})


def _share(dispatch: graph.Dispatch, ranks: int) -> None:
    tokens = dispatch.x
    region = _region(dispatch)
    block = dispatch.parent
    assert block is not None
    leaving = _leaving(region)
    shares = []
    for value in region.entering:
        share = graph.create(comm.Share, [value], ranks=ranks)
        share.location = nameless(dispatch.location)
        first = next(op for op in region.ops if value in op.operands)
        block.insert_op_before(share, first)
        for use in [use for use in value.uses if use.operation in region.ops]:
            use.operation.operands[use.index] = share.results[0]
        shares.append(share)
    for value in leaving:
        _gather(value, tokens, region, ranks)
    make_ragged([*shares, *region.ops])


def _gather(value: OpResult, tokens: SSAValue, region: _Region, ranks: int) -> None:
    """Put the rows together for those outside the region who use them."""
    whole = comm.AllGather.create(
        operands=[value, tokens],
        properties={"ranks": attribute_of(ranks)},
        result_types=[value.type],
        location=value.op.location,
    )
    value.op.location = nameless(value.op.location)
    block = value.op.parent
    assert block is not None
    block.insert_op_after(whole, value.op)
    whole.result.name_hint = value.name_hint
    for use in list(value.uses):
        if use.operation not in region.ops and use.operation is not whole:
            use.operation.operands[use.index] = whole.result


# ---- what works on a share ---------------------------------------------------------------------


def _region(dispatch: graph.Dispatch) -> _Region:
    needed = _needed(dispatch)
    region = _Region()
    region.entering[dispatch.x] = None
    block = dispatch.parent
    assert block is not None
    for op in block.ops:
        rows = [value for value in op.operands if not _is_of_weights(value)]
        own = [value for value in rows if value in region.made or value is dispatch.x]
        if not own or not _keeps_rows(op, rows):
            continue
        if len(own) == len(rows) or op in needed:
            region.add(op, rows)
    _take_in(region, dispatch.x)
    _let_views_out(region)
    return region


def _let_views_out(region: _Region) -> None:
    """A reshape that only others use is theirs: the value itself is put together."""
    for op in reversed(list(region.ops)):
        used = any(use.operation in region.ops for value in op.results for use in value.uses)
        if isinstance(op, graph.Reshape) and not used:
            del region.ops[op]
            region.made.difference_update(op.results)


def _take_in(region: _Region, tokens: SSAValue) -> None:
    """What is made of arguments for the region alone: it enters before that is made."""
    for value in list(region.entering):
        if value is tokens or not isinstance(value, OpResult):
            continue
        rows = [held for held in value.op.operands if not _is_of_weights(held)]
        is_own = all(use.operation in region.ops for use in value.uses)
        from_outside = all(isinstance(held, BlockArgument) for held in rows)
        if is_own and from_outside and _keeps_rows(value.op, rows):
            del region.entering[value]
            region.ops = {value.op: None, **region.ops}
            region.made.update(value.op.results)
            region.entering.update(dict.fromkeys(rows))


def _needed(dispatch: graph.Dispatch) -> set[Operation]:
    """The dispatch and all that it depends on."""
    found: set[Operation] = set()
    waiting: list[Operation] = [dispatch]
    while waiting:
        op = waiting.pop()
        if op not in found:
            found.add(op)
            waiting += [value.op for value in op.operands if isinstance(value, OpResult)]
    return found


def _is_of_weights(value: SSAValue) -> bool:
    """Whether a value follows from weights alone."""
    return isinstance(value, OpResult) and (
        isinstance(value.op, graph.Weight | graph.Constant)
        or (bool(value.op.operands) and all(map(_is_of_weights, value.op.operands)))
    )


def _keeps_rows(op: Operation, rows: list[SSAValue]) -> bool:
    """Whether each row of the results follows from the same row of these operands."""
    if isinstance(op, graph.Dispatch):
        return True
    if isinstance(op, EXPERT_ROWS):
        return all(value in rows for value in op.operands[:1])
    links = [link for link in links_of(op) if (op.results[0], 0) in link.axes]
    return bool(op.results) and any(
        all((value, 0) in link.axes for value in (*op.results, *rows)) for link in links
    )


def _leaving(region: _Region) -> list[OpResult]:
    """Values of the region that others use."""
    return [
        value
        for op in region.ops
        for value in op.results
        if any(use.operation not in region.ops for use in value.uses)
    ]
