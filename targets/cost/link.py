"""The time of a transfer between ranks, over the domains of links that they span.

    time = launch + max over links of [largest start + the sum of (issue + bytes / bandwidth)]

`ranks` consecutive devices span nested domains. A rank's bytes go evenly to all ranks, so that a
domain carries the share of the ranks that are in it and in none inside. Domains of the same
bandwidth are the same ports (a server and the supernode on the 910C): their bytes add up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from supertile.ir.errors import UserError
from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.protocol import Way, best_way, fused_way
from supertile.targets.cost.values import Value, largest, number_text, plain
from supertile.targets.machine_types import Domain, Machine

SYMBOLS = "launch + max over links of [start + sum of (issue x messages + bytes / bandwidth)]"
FUSED = ("dispatch", "combine")


@dataclass(frozen=True)
class LinkTime:
    """One collective transfer, seen by its slowest rank. Every number is an array in a sweep."""

    duration: Value
    launch: float
    busy: Mapping[str, Value]
    """Seconds that the links of each domain carry bytes."""
    bound: str
    """The domain that decides, or "launch"; in a sweep at its last point."""
    wire_bytes: Value
    """Bytes that a rank sends to other ranks."""
    messages: Value
    protocols: Mapping[str, str]
    """Domain -> the protocol that carries its share; in a sweep that of the last point."""
    formula: str
    figures: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Share:
    """What one domain carries of a rank's transfer."""

    domain: Domain
    part: Value
    """Of the bytes and messages."""
    within: Value
    """Of the bytes and messages, what stays in this domain and those inside, own rank included."""


def transfer_time(
    machine: Machine,
    ranks: Value,
    messages: Value,
    size: Value,
    operation: str = "all_to_all",
) -> LinkTime:
    """An exchange in which each rank sends `size` bytes in `messages` messages, evenly to all.

    Both counts include what a rank sends to itself: ranks x size / ranks is its own share, which
    takes no link. `operation` is "dispatch" or "combine" for the fused expert kernels, which have
    figures of their own on some machines, else "all_to_all". With one rank nothing moves.
    """
    ledger = Ledger(machine, f"the time of {operation}")
    shares = domain_shares(machine, ranks)
    fused = fused_shares(ledger, shares, operation, ranks)
    launch = 0.0 if fused else ledger.launch("launch_collective")  # fits of fused kernels have it
    if fused:
        shares = [*fused, *(share for share in shares if share.domain.name == "scale_out")]
        ways = [_fused_way(ledger, share, operation, messages, size, ranks) for share in shares]
    else:
        ways = [_plain_way(ledger, share, messages, size, ranks) for share in shares]
    links = [Link(share.domain, way) for share, way in zip(shares, ways, strict=True)]
    return link_time(ledger, links, launch, messages, size, ranks)


def all_reduce_time(machine: Machine, ranks: Value, size: Value) -> LinkTime:
    """The sum of `size` bytes of every rank, on every rank: the faster of two ways.

    One shot: each rank sends all to all others, one start. Ring: 2 (n - 1) steps of size / n. Both
    wait for the outermost domain that the ranks span.
    """
    formula = "launch + min(n - 1 sends of all bytes at once, 2 (n - 1) steps of bytes / n)"
    return _collective_time(machine, "all_reduce", ranks, size, formula, _reduction)


def all_gather_time(machine: Machine, ranks: Value, size: Value) -> LinkTime:
    """`size` bytes on every rank, of which each had an equal part: the faster of two ways.

    One shot: each rank sends its part to all others, one start. Ring: n - 1 steps of size / n.
    """
    formula = "launch + min(n - 1 sends of bytes / n at once, n - 1 steps of bytes / n)"
    return _collective_time(machine, "all_gather", ranks, size, formula, _gathering)


def _collective_time(
    machine: Machine,
    operation: str,
    ranks: Value,
    size: Value,
    formula: str,
    over: Callable[[Ledger, Domain, Value, Value], Collective],
) -> LinkTime:
    """A collective by the way of the outermost domain that the ranks span."""
    ledger = Ledger(machine, f"the time of {operation}")
    launch = ledger.launch("launch_collective")
    found = Collective("none", "none", 0.0, 0.0, 0.0)
    for share in domain_shares(machine, ranks):
        here = over(ledger, share.domain, ranks, size)
        found = here.where(np.greater(share.part, 0), found)
    duration = plain(np.where(np.greater(ranks, 1), launch + found.seconds, 0.0))
    decides = found.domain if last(found.seconds) > launch else "launch"
    moves = found.domain != "none"
    return LinkTime(
        duration=duration,
        launch=launch,
        busy={found.domain: plain(found.seconds)} if moves else {},
        bound=decides,
        wire_bytes=plain(found.sent),
        messages=plain(found.messages),
        protocols={found.domain: found.resource.rpartition(".")[2]} if moves else {},
        formula=f"{formula}\n"
        f"= {number_text(launch, 's')} launch + {number_text(found.seconds, 's')}",
        figures=ledger.paths(found.resource, "launch"),
        notes=tuple(ledger.notes),
    )


