"""The time of one direction of the experts' traffic by a given route (`ir/comm_route.py`).

    rows          tokens x choices x tail x share: those of the fullest rank, its own included
    distinct      rows x (targets of a token / choices): one for each rank that a token reaches
    direct        software + max over links of [latency + issue x messages + bytes / bandwidth]
    hierarchical  software + latency of both hops + max over links of [..]; packed by domain over
                  the outer hop, rows x (1 - 1 / ranks of the domain) over the inner one;
                  deduplicated, one row for each domain over the outer, distinct over the inner one
    padded        launch + the same, of tokens x ranks rows
    deduplicated  + (rows - distinct) x 2 bytes / main memory, to rebuild or to sum them

Rows between ranks that depend on data need counts, offsets and a barrier, whatever carries them. A
fit of a fused kernel has all that in its start-up, so where a machine has one, every route but the
padded one pays it (`software`): no way wins because only its wire is counted. A route by the fused
kernel has the fit's rate; deduplicated, fewer rows at that rate, which the fit was not made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np

from supertile.ir.comm_route import FUSED, LINK, Hop, Route
from supertile.ir.errors import UserError
from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.link import (
    Link,
    LinkTime,
    Share,
    domain_shares,
    fit_of,
    fused_shares,
    link_time,
    neighbours,
    transfer_time,
)
from supertile.targets.cost.protocol import (
    Way,
    bare_latency,
    bare_way,
    best_way,
    fused_start,
    fused_way,
    way_by,
)
from supertile.targets.cost.values import Value, number_text, plain
from supertile.targets.machine_types import Domain, Machine
from supertile.targets.traffic import distinct_targets

SCALE_OUT = "scale_out"


@dataclass(frozen=True)
class Exchange:
    """What the fullest rank sends or receives in one direction of one layer."""

    operation: str
    """dispatch or combine."""
    ranks: int
    experts: int
    choices: int
    tokens: Value
    """Of a rank, in one call; a number or an array, and so are all that follow from it."""
    tail: Value
    """Rows of the fullest rank over the average."""
    row: float
    """Bytes of a row: codes with scales."""
    routing: float = 0.0
    """Bytes that go with each choice."""
    share: float = 1.0
    """Of each rank's experts, those that take part: a wave. A token still goes once to a rank."""
    counted: Mapping[int, Value] = field(default_factory=dict)
    """Devices of a domain -> rows, one for each other domain that a token reaches, where they were
    counted from a routing (`targets/traffic.py`); else they are expected for balanced routing."""

    @property
    def copies(self) -> Value:
        """Rows, one for each choice, the rank's own included."""
        return self.tokens * self.choices * self.tail * self.share

    def distinct(self, devices: int = 1) -> Value:
        """Rows, one for each domain of so many devices that a token reaches, its own included."""
        if devices in self.counted:
            return np.true_divide(self.counted[devices], 1 - self.inside(devices))
        targets = _targets(self.experts, self.ranks / devices, self.choices, self.share)
        rows = self.copies * (targets / (self.choices * self.share))
        return np.minimum(rows, self.copies)

    def reached(self) -> Value:
        """Ranks that a token reaches, its own included."""
        if 1 in self.counted:
            return self.distinct() / np.multiply(self.tokens, self.tail)
        targets = _targets(self.experts, self.ranks, self.choices, self.share)
        return np.minimum(targets, self.choices * self.share)

    def inside(self, devices: int) -> float:
        """The share of the ranks that are in the domain of a rank."""
        return float(neighbours(self.ranks, devices)) / self.ranks


@cache
def _targets(experts: int, ranks: float, choices: int, share: float) -> float:
    """`distinct_targets` of one number, once for all routes and all numbers of tokens."""
    return float(distinct_targets(experts, ranks, choices, share))


def route_time(machine: Machine, exchange: Exchange, route: Route) -> LinkTime:
    """The time of the exchange by the route.

    `cost.route` where the machine has no such domain or its ranks lie beyond it; errors that name
    the figure where one of a named protocol is unknown.
    """
    if exchange.ranks == 1:
        return transfer_time(machine, 1, exchange.copies, 0.0, exchange.operation)
    ledger = Ledger(machine, f"the time of {exchange.operation}")
    _check(machine, exchange, route)
    time = RULES[route.algorithm](ledger, exchange, route)
    return _with_rows(_rebuilt(ledger, exchange, time) if route.deduplicated else time, exchange)


