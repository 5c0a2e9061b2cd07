"""What a slot and a token of an expert cost on a machine: the objective of a plan for time."""

from __future__ import annotations

from supertile.ir.expert_layer import ExpertSizes
from supertile.targets.comm.layer_time import expert_rates
from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.link import domain_shares
from supertile.targets.cost.protocol import achieved_bandwidth
from supertile.targets.machine_types import Machine
from supertile.targets.placement.objective import SlotCosts


def slot_costs(machine: Machine, sizes: ExpertSizes, ranks: int) -> SlotCosts:
    """Seconds of weights, products and wire at the rates that kernels reach; no wire on one rank.

    Wire: a row out and a result back over the outermost domain that the ranks span.
    """
    ledger = Ledger(machine, "the objective of a plan for time")
    token, weights = expert_rates(ledger, sizes)
    return SlotCosts(weights=weights, token=token, wire=_wire(ledger, machine, sizes, ranks))


def _wire(ledger: Ledger, machine: Machine, sizes: ExpertSizes, ranks: int) -> float:
    if ranks == 1:
        return 0.0
    domain = domain_shares(machine, ranks)[-1].domain
    bytes_of = {"dispatch": sizes.row.out + sizes.row.routing, "combine": sizes.row.back}
    return float(
        sum(size / achieved_bandwidth(ledger, domain, name) for name, size in bytes_of.items())
    )
