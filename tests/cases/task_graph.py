"""The graph of the tasks of a program, rebuilt with networkx from its events alone: an oracle."""

import random
from collections.abc import Callable, Sequence

import networkx as nx

from supertile.ir import sched
from supertile.runtime.plan import Step
from supertile.runtime.sched_plan import ProgramPlan


def task_graph(program: sched.Program) -> nx.DiGraph:
    """Actions by number, with an edge for each event from who gives it to who waits for it."""
    graph = nx.DiGraph()
    givers = {op.event: number for number, op in enumerate(program.actions)}
    graph.add_nodes_from(givers.values())
    for number, op in enumerate(program.actions):
        graph.add_edges_from((givers[value], number) for value in op.operands if value in givers)
    return graph


def drawn_order(seed: int) -> Callable[[ProgramPlan], Sequence[Step]]:
    """A topological order for each call: by numbers that are drawn."""
    draw = random.Random(seed)

    def order(plan: ProgramPlan) -> Sequence[Step]:
        graph = task_graph(plan.program)
        keys = {number: draw.random() for number in graph}
        return [plan.actions[n] for n in nx.lexicographical_topological_sort(graph, keys.get)]

    return order


def reachable(graph: nx.DiGraph) -> list[int]:
    """For each action the set of all before it, as bits."""
    return [sum(1 << other for other in nx.ancestors(graph, number)) for number in sorted(graph)]
