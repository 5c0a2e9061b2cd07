"""One way over the links of a domain: load/store, a copy engine, a fused kernel, or the bare link.

    time = latency + issue x messages + bytes / bandwidth
    with the form "max":  issue x messages + max(latency x messages, bytes / bandwidth)
    with the form "each": (latency + issue) x messages + bytes / bandwidth

Cores store row by row, so that each row is a message; for copy engines rows are packed, one message
for each rank that they go to. Of the protocols that a domain has all figures of, the faster takes
the transfer. Without one: the domain's latency, or that of the next outwards, and its bandwidth x
link_fraction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.values import Value
from supertile.targets.machine_types import Domain, Protocol

CHOICES = ("load_store", "dma", "rdma", "collective")
"""Protocols for an exchange between ranks; the host issues none while a model runs."""
PACKING = ("dma", "rdma", "collective")
BARE = "link"


@dataclass(frozen=True)
class Way:
    """What a transfer takes: seconds before bytes flow, and seconds while they do."""

    protocol: str
    start: Value
    stream: Value
    resource: str
    """Under which the ledger has its figures."""

    @property
    def seconds(self) -> Value:
        return self.start + self.stream

    def where(self, used: Value) -> Way:
        """Nothing at the points that do not take this way."""
        start, stream = np.where(used, self.start, 0.0), np.where(used, self.stream, 0.0)
        return replace(self, start=start, stream=stream)


def best_way(ledger: Ledger, domain: Domain, messages: Value, size: Value, peers: Value = 1) -> Way:
    """The fastest of the protocols whose figures are known, point by point.

    `messages` and `size` are those that go over this domain, to `peers` ranks.
    """
    known = known_protocols(domain)
    if not known:
        return bare_way(ledger, domain, size)
    ways = [way_by(ledger, domain, name, messages, size, peers) for name in known]
    totals = np.stack(np.broadcast_arrays(*(way.seconds for way in ways)))
    chosen = np.argmin(totals, axis=0)
    start = np.choose(chosen, np.broadcast_arrays(*(way.start for way in ways), chosen)[:-1])
    stream = np.choose(chosen, np.broadcast_arrays(*(way.stream for way in ways), chosen)[:-1])
    return replace(ways[int(np.ravel(chosen)[-1])], start=start, stream=stream)


def known_protocols(domain: Domain) -> list[str]:
    """Protocols for an exchange over the domain whose figures are known."""
    return [name for name in CHOICES if _is_known(domain, name)]


def crossover(domain: Domain) -> float | None:
    """Bytes of one message from which the copy engine is faster than load/store.

    (a_dma - a_ls) / (1 / B_ls - 1 / B_dma); with the form "max" (a_dma - a_ls) x B_ls. 0 if the
    copy engine is faster at every size; None if it never is, or if a figure is unknown.
    """
    if not (_is_known(domain, "load_store") and _is_known(domain, "dma")):
        return None
    cores, copies = domain.protocols["load_store"], domain.protocols["dma"]
    later = (copies.write_latency.value or 0.0) - (cores.write_latency.value or 0.0)
    gain = _per_byte(cores) - _per_byte(copies)
    if gain <= 0:
        return None
    return max(0.0, later / (_per_byte(cores) if copies.write_form == "max" else gain))


def fused_way(ledger: Ledger, domain: Domain, operation: str, size: Value) -> Way:
    """The fused expert kernel: its start-up, and the rate of all bytes that its fit counts."""
    path = f"domains.{domain.name}.protocols.{operation}"
    start = fused_start(ledger, domain, operation)
    bandwidth = ledger.known(f"{path}.write_bandwidth", path)
    if bandwidth is None:
        ledger.stand_in(
            f"{path}.write_bandwidth",
            path,
            f"the bandwidth of {operation} over {domain.name} is unknown: the link's, "
            "x link_fraction, stands for it",
        )
        bandwidth = _bare_bandwidth(ledger, domain, path)
    return Way(operation, start, np.true_divide(size, bandwidth), path)


def achieved_bandwidth(ledger: Ledger, domain: Domain, operation: str) -> float:
    """Bytes a second that kernels reach over a domain: the fused kernel's, else the best known."""
    names = [operation] if operation in domain.protocols else []
    paths = [
        f"domains.{domain.name}.protocols.{name}" for name in (*names, *known_protocols(domain))
    ]
    rates = [ledger.known(f"{path}.write_bandwidth", domain.name) for path in paths]
    known = [rate for rate in rates if rate is not None]
    if names and rates[0] is not None:
        return rates[0]
    return max(known) if known else _bare_bandwidth(ledger, domain, domain.name)


