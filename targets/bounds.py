"""What no plan can beat: lower bounds of one layer of experts, and when its traffic can hide.

    bandwidth   max over cuts of bytes across / capacity: around one rank and around each domain,
                out of it and into it, one copy of a token for each target behind the cut
    latency     one message of no bytes over the first links, each direction: latency + issue
    compute     max(operations / peak, weights of the experts with rows / main memory)
    overlapped  max of the three; serial: their sum

Peaks of the machine file, not what kernels reach: measured plans lie above. V4's condition says
when arithmetic hides the traffic of its rows: C / B <= operations of a pair / its bytes, which is
2 D for FP8 rows out and BF16 results back; C and B are what kernels reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supertile.ir.expert_layer import ExpertSizes
from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.link import domain_shares
from supertile.targets.cost.protocol import achieved_bandwidth, known_protocols
from supertile.targets.cost.route import Exchange
from supertile.targets.cost.values import Value, largest, number_text, plain
from supertile.targets.machine_types import Domain, Machine


@dataclass(frozen=True)
class LayerBounds:
    """Seconds; numbers or arrays."""

    cuts: Mapping[str, Mapping[str, Value]]
    """dispatch or combine -> side and cut, as in "leaving node" -> seconds."""
    latency: Value
    """Of both directions."""
    arithmetic: Value
    weights: Value

    @property
    def bandwidth(self) -> Value:
        """Of both directions, which share the ports of each side."""
        names = dict.fromkeys(name for held in self.cuts.values() for name in held)
        return largest(0.0, *(sum(held[name] for held in self.cuts.values()) for name in names))

    @property
    def compute(self) -> Value:
        return largest(self.arithmetic, self.weights)

    @property
    def overlapped(self) -> Value:
        return largest(self.bandwidth, self.latency, self.compute)

    @property
    def serial(self) -> Value:
        """Dispatch, experts and combine one after the other."""
        phases = sum(largest(0.0, *held.values()) for held in self.cuts.values())
        return phases + self.latency + self.compute


def layer_bounds(
    machine: Machine,
    sizes: ExpertSizes,
    exchanges: Mapping[str, Exchange],
    slots: float,
    touched: Value = 1.0,
) -> LayerBounds:
    """The bounds of a layer; `slots` experts a rank, of which a share `touched` has rows."""
    ledger = Ledger(machine, "the bounds of a layer of experts")
    held = next(iter(exchanges.values()))
    matrix = machine.engine("matrix")
    assert matrix is not None, "every machine has a matrix engine"
    rate = ledger.peak(matrix, sizes.element)
    memory = ledger.need(f"memories.{machine.main_memory.name}.read", "memory")
    rows = held.tokens * held.choices  # of the average rank: what all together must compute
    return LayerBounds(
        cuts={name: _cuts(ledger, one) for name, one in exchanges.items()},
        latency=_latency(ledger, held) * len(exchanges),
        arithmetic=plain(sizes.flops * rows / rate),
        weights=plain(slots * touched * sizes.expert_bytes / memory),
    )


def _cuts(ledger: Ledger, exchange: Exchange) -> dict[str, Value]:
    """One direction: the mean rank on one side of it, the fullest on the other.

    Around a domain both sides are alike: its ranks share what crosses.
    """
    if exchange.ranks == 1:
        return {}
    found: dict[str, Value] = {}
    mean_side, full_side = ("leaving", "entering")[:: 1 if exchange.operation == "dispatch" else -1]
    shares = domain_shares(ledger.machine, exchange.ranks)
    capacities = _capacities(ledger, [share.domain for share in shares])
    inside, around = 1, "a rank"
    for share, capacity in zip(shares, capacities, strict=True):
        rows = exchange.distinct(inside) * (1 - exchange.inside(inside))
        mean = plain(rows / exchange.tail * exchange.row / capacity)
        found[f"{mean_side} {around}"] = mean
        found[f"{full_side} {around}"] = mean * exchange.tail if inside == 1 else mean
        inside, around = int(share.domain.devices.value or exchange.ranks), share.domain.name
    return found


def _capacities(ledger: Ledger, domains: list[Domain]) -> list[float]:
    """For each cut the bytes a second of one rank over all links that cross it.

    Neighbouring domains of one bandwidth are the same ports, and count once.
    """
    peaks = [ledger.need(f"domains.{one.name}.bandwidth", one.name) for one in domains]
    fresh = [peaks[n] if n == 0 or peaks[n] != peaks[n - 1] else 0.0 for n in range(len(peaks))]
    return [peaks[n] + sum(fresh[n + 1 :]) for n in range(len(peaks))]


def _latency(ledger: Ledger, exchange: Exchange) -> float:
    """One message over the innermost domain: the smallest latency and issue that are known."""
    if exchange.ranks == 1:
        return 0.0
    domain = domain_shares(ledger.machine, exchange.ranks)[0].domain
    own = ledger.known(f"domains.{domain.name}.latency", domain.name)
    starts = [] if own is None else [own]
    for name in known_protocols(domain):
        path = f"domains.{domain.name}.protocols.{name}"
        start = ledger.need(f"{path}.write_latency", domain.name)
        starts.append(start + (ledger.known(f"{path}.issue", domain.name) or 0.0))
    return min(starts, default=0.0)


# ---- when traffic hides ------------------------------------------------------------------------


@dataclass(frozen=True)
class HideCondition:
    """C / B against operations for each byte of a pair: traffic could hide if it is not above.

    Whether it does is the schedule's: summary.json tells exposed and hidden communication.
    """

    rate: float
    """Operations a second that kernels reach."""
    bandwidth: float
    """Bytes a second of one rank over the slowest domain that it uses."""
    threshold: float

    @property
    def ratio(self) -> float:
        return self.rate / self.bandwidth

    @property
    def holds(self) -> bool:
        return self.ratio <= self.threshold

    @property
    def exposed(self) -> float:
        """How many times as long the traffic takes as the arithmetic."""
        return self.ratio / self.threshold

    def __str__(self) -> str:
        verdict = f"traffic takes {self.exposed:.3g} x as long as arithmetic"
        return (
            f"C / B = {number_text(self.rate, 'FLOP/s')} / {number_text(self.bandwidth, 'B/s')} = "
            f"{self.ratio:,.0f} FLOP/B, {self.threshold:,.0f} allowed: {verdict}"
        )


def threshold(sizes: ExpertSizes, distinct: float = 1.0, scales: bool = False) -> float:
    """6 C D / bytes of a pair; `distinct` of its rows out are sent. 2 D for FP8 and BF16.

    The scales of the rows are left out, as V4's report does, unless they are asked for.
    """
    out = sizes.row.out if scales else sizes.row.out // sizes.channels * sizes.channels
    return sizes.flops / (distinct * out + sizes.row.back)


def hide_condition(
    machine: Machine, sizes: ExpertSizes, exchanges: Mapping[str, Exchange]
) -> HideCondition:
    """At the rates that the machine's kernels reach, over the outermost domain of the ranks.

    B is that of a pair's bytes: what each direction reaches, by the bytes that it carries.
    """
    ledger = Ledger(machine, "whether traffic hides behind the experts")
    matrix = machine.engine("matrix")
    assert matrix is not None, "every machine has a matrix engine"
    held = exchanges["dispatch"]
    domain = domain_shares(machine, held.ranks)[-1].domain
    seconds = sum(
        one.row / achieved_bandwidth(ledger, domain, name) for name, one in exchanges.items()
    )
    share = float(np.mean(np.true_divide(held.distinct(), held.copies)))
    bandwidth = sizes.pair_bytes / seconds
    return HideCondition(ledger.rate(matrix, sizes.element), bandwidth, threshold(sizes, share))
