"""What an engine's rules need to know beside a placement: nodes, expert groups, a rank's tokens."""

from __future__ import annotations

from dataclasses import dataclass

from supertile.targets.cost.sizes import own_tokens
from supertile.targets.deploy import Deployment, Model
from supertile.targets.machine_types import Domain, Machine


@dataclass(frozen=True)
class EngineSetting:
    """A deployment as the rules of engines see it."""

    nodes: int = 1
    """Nodes that the ranks are on, as many ranks on each."""
    groups: int | None = None
    """Expert groups of the model's router; None: it has none."""
    tp: int = 1
    """Ranks that work on the same sequences in attention."""
    rows: int = 1
    """Tokens of a rank in one call."""


def engine_setting(machine: Machine, model: Model, deployment: Deployment) -> EngineSetting:
    """Of a model on a machine."""
    groups = 0 if model.experts is None else model.experts.groups
    return EngineSetting(
        nodes=node_count(machine, deployment.ep),
        groups=groups or None,
        tp=deployment.tp,
        rows=max(1, round(own_tokens(deployment, model))),
    )


def node_count(machine: Machine, ranks: int) -> int:
    """Nodes that so many ranks fill; 1 where they fill none, or the last one in part.

    A node is the domain of that name, or else the innermost that the machine file has.
    """
    domain = next((one for one in machine.domains if one.name == "node"), _innermost(machine))
    size = None if domain is None else domain.devices.value
    if size is None or ranks % int(size):
        return 1
    return ranks // int(size)


def _innermost(machine: Machine) -> Domain | None:
    return machine.domains[0] if machine.domains else None
