"""Which ops each level of the IR may hold, as data. The order is that of lowering."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from supertile.ir import comm, graph, sched, tile

STRUCTURE = frozenset({"builtin.module", "func.func", "func.return"})
GROUPS = frozenset({graph.Fused.name, graph.Yield.name})
GRAPH = frozenset(op.name for op in graph.OPS) - GROUPS
COMM = frozenset(op.name for op in comm.OPS)
# Ops on whole tensors that tiles have no use for: kernels spell them out.
SPELLED_OUT = frozenset(
    op.name
    for op in (
        graph.Linear, graph.GroupedLinear, graph.Append, graph.CompletedWindows,
        graph.PoolWindows, graph.Attend, graph.Dispatch, graph.Combine,
    )
)  # fmt: skip
TILE = frozenset(op.name for op in tile.OPS)
SCHED = frozenset(op.name for op in sched.OPS)
# What programs have ops of their own for.
REPLACED = frozenset({tile.Launch.name, graph.Layers.name})

LEVELS: dict[str, frozenset[str]] = {
    "graph": STRUCTURE | GRAPH,
    "placed": STRUCTURE | GRAPH | COMM,
    "fused": STRUCTURE | GRAPH | COMM | GROUPS,
    "tiled": STRUCTURE | COMM | TILE | (GRAPH - SPELLED_OUT),
    "scheduled": frozenset({"builtin.module"}) | SCHED | ((TILE | GRAPH) - SPELLED_OUT - REPLACED),
}

# Whole tensors and their groups; what lies behind has kernels.
WHOLE_TENSORS = ("graph", "placed", "fused")


def level_of(module: ModuleOp) -> str | None:
    """The first level that may hold all ops of the module; None if no level may."""
    names = {op.name for op in module.walk()}
    return next((level for level, allowed in LEVELS.items() if names <= allowed), None)


def later(first: str, second: str) -> str:
    """The one of two levels that comes later."""
    return max(first, second, key=list(LEVELS).index)