def fused_start(ledger: Ledger, domain: Domain, operation: str) -> float:
    """The start-up of the fused kernel, launch included; a launch and a message if unknown."""
    path = f"domains.{domain.name}.protocols.{operation}"
    start = ledger.known(f"{path}.write_latency", path)
    if start is not None:
        return start
    ledger.stand_in(
        f"{path}.write_latency",
        path,
        f"the start-up of {operation} over {domain.name} is unknown: a launch and the latency of "
        "one message stand for it",
    )
    first = best_way(ledger, domain, 1, 0.0)
    ledger.share(first.resource, path)
    return ledger.launch("launch_collective", path) + float(first.seconds)


def way_by(
    ledger: Ledger,
    domain: Domain,
    name: str,
    messages: Value,
    size: Value,
    peers: Value,
) -> Way:
    """The way by one protocol; its figures are known, or an error names them."""
    protocol = domain.protocols[name]
    path = f"domains.{domain.name}.protocols.{protocol.name}"
    latency = ledger.need(f"{path}.write_latency", path)
    bandwidth = ledger.need(f"{path}.write_bandwidth", path)
    issue = (ledger.known(f"{path}.issue", path) or 0.0) / _issuers(ledger, protocol, path)
    count = np.minimum(messages, peers) if protocol.name in PACKING else messages
    bytes_time = np.true_divide(size, bandwidth)
    if protocol.write_form == "max":
        stream = issue * count + np.maximum(latency * count, bytes_time)
        return Way(protocol.name, 0.0, stream, path)
    if protocol.write_form == "each":
        return Way(protocol.name, 0.0, (latency + issue) * count + bytes_time, path)
    return Way(protocol.name, latency, issue * count + bytes_time, path)


def _issuers(ledger: Ledger, protocol: Protocol, path: str) -> float:
    """Cores that post messages side by side; one where the machine does not say."""
    if not protocol.engine:
        return 1.0
    if protocol.engine_cores.value is None and protocol.issue.value:
        text = f"how many cores post by {protocol.name} is unknown: one does"
        ledger.stand_in(f"{path}.engine_cores", path, text)
    return protocol.engine_cores.value or 1.0


def bare_way(ledger: Ledger, domain: Domain, size: Value) -> Way:
    """The link itself: its latency, and link_fraction of its bandwidth."""
    resource = f"domains.{domain.name}"
    if not known_protocols(domain):
        text = f"no protocol over {domain.name} has known figures: the bare link's are taken"
        name = next((name for name in CHOICES if name in domain.protocols), None)
        if name is None:
            ledger.note(text)
        else:
            ledger.stand_in(f"{resource}.protocols.{name}.write_bandwidth", resource, text)
    latency = bare_latency(ledger, domain, resource)
    return Way(BARE, latency, size / _bare_bandwidth(ledger, domain, resource), resource)


def _bare_bandwidth(ledger: Ledger, domain: Domain, resource: str) -> float:
    bandwidth = ledger.need(f"domains.{domain.name}.bandwidth", resource)
    return bandwidth * ledger.fraction("link_fraction", resource)


def bare_latency(ledger: Ledger, domain: Domain, resource: str) -> float:
    """The domain's own latency, else that of the next domain outwards that has one."""
    domains = ledger.machine.domains
    for name in [one.name for one in domains[domains.index(domain) :]]:
        latency = ledger.known(f"domains.{name}.latency", resource)
        if latency is None:
            continue
        if name != domain.name:
            text = f"the latency of {domain.name} is unknown: that of {name} is taken"
            ledger.stand_in(f"domains.{domain.name}.latency", resource, text)
        return latency
    return ledger.need(f"domains.{domain.name}.latency", resource)


def _is_known(domain: Domain, name: str) -> bool:
    protocol = domain.protocols.get(name)
    if protocol is None:
        return False
    return None not in (protocol.write_latency.value, protocol.write_bandwidth.value)


def _per_byte(protocol: Protocol) -> float:
    return 1 / (protocol.write_bandwidth.value or float("inf"))