@dataclass(frozen=True)
class Collective:
    """An all-reduce or all-gather over one domain; in a sweep the domain is the last point's."""

    domain: str
    resource: str
    """Under which the ledger has its figures."""
    seconds: Value
    sent: Value
    messages: Value

    def where(self, here: Value, other: Collective) -> Collective:
        """This one at the points that are `here`, else the other."""
        named = self if bool(np.ravel(here)[-1]) else other
        return Collective(
            named.domain,
            named.resource,
            np.where(here, self.seconds, other.seconds),
            np.where(here, self.sent, other.sent),
            np.where(here, self.messages, other.messages),
        )


def _reduction(ledger: Ledger, domain: Domain, ranks: Value, size: Value) -> Collective:
    others = np.subtract(ranks, 1)
    return _faster(ledger, domain, ranks, size, size, 2 * others)


def _gathering(ledger: Ledger, domain: Domain, ranks: Value, size: Value) -> Collective:
    others = np.subtract(ranks, 1)
    return _faster(ledger, domain, ranks, size, np.true_divide(size, ranks), others)


def _faster(
    ledger: Ledger, domain: Domain, ranks: Value, size: Value, sent: Value, steps: Value
) -> Collective:
    """`sent` bytes to each other rank at once, or so many steps of size / ranks."""
    others = np.subtract(ranks, 1)
    part = np.true_divide(size, ranks)
    at_once = best_way(ledger, domain, others, others * sent, others)
    step = best_way(ledger, domain, 1, part)
    around = steps * step.seconds
    is_ring = around < at_once.seconds
    chosen = step if bool(np.ravel(is_ring)[-1]) else at_once
    return Collective(
        domain.name,
        chosen.resource,
        np.minimum(around, at_once.seconds),
        np.where(is_ring, steps * part, others * sent),
        np.where(is_ring, steps, others),
    )


# ---- domains ----------------------------------------------------------------------------------


def domain_shares(machine: Machine, ranks: Value) -> list[Share]:
    """The domains that some of the ranks reach each other over, from the innermost.

    The rank that is told of has the fewest neighbours: with 24 ranks in servers of 16, one of the
    8 in the second server. Raises `cost.reach` where no domain holds all ranks.
    """
    _check_reach(machine, int(np.max(ranks)))
    shares = []
    inside: Value = 1 + 0 * np.asarray(ranks)
    for domain in machine.domains:
        holds = neighbours(ranks, domain.devices.value)
        part = np.true_divide(holds - inside, ranks)
        if np.any(part > 0):
            shares.append(Share(domain, part, np.true_divide(holds, ranks)))
        inside = holds
    return shares or [Share(domain, 0.0, 1.0) for domain in machine.domains[:1]]


def neighbours(ranks: Value, devices: float | None) -> Value:
    """Ranks in the last, perhaps partly filled domain; all where the domain has no known end."""
    if devices is None:
        return np.asarray(ranks)
    rest = np.mod(ranks, devices)
    return np.where(np.less_equal(ranks, devices), ranks, np.where(rest == 0, devices, rest))


def _check_reach(machine: Machine, ranks: int) -> None:
    limits = [domain.devices.value for domain in machine.domains]
    if ranks <= 1 or None in limits:
        return
    limit = max((int(value) for value in limits if value is not None), default=1)
    if ranks > limit:
        raise UserError("cost.reach", machine=machine.name, limit=limit, found=ranks)


# ---- the fused expert kernels -----------------------------------------------------------------


