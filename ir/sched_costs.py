"""What the costs of a program must satisfy: times are those of an order that the program allows.

    for op, message in cost_problems(program): ...

1. Either all actions of a program have a cost or none has.
2. No action starts before all that it waits for has ended.
3. Of the lanes of the kind `compute` each runs one action at a time. A lane of the kind `link`
   stands for several links, which may be busy at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from xdsl.ir import Operation

from supertile.ir import sched


def cost_problems(program: sched.Program) -> Iterator[tuple[Operation, str]]:
    """Everything that is wrong with the times of a program, each with the op where it shows."""
    costed = [op for op in program.actions if op.cost is not None]
    if not costed:
        return
    for op in program.actions:
        if op.cost is None:
            yield op, "the action has no cost, others of its program have"
            return
    for op in program.actions:
        yield from _too_early(op)
    yield from _at_once(program)


def _too_early(op: sched.Action) -> Iterator[tuple[Operation, str]]:
    assert op.cost is not None
    for other in op.awaited:
        assert other.cost is not None
        if op.cost.start < other.cost.end:
            name = sched.action_name(other)
            yield (
                op,
                f"it starts at {op.cost.start} ns, but waits for {name} until {other.cost.end}",
            )


def _at_once(program: sched.Program) -> Iterator[tuple[Operation, str]]:
    for lane in program.body.block.ops:
        if not isinstance(lane, sched.Lane) or lane.kind.data != "compute":
            continue
        spans = sorted(
            (op.cost.start, op.cost.end, number, op)
            for number, op in enumerate(program.actions)
            if op.lane == lane.lane and op.cost is not None and op.cost.end > op.cost.start
        )
        for (_, end, _, first), (start, _, _, second) in pairwise(spans):
            if start < end:
                name, where = sched.action_name(first), lane.lane.data
                yield second, f"it starts at {start} ns on {where}, where {name} runs until {end}"
