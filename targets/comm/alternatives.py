"""Every route that an exchange could take on a machine, with its time, buffers, and what it needs.

    alternatives(machine, exchange)     # in the order in which ties are decided

Algorithms: direct, hierarchical over each domain inside, padded. Domains: the smallest that holds
all ranks, and those around it with links of another bandwidth. Protocols: those that the machine
file names, the ones with unknown figures too: such a route is listed, without a time. All with and
without deduplication. A route that rounds otherwise than the program says (sums of a rank before
they travel) is costed and never taken: that is a decision about quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from supertile.ir.comm_route import FUSED, LINK, Hop, Route
from supertile.ir.errors import UserError
from supertile.targets.cost.link import LinkTime, domain_shares, fit_of
from supertile.targets.cost.protocol import CHOICES, known_protocols
from supertile.targets.cost.route import SCALE_OUT, Exchange, route_time
from supertile.targets.cost.values import Value
from supertile.targets.machine_types import Domain, Machine

PADDED = "collective"
"""The protocol of shapes that repeat."""
ROUNDS = "sums of a rank travel instead of its rows: they round otherwise"


@dataclass(frozen=True)
class Alternative:
    """One route; `time` is None where a figure that it needs is unknown."""

    route: Route
    time: LinkTime | None
    obstacle: str = ""
    """Why the compiler does not take it by itself; empty if it may."""
    buffers: Value = 0.0
    """Bytes of receive and staging buffers of a rank, for this direction."""

    @property
    def seconds(self) -> Value:
        return np.inf if self.time is None or self.obstacle else self.time.duration


def alternatives(machine: Machine, exchange: Exchange) -> list[Alternative]:
    """The routes of an exchange; none on one rank.

    Where none has a time, the error of the first names the figure that it needs.
    """
    if exchange.ranks == 1:
        return []
    held = [_costed(machine, exchange, route) for route in routes(machine, exchange)]
    if all(one.time is None for one in held):
        route_time(machine, exchange, held[0].route)
    return held


def routes(machine: Machine, exchange: Exchange) -> list[Route]:
    """Direct before hierarchical before padded; all copies before deduplicated ones."""
    found = [*_direct(machine, exchange), *_hierarchical(machine, exchange)]
    return [*found, *_padded(machine, exchange)]


def _costed(machine: Machine, exchange: Exchange, route: Route) -> Alternative:
    obstacle = ROUNDS if exchange.operation == "combine" and route.deduplicated else ""
    buffers = buffer_bytes(machine, exchange, route)
    obstacle = obstacle or _limit(machine, exchange, route) or _measured(machine, exchange, route)
    try:
        return Alternative(route, route_time(machine, exchange, route), obstacle, buffers)
    except UserError as error:
        if error.code != "machine.unknown_figure":
            raise
        name, reason = error.values["name"], error.values["reason"]
        return Alternative(route, None, f"{name} is unknown: {reason}", buffers)


# ---- routes ------------------------------------------------------------------------------------


def _direct(machine: Machine, exchange: Exchange) -> Iterator[Route]:
    spanned = [share.domain for share in domain_shares(machine, exchange.ranks)]
    for outer in _outer_domains(machine, exchange):
        inside = spanned[:-1] if outer is spanned[-1] else []
        for protocol in _protocols(machine, exchange, outer):
            hops = (Hop(outer.name, protocol), *_inner_hops(machine, exchange, inside))
            yield from (Route("direct", hops, each) for each in (False, True))


def _inner_hops(machine: Machine, exchange: Exchange, inside: list[Domain]) -> tuple[Hop, ...]:
    """The fused kernel inside the network that `scale_out` leaves; else what is fastest there.

    A fit counts all that stays in its domain, so one hop names it, and none where it has all.
    """
    apart = domain_shares(machine, exchange.ranks)[-1].domain.name == SCALE_OUT
    if not apart or not inside or fit_of(machine, inside[-1], exchange.operation) is None:
        return ()
    return (Hop(inside[-1].name, FUSED),)


def _outer_domains(machine: Machine, exchange: Exchange) -> list[Domain]:
    """The smallest domain of all ranks, and larger ones with links of their own."""
    smallest = domain_shares(machine, exchange.ranks)[-1].domain
    around = machine.domains[machine.domains.index(smallest) :]
    found = [smallest]
    for domain in around[1:]:
        apart = domain.bandwidth.value != found[-1].bandwidth.value
        if apart and domain.protocols:
            found.append(domain)
    return found


def _protocols(machine: Machine, exchange: Exchange, domain: Domain) -> list[str]:
    """The fused kernel, every protocol that the file names, or the bare link."""
    fused = [FUSED] if fit_of(machine, domain, exchange.operation) else []
    named = [name for name in CHOICES if name in domain.protocols and name != PADDED]
    bare = [] if fused or known_protocols(domain) else [LINK]
    return [*fused, *named, *bare]


def _hierarchical(machine: Machine, exchange: Exchange) -> Iterator[Route]:
    outer = domain_shares(machine, exchange.ranks)[-1].domain
    for inner in _inner_domains(machine, exchange, outer):
        inside = FUSED if fit_of(machine, inner, exchange.operation) else _fastest(inner)
        for protocol in _protocols(machine, exchange, outer):
            hops = (Hop(outer.name, protocol), Hop(inner.name, inside))
            yield from (Route("hierarchical", hops, each) for each in (False, True))


def _inner_domains(machine: Machine, exchange: Exchange, outer: Domain) -> list[Domain]:
    """Domains of several, but not all ranks, with nothing but the outer one's links between."""
    place = machine.domains.index(outer)
    found: list[Domain] = []
    for domain in reversed(machine.domains[:place]):
        size = domain.devices.value
        if size is not None and 1 < size < exchange.ranks:
            found.append(domain)
        if domain.bandwidth.value != outer.bandwidth.value:
            break
    return found


