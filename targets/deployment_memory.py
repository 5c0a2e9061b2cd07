"""The memory of a device as a function of the deployment, so that what fits can be searched for.

    memory = deployment_memory(module, plan, entries, names, deployment, model, machine)
    memory.use(replace(deployment, batch=64)).fits

The buffers of dispatch and combine hang on the route that rows take, and that on how many there
are: the module has the routes of the deployment that it was compiled for, and any other has those
that it would be compiled to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from supertile.ir import comm
from supertile.ir.comm_route import Route
from supertile.ir.comm_work import ARRIVED, CopyBytes, copy_bytes
from supertile.runtime.plan import ModulePlan
from supertile.targets.activations import Activations
from supertile.targets.comm.alternatives import buffer_bytes, routes
from supertile.targets.comm.choice import choose, exchanges
from supertile.targets.cost.memory import memory_use
from supertile.targets.cost.route import Exchange
from supertile.targets.cost.sizes import own_tokens, sizes_of
from supertile.targets.cost.storage import stored_states, stored_weights
from supertile.targets.deploy import Deployment, Model
from supertile.targets.machine_types import Machine
from supertile.targets.timeline import MemoryUse


@dataclass(frozen=True)
class DeploymentMemory:
    """What deployments take that differ in batch and context alone."""

    use: Callable[[Deployment], MemoryUse]
    least: Callable[[Deployment], MemoryUse]
    """With the routes that need the smallest buffers: it grows with batch and context."""


@dataclass(frozen=True)
class Transfers:
    """The transfers of a layer of experts: the bytes of a row, and the routes if there are any."""

    row: CopyBytes
    routes: Mapping[str, Route | None]


def deployment_memory(
    module: ModuleOp,
    plan: ModulePlan,
    entries: Sequence[str],
    names: Iterable[str],
    deployment: Deployment,
    model: Model,
    machine: Machine,
) -> DeploymentMemory:
    """Of a tiled module, compiled for the deployment; `names` are the sizes that it speaks of."""
    weights, states = stored_weights(plan, entries, machine), stored_states(plan, entries)
    functions = [op for op in module.ops if isinstance(op, FuncOp)]
    activations = [Activations(function) for function in functions]
    sent, sizes = _transfers(functions), tuple(names)

    compiled = own_tokens(deployment, model) if sent else 0.0
    chosen: dict[tuple[str, float], Route] = {}
    known: dict[str, list[Route]] = {}

    def of_route(exchange: Exchange, route: Route) -> float:
        tokens = float(exchange.tokens)
        if tokens != compiled:
            key = (exchange.operation, tokens)
            route = chosen.get(key) or choose(machine, exchange).best.route
            chosen[key] = route
        return float(buffer_bytes(machine, exchange, route))

    def smallest(exchange: Exchange, _: Route) -> float:
        if exchange.operation not in known:  # they are the same for every number of tokens
            known[exchange.operation] = routes(machine, exchange)
        taken = known[exchange.operation]
        return min(float(buffer_bytes(machine, exchange, route)) for route in taken)

    def with_buffers(size: Callable[[Exchange, Route], float], asked: Deployment) -> MemoryUse:
        values = sizes_of(asked, model, sizes)
        live = max(function.peak(values) for function in activations)
        taken = 0.0
        for exchange in _exchanges(sent, asked, model):
            assert sent is not None, "there is an exchange"
            route = sent.routes[exchange.operation]
            # Without a route two buffers, each for the rows that arrive on average.
            plain = 2.0 * float(values[ARRIVED]) * (exchange.row + exchange.routing)
            taken += plain if route is None else size(exchange, route)
        return memory_use(weights, states, asked, model, machine, live, taken)

    # What fits is searched for, and once for all placements of experts.
    return DeploymentMemory(
        cache(partial(with_buffers, of_route)),
        cache(partial(with_buffers, smallest)),
    )


def _exchanges(sent: Transfers | None, deployment: Deployment, model: Model) -> list[Exchange]:
    """dispatch and combine of a layer; none where a rank has all experts."""
    if sent is None or deployment.ep == 1:
        return []
    experts, choices = experts_and_choices(model)
    tokens = own_tokens(deployment, model)
    return [*exchanges(sent.row, deployment.ep, experts, choices, tokens).values()]


def experts_and_choices(model: Model) -> tuple[int, int]:
    """Of a layer; a dense one counts as one that chooses one of no experts."""
    layer = model.experts
    return (0, 1) if layer is None else (layer.experts, layer.choices)


def _transfers(functions: list[FuncOp]) -> Transfers | None:
    """Those of the first layer that has experts on several ranks."""
    for function in functions:
        for op in function.body.block.ops:
            if isinstance(op, comm.Combine):
                dispatch = op.origin.owner
                assert isinstance(dispatch, comm.Dispatch)
                taken = {"dispatch": dispatch.route, "combine": op.route}
                named = {name: one.route if one else None for name, one in taken.items()}
                return Transfers(copy_bytes(dispatch, op), named)
    return None