def fused_shares(
    ledger: Ledger, shares: Sequence[Share], operation: str, ranks: Value
) -> list[Share]:
    """The share that a fit of the fused kernel counts: all that stays in its domain.

    A fit of a domain serves smaller ones inside too: it is the same kernel. Each point of a sweep
    has one fit. Empty where some point has none.
    """
    inside = [share for share in shares if share.domain.name != "scale_out"]
    if operation not in FUSED or not inside:
        return []
    outermost = fit_of(ledger.machine, inside[-1].domain, operation)
    if outermost is None:
        return []
    found: dict[str, Share] = {}
    beyond = np.zeros(np.shape(ranks), bool)  # points that span a domain further out
    for share in reversed(inside):
        fit = fit_of(ledger.machine, share.domain, operation)
        assert fit is not None, "a fit serves all domains inside"
        here = np.greater(share.part, 0) & ~beyond
        beyond = beyond | here
        if not np.any(here):
            continue
        if fit is not share.domain:
            ledger.stand_in(
                f"domains.{share.domain.name}.protocols.{operation}.write_latency",
                f"domains.{fit.name}.protocols.{operation}",
                f"{operation} over {share.domain.name} as the fit over {fit.name} says",
            )
        within = np.where(here, np.true_divide(neighbours(ranks, fit.devices.value), ranks), 0.0)
        held = found[fit.name].within if fit.name in found else 0.0
        found[fit.name] = Share(fit, 0.0, held + within)
    return list(found.values()) or [Share(outermost, 0.0, 0.0 * np.asarray(ranks))]


def fit_of(machine: Machine, domain: Domain, operation: str) -> Domain | None:
    """The domain whose fit of the fused kernel serves this one: its own, or one around it."""
    if domain.name == "scale_out":
        return domain if operation in domain.protocols else None
    inner = [one for one in machine.domains if one.name != "scale_out"]
    around = inner[inner.index(domain) :]
    return next((one for one in around if operation in one.protocols), None)


def _fused_way(
    ledger: Ledger, share: Share, operation: str, messages: Value, size: Value, ranks: Value
) -> Way:
    """Inside a fast network the fits count all token copies; beyond it, those that leave it."""
    part = share.part if share.domain.name == "scale_out" else share.within
    if operation in share.domain.protocols:
        return fused_way(ledger, share.domain, operation, part * size).where(np.greater(part, 0))
    return _plain_way(ledger, share, messages, size, ranks)


def _plain_way(ledger: Ledger, share: Share, messages: Value, size: Value, ranks: Value) -> Way:
    part = share.part
    way = best_way(ledger, share.domain, part * messages, part * size, part * ranks)
    return way.where(np.greater(part, 0))


# ---- the sum ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """A domain and how it carries its share."""

    domain: Domain
    way: Way


def link_time(
    ledger: Ledger,
    links: Sequence[Link],
    launch: float,
    messages: Value,
    size: Value,
    ranks: Value,
) -> LinkTime:
    alone = np.equal(ranks, 1)
    groups = same_ports(links)
    duration = plain(np.where(alone, 0.0, launch + largest(0.0, *map(_group_time, groups))))
    slowest = max(groups, key=lambda group: last(_group_time(group)), default=[])
    leaving = np.true_divide(np.subtract(ranks, 1), ranks)
    text = ", ".join(_link_text(link) for link in links)
    return LinkTime(
        duration=duration,
        launch=launch,
        busy={link.domain.name: plain(np.where(alone, 0.0, link.way.stream)) for link in links},
        bound=_heaviest(slowest) if last(_group_time(slowest)) >= launch else "launch",
        wire_bytes=plain(leaving * size),
        messages=plain(leaving * messages),
        protocols={link.domain.name: link.way.protocol for link in links},
        formula=f"{SYMBOLS}\n= {number_text(launch, 's')} launch + max over links of [{text}]"
        f"\n= {number_text(duration, 's')}",
        figures=ledger.paths(*(link.way.resource for link in slowest), "launch"),
        notes=tuple(ledger.notes),
    )


def same_ports(links: Sequence[Link]) -> list[list[Link]]:
    """Neighbouring domains of one bandwidth share their ports."""
    groups: list[list[Link]] = []
    for link in links:
        bandwidth = link.domain.bandwidth.value
        if groups and bandwidth is not None and groups[-1][-1].domain.bandwidth.value == bandwidth:
            groups[-1].append(link)
        else:
            groups.append([link])
    return groups


def _group_time(group: Sequence[Link]) -> Value:
    start = largest(0.0, *(link.way.start for link in group))
    return start + sum(link.way.stream for link in group)


def _heaviest(group: Sequence[Link]) -> str:
    by_bytes = sorted(group, key=lambda link: last(link.way.stream))
    return by_bytes[-1].domain.name if by_bytes else "launch"


def last(value: Value) -> float:
    """The value at the last point of a sweep, that with the most ranks as sweeps are made."""
    return float(np.ravel(value)[-1])


def _link_text(link: Link) -> str:
    start, stream = number_text(link.way.start, "s"), number_text(link.way.stream, "s")
    return f"{link.domain.name} by {link.way.protocol}: {start} + {stream}"