def _fastest(domain: Domain) -> str:
    """What carries many bytes best: of the known protocols the one of the largest bandwidth."""
    known = [name for name in known_protocols(domain) if name != PADDED]
    rates = {name: domain.protocols[name].write_bandwidth.value or 0.0 for name in known}
    return max(rates, key=rates.__getitem__, default=LINK)


def _padded(machine: Machine, exchange: Exchange) -> Iterator[Route]:
    spanned = [share.domain for share in domain_shares(machine, exchange.ranks)]
    if all(PADDED in domain.protocols for domain in spanned):
        hops = tuple(Hop(domain.name, PADDED) for domain in reversed(spanned))
        yield Route("padded", hops, True)


# ---- limits and buffers ------------------------------------------------------------------------


def _measured(machine: Machine, exchange: Exchange, route: Route) -> str:
    """Whether a fit of the fused kernel says what this protocol reaches in it.

    A fit with an engine is of cores that load and store; without one, of an engine that copies.
    """
    outer = machine.domain(route.hops[0].domain)
    assert outer is not None, "routes are of the machine's domains"
    fit = fit_of(machine, outer, exchange.operation)
    if fit is None:
        return ""
    stores = bool(fit.protocols[exchange.operation].engine)
    if route.hops[0].protocol in (("load_store",) if stores else ("dma", "rdma")):
        return "the fused kernel does this, and its fit says at what rate"
    return ""


def _limit(machine: Machine, exchange: Exchange, route: Route) -> str:
    """Why the protocol of the padded route cannot carry so much; empty if it can."""
    if route.algorithm != "padded":
        return ""
    size = float(np.max(exchange.tokens)) * exchange.ranks * exchange.row
    for hop in route.hops:
        domain = machine.domain(hop.domain)
        assert domain is not None, "routes are of the machine's domains"
        protocol = domain.protocols[hop.protocol]
        ranks, most = protocol.rank_limit.value, protocol.message_limit.value
        if ranks is not None and exchange.ranks > ranks:
            return f"the collective takes at most {ranks:.0f} ranks"
        if most is not None and size > most:
            return f"the collective takes at most {most / 1e6:.0f} MB"
    return ""


def buffer_bytes(machine: Machine, exchange: Exchange, route: Route) -> Value:
    """Bytes where rows arrive, before the experts or the sums read them.

    Where senders write without asking, every one has room for all its tokens: ranks x tokens x
    row, as in the CANN kernels (225 + 420 MiB at 320 ranks and 96 tokens). Packed messages come
    after their counts: two buffers of the rows that arrive. A hierarchical route has room for all
    tokens of its peers in other domains, and of those in its own.
    """
    row = exchange.row + exchange.routing
    if route.algorithm == "hierarchical":
        inner = machine.domain(route.hops[-1].domain)
        assert inner is not None and inner.devices.value, "hops inside have a size"
        peers = np.ceil(exchange.ranks / inner.devices.value)
        return (peers + inner.devices.value) * exchange.tokens * row
    if route.algorithm == "padded" or route.hops[0].protocol in (FUSED, "load_store"):
        return exchange.ranks * exchange.tokens * row
    return 2.0 * exchange.copies * row