def _check(machine: Machine, exchange: Exchange, route: Route) -> None:
    domains = [domain.name for domain in machine.domains]
    outermost = domain_shares(machine, exchange.ranks)[-1].domain.name
    reaching = domains[domains.index(outermost) :]
    has_all = all(_has(machine, exchange, hop) for hop in route.hops)
    if not has_all or route.hops[0].domain not in reaching:
        raise UserError(
            "cost.route",
            machine=machine.name,
            ranks=exchange.ranks,
            found=str(route),
            known=" or ".join(reaching),
        )


def _has(machine: Machine, exchange: Exchange, hop: Hop) -> bool:
    """Whether the machine has the domain, and figures of the protocol over it, known or not."""
    domain = machine.domain(hop.domain)
    if domain is None or hop.protocol == FUSED:
        return domain is not None and fit_of(machine, domain, exchange.operation) is not None
    return hop.protocol == LINK or hop.protocol in domain.protocols


# ---- direct ------------------------------------------------------------------------------------


def _direct(ledger: Ledger, exchange: Exchange, route: Route) -> LinkTime:
    rows = exchange.distinct() if route.deduplicated else exchange.copies
    size = rows * exchange.row + exchange.copies * exchange.routing
    shares = _shares(ledger.machine, exchange, route)
    inside = [share for share in shares if share.domain.name != SCALE_OUT]
    if inside and route.protocol(inside[-1].domain.name) == FUSED:
        fused = fused_shares(ledger, shares, exchange.operation, exchange.ranks)
        shares = [*fused, *(share for share in shares if share.domain.name == SCALE_OUT)]
    software = _software(ledger, exchange)
    links = []
    for share in shares:
        way = _share_way(ledger, exchange, route, share, rows, size)
        start = 0.0 if way.protocol == exchange.operation else software.start
        links.append(Link(share.domain, replace(way, start=way.start + start)))
    return link_time(ledger, links, software.launch, rows, size, exchange.ranks)


def _shares(machine: Machine, exchange: Exchange, route: Route) -> list[Share]:
    """What each domain carries; all of it the route's first, where that lies further out."""
    shares = domain_shares(machine, exchange.ranks)
    outer = machine.domain(route.hops[0].domain)
    assert outer is not None, "the route has been checked"
    if outer in [share.domain for share in shares]:
        return shares
    return [Share(outer, 1 - 1 / exchange.ranks, 1.0)]


def _share_way(
    ledger: Ledger, exchange: Exchange, route: Route, share: Share, rows: Value, size: Value
) -> Way:
    domain, part = share.domain, share.part
    protocol = route.protocol(domain.name)
    is_outside = domain.name == SCALE_OUT
    if part == 0.0 or (protocol == FUSED and is_outside):  # no part: the share of a fused kernel
        counted = part if is_outside else share.within
        return fused_way(ledger, domain, exchange.operation, counted * size)
    return _hop_way(ledger, domain, protocol, part * rows, part * size, part * exchange.ranks)


def _hop_way(
    ledger: Ledger, domain: Domain, protocol: str | None, rows: Value, size: Value, peers: Value
) -> Way:
    """By the named protocol; by the fastest known where none is named, or the fused one."""
    if protocol == LINK:
        return bare_way(ledger, domain, size)
    if protocol is None or protocol == FUSED:
        return best_way(ledger, domain, rows, size, peers)
    return way_by(ledger, domain, protocol, rows, size, peers)


@dataclass(frozen=True)
class Software:
    """What passes before the first byte, but for the links: a launch, or a fit's start-up."""

    launch: float
    start: float


def _software(ledger: Ledger, exchange: Exchange) -> Software:
    """The largest start-up of the fits over the domains that the ranks span; else a launch."""
    shares = domain_shares(ledger.machine, exchange.ranks)
    fits = [fit_of(ledger.machine, share.domain, exchange.operation) for share in shares]
    known = [domain for domain in fits if domain is not None]
    starts = [fused_start(ledger, domain, exchange.operation) for domain in known]
    if starts:
        return Software(0.0, max(starts))
    return Software(ledger.launch("launch_collective"), 0.0)


# ---- hierarchical ------------------------------------------------------------------------------


