"""The comm dialect: what ranks send each other. All ranks run the same program on tokens of theirs.

Sizes: T tokens of a rank, K choices, C channels, N rows that arrive at a rank (of all sources).
`ranks` of an op are those of a group, which are in a row: they work on the same tokens.
An op sees the values of all ranks at once; `runtime/comm_ops.py` defines what it means. A `route`
(`comm_route.py`) says how rows travel, which costs depend on and results do not. The shape
rules are in `shapes.py`, the work rules in `work.py`, bytes on the wire in `comm_work.py`.
"""

from __future__ import annotations

from abc import ABC

from xdsl.ir import Dialect
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def
from xdsl.utils.exceptions import VerifyException

from supertile.ir.comm_route import RouteAttr
from supertile.ir.expert_plan import ANY_PLACEMENT, PlanAttr, PlannedAttr
from supertile.ir.graph import GraphOp, Tensor
from supertile.ir.op import Integer, SupertileOp
from supertile.ir.placement import PlacementAttr
from supertile.ir.shard import ShardAttr

HOW = ("route", "waves")
"""Properties that say how an op runs; its results do not follow from them."""


class CommOp(GraphOp, ABC):
    """An op whose results on one rank follow from the operands on all: pure, like those of graph.

    Removing or merging it is sound, because it happens on all ranks alike.
    """


def check_waves(waves: int, slots: int) -> None:
    """VerifyException unless each wave of the fullest rank has one of its slots."""
    if not 1 <= waves <= slots:
        raise VerifyException(f"{slots} slots run in 1 to as many waves, not {waves}")


COUNTS = 2
"""The place of the rows of each slot among the results of a dispatch."""


@irdl_op_definition
class Dispatch(CommOp):
    """One row for each chosen expert, to a rank that holds it: see `ir/placement.py` for which,
    and `ir/expert_plan.py` for placements that differ by layer.

    rows[r] = x[i // K] on rank s, with (s, i) = origin[r]: choice i % K of token i // K there. Rows
    are sorted by slot, then by source rank, then by token; counts[j] of them are for slot j.

    `waves`: the slots of a rank in so many contiguous runs, the first ones with one more. The rows
    of a wave are to travel while the experts of the wave before compute: `build-schedule` makes
    tasks of it. Results are those of one wave.
    """

    name = "comm.dispatch"
    x = operand_def(Tensor)
    chosen = operand_def(Tensor)
    weight = operand_def(Tensor)
    placement = prop_def(ANY_PLACEMENT)
    route = opt_prop_def(RouteAttr)
    waves = opt_prop_def(Integer)
    rows = result_def(Tensor)
    row_weight = result_def(Tensor)
    counts = result_def(Tensor)
    origin = result_def(Tensor)

    def verify_(self) -> None:
        super().verify_()
        if self.waves is not None:
            check_waves(self.waves.value.data, self.placement.width)


@irdl_op_definition
class Combine(CommOp):
    """Rows back to their tokens and summed, ascending by expert: y[t] = sum of rows from (s, t).

    `rows` are those of any rank with origin (s, t K + k), s this rank; `chosen` [T, K] on this rank
    names the expert of each.
    """

    name = "comm.combine"
    rows = operand_def(Tensor)
    origin = operand_def(Tensor)
    chosen = operand_def(Tensor)
    route = opt_prop_def(RouteAttr)
    result = result_def(Tensor)


@irdl_op_definition
class Share(CommOp):
    """Of rows that a group has in common those of one rank, in runs: the first have one more.

    Nothing is sent: the rows are part of what the rank has.
    """

    name = "comm.share"
    x = operand_def(Tensor)
    ranks = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class AllGather(CommOp):
    """The rows of all ranks of a group, one rank after the other: what `comm.share` took apart.

    `like` has as many rows as the result; its numbers are not read.
    """

    name = "comm.all_gather"
    x = operand_def(Tensor)
    like = operand_def(Tensor)
    ranks = prop_def(Integer)
    result = result_def(Tensor)


@irdl_op_definition
class AllReduce(CommOp):
    """y = sum of x over the ranks of a group, added in their order: all get the same bits."""

    name = "comm.all_reduce"
    x = operand_def(Tensor)
    ranks = prop_def(Integer)
    result = result_def(Tensor)


OPS: tuple[type[SupertileOp], ...] = (Dispatch, Combine, Share, AllGather, AllReduce)
# Ops of a group that has the same tokens on all ranks.
GROUP_OPS = (Share, AllGather, AllReduce)

COMM = Dialect("comm", list(OPS), [PlacementAttr, PlanAttr, PlannedAttr, RouteAttr, ShardAttr])
