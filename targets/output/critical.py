"""Which tasks of a program decide how long it takes, and how much later the others could end.

The graph of a program has its tasks as nodes, and edges from what must have ended: what a task
waits for, and the task before it on its lane, which runs one at a time in the order of its starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from supertile.targets.timeline import NANO, Program


@dataclass(frozen=True)
class Criticality:
    """Of a program: numbers of tasks, and seconds."""

    path: tuple[int, ...]
    """The tasks that follow one another without slack, from the first to the last."""
    slack: tuple[float, ...]
    """For each task how much later it could end without the program ending later, if the lanes
    keep their order."""


def task_graph(program: Program) -> Any:
    """The tasks as a networkx.DiGraph."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(program.tasks)))
    graph.add_edges_from(
        (n, number) for number, task in enumerate(program.tasks) for n in task.waits
    )
    for lane in {task.lane for task in program.tasks}:
        own = [number for number, task in enumerate(program.tasks) if task.lane == lane]
        graph.add_edges_from(pairwise(sorted(own, key=lambda n: (program.tasks[n].start, n))))
    return graph


def criticality(program: Program) -> Criticality:
    """Times are taken in whole nanoseconds, as the cost of a task is."""
    import networkx

    if not program.tasks:
        return Criticality((), ())
    graph = task_graph(program)
    durations = [round(task.duration * NANO) for task in program.tasks]
    order = list(networkx.topological_sort(graph))
    ends: dict[int, int] = {}
    for number in order:
        ready = max((ends[before] for before in graph.predecessors(number)), default=0)
        ends[number] = ready + durations[number]
    last = max(ends.values())
    latest: dict[int, int] = {}
    for number in reversed(order):
        behind = graph.successors(number)
        latest[number] = min((latest[n] - durations[n] for n in behind), default=last)
    for before, number in graph.edges:
        graph.edges[before, number]["seconds"] = durations[before]
    slack = tuple((latest[n] - ends[n]) / NANO for n in range(len(program.tasks)))
    tight = graph.subgraph(n for n, held in enumerate(slack) if held == 0)
    path = networkx.dag_longest_path(tight, weight="seconds")
    return Criticality(tuple(path), slack)