def _hierarchical(ledger: Ledger, exchange: Exchange, route: Route) -> LinkTime:
    outer, inner = (ledger.machine.domain(hop.domain) for hop in route.hops)
    assert outer is not None and inner is not None, "the route has been checked"
    devices = int(ledger.need(f"domains.{inner.name}.devices", inner.name))
    leaving, crossing = 1 - exchange.inside(devices), 1 - 1 / min(devices, exchange.ranks)
    out_rows = leaving * (exchange.distinct(devices) if route.deduplicated else exchange.copies)
    out_size = out_rows * exchange.row + leaving * exchange.copies * exchange.routing
    in_rows = crossing * (exchange.distinct() if route.deduplicated else exchange.copies)
    in_size = in_rows * exchange.row + crossing * exchange.copies * exchange.routing
    peers = np.ceil(exchange.ranks / devices) - 1
    ways = (
        _stage(ledger, exchange, outer, route.hops[0].protocol, out_rows, out_size, peers),
        _stage(ledger, exchange, inner, route.hops[1].protocol, in_rows, in_size, devices - 1),
    )
    software = _software(ledger, exchange)
    start = software.start + ways[0].start + ways[1].start
    links = [
        Link(domain, replace(way, start=start))
        for domain, way in zip((outer, inner), ways, strict=True)
    ]
    rows, size = out_rows + in_rows, out_size + in_size
    time = link_time(ledger, links, software.launch, rows, size, exchange.ranks)
    return replace(time, wire_bytes=plain(size), messages=plain(rows))


def _stage(
    ledger: Ledger,
    exchange: Exchange,
    domain: Domain,
    protocol: str,
    rows: Value,
    size: Value,
    peers: Value,
) -> Way:
    """One hop; by the fused kernel its rate, and only the latency of the link to start."""
    fit = fit_of(ledger.machine, domain, exchange.operation) if protocol == FUSED else None
    if fit is None:
        return _hop_way(ledger, domain, protocol, rows, size, peers)
    way = fused_way(ledger, fit, exchange.operation, size)
    return replace(way, start=bare_latency(ledger, domain, way.resource))


# ---- padded ------------------------------------------------------------------------------------


def _padded(ledger: Ledger, exchange: Exchange, route: Route) -> LinkTime:
    rows = exchange.tokens * exchange.ranks
    size = rows * (exchange.row + exchange.choices * exchange.routing)
    links = []
    for share in _shares(ledger.machine, exchange, route):
        part, protocol = share.part, route.protocol(share.domain.name)
        way = _hop_way(
            ledger, share.domain, protocol, part * rows, part * size, part * exchange.ranks
        )
        links.append(Link(share.domain, way))
    launch = ledger.launch("launch_collective")
    return link_time(ledger, links, launch, rows, size, exchange.ranks)


# ---- rows --------------------------------------------------------------------------------------


def _rebuilt(ledger: Ledger, exchange: Exchange, time: LinkTime) -> LinkTime:
    """With the rows of each choice made of the copy of their token, or summed to one."""
    memory = ledger.machine.main_memory.name
    rate = ledger.need(f"memories.{memory}.read", memory) * ledger.fraction(
        "memory_fraction", memory
    )
    missing = np.maximum(exchange.copies - exchange.distinct(), 0.0)
    seconds = plain(2 * missing * exchange.row / rate)
    return replace(
        time,
        duration=plain(time.duration + seconds),
        formula=f"{time.formula}\n+ {number_text(seconds, 's')} to rebuild or sum "
        f"{number_text(missing)} rows in {memory}",
        notes=tuple(dict.fromkeys((*time.notes, *ledger.notes))),
    )


def _with_rows(time: LinkTime, exchange: Exchange) -> LinkTime:
    wave = "" if exchange.share == 1 else f" x {number_text(exchange.share)} of the experts"
    rows = (
        f"rows = {number_text(exchange.tokens)} tokens x {exchange.choices} choices x "
        f"{number_text(exchange.tail)} tail{wave} = {number_text(exchange.copies)}, "
        f"{exchange.row:,.0f} B each; a token reaches {number_text(exchange.reached())} of "
        f"{exchange.ranks} ranks"
    )
    return replace(time, formula=f"{time.formula}\n{rows}")


RULES = {"direct": _direct, "hierarchical": _hierarchical, "padded": _padded}
