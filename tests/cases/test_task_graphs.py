"""Schedules against a graph of their tasks that networkx has rebuilt, for every overlap."""

from dataclasses import replace

import networkx as nx
import pytest
from case_runs import apart
from overlapped_runs import BATCHES, BOTH, WAVES, overlapped, run, wanted
from scheduled_runs import model_of, programs, symbols
from task_graph import drawn_order, reachable, task_graph

from supertile.ir import sched
from supertile.ir.op import attribute_of
from supertile.ir.sched_check import before_each, order_problems, traced
from supertile.ir.verify import VerifyError, verify_module
from supertile.passes.overlap_comm import OverlapComm
from supertile.runtime.sched_execute import ScheduledExecutor

EVERY = [OverlapComm(), WAVES, BATCHES, BOTH]
CASE, RANKS = "deepseek_v4", 2


def all_programs(overlap: OverlapComm) -> list[sched.Program]:
    return [*programs(overlapped(CASE, RANKS, overlap)).values()]


@pytest.mark.parametrize("overlap", EVERY)
def test_events_have_no_circles_and_no_detours(overlap: OverlapComm) -> None:
    for program in all_programs(overlap):
        graph = task_graph(program)
        assert nx.is_directed_acyclic_graph(graph)
        assert {*nx.transitive_reduction(graph).edges} == {*graph.edges}
        assert before_each(program.actions) == reachable(graph)


@pytest.mark.parametrize("overlap", EVERY)
def test_who_writes_comes_before_who_reads(overlap: OverlapComm) -> None:
    """Of two actions on one buffer whose rows are not told apart one is an ancestor of the other,
    if one of them makes it."""
    for program in all_programs(overlap):
        graph = task_graph(program)
        before = {number: nx.ancestors(graph, number) for number in graph}
        made: dict[object, list[int]] = {}
        for number, op in enumerate(program.actions):
            waved = getattr(op, "wave", None) is not None
            if isinstance(op, sched.Task | sched.Transfer) and not waved:
                for value in op.outputs:
                    if value.owner is not program.body.block:
                        made.setdefault(value, []).append(number)
        for number, op in enumerate(program.actions):
            for value in op.operands:
                for writer in made.get(value, []):
                    near = number == writer or writer in before[number]
                    assert near or number in before[writer]


@pytest.mark.parametrize("overlap", [WAVES, BATCHES, BOTH])
def test_every_deleted_edge_is_noticed(overlap: OverlapComm) -> None:
    """By the checks of the IR: no event of an overlapped program is there for nothing."""
    module = overlapped(CASE, RANKS, overlap)
    for program in programs(module).values():
        trace = traced(program, symbols(module))
        for op in program.actions:
            events = [other.event for other in op.awaited]
            for event in events:
                op.wait_for([one for one in events if one is not event])
                weaker = replace(trace, before=before_each(program.actions))
                noticed = any(True for _ in order_problems(program, weaker))
                op.wait_for(events)
                assert noticed, f"{sched.action_name(op)} need not wait"


@pytest.mark.parametrize("part, message", [(sched.SLOTS, "slots"), (sched.ROWS, "rows")])
def test_a_task_of_a_wave_says_what_it_uses(part: int, message: str) -> None:
    """With rows and slots taken for one another the text is refused."""
    module = overlapped(CASE, RANKS, WAVES).clone()
    for op in module.walk():
        if isinstance(op, sched.Task) and op.split is not None:
            split = [part if one else one for one in op.split.get_values()]
            op.properties["split"] = attribute_of(split)
    with pytest.raises(VerifyError, match=f"operand . has .* {message}, "):
        verify_module(module, "scheduled")


@pytest.mark.parametrize("overlap", EVERY)
def test_orders_that_networkx_draws_give_the_same_numbers(overlap: OverlapComm) -> None:
    model = model_of(CASE, overlapped(CASE, RANKS, overlap))
    executor = ScheduledExecutor(model.plan, model.weights.get, order=drawn_order(3))
    found = run(CASE, executor, RANKS)
    assert apart(found, wanted(CASE, RANKS)) < 1e-5


def test_a_circle_is_found() -> None:
    program = max(all_programs(WAVES), key=lambda one: len(one.actions))
    graph = task_graph(program)
    first, last = min(graph), max(graph)
    assert nx.has_path(graph, first, last)
    graph.add_edge(last, first)
    assert not nx.is_directed_acyclic_graph(graph)
