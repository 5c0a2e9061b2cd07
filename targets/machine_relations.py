"""Whether figures of a machine file are plausible beside each other: doubts, and not errors.

A figure off by a thousand (GFLOP/s for TFLOP/s) breaks one of these relations, or lies far from
that of every shipped machine (`machine_neighbours`). What cannot be is refused by `machine_checks`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, pairwise

from supertile.targets.machine_text import figure_text
from supertile.targets.machine_types import Domain, Figure, Machine, Memory, Protocol
from supertile.targets.machine_units import FORMATS

PER_CLOCK = {"matrix": (16, 2**20), "vector": (1, 2**14), "special": (1, 2**12)}
"""Operations of a core in one clock, on 16-bit operands: from one narrow SIMD unit to the largest
systolic array. The shipped machines have 4,600 to 8,700, 120 to 510 and 32."""
FLOATS = ("f32", "tf32", "bf16", "f16", "f8e4m3", "hif8", "f4e2m1")
INTEGERS = ("i8", "i4")
ASIDE = 4.0
"""Directions of one memory or link, and figures that other figures imply, differ by less."""
LATE = 100.0
"""What the start of a kernel or a copy may be above the latency of its link."""
SLOW = 10.0
"""What the bandwidth of a protocol may be below that of its link."""


@dataclass(frozen=True)
class Doubt:
    """Two figures that hardly belong to one machine."""

    code: str
    """Of `MACHINE_NOTES`."""
    key: str
    """Dotted name of the figure that the note stands at."""
    found: str
    other: str
    """Dotted name of the figure that it is held against, or what else it is held against."""
    stands: str
    ratio: float
    """Of the first to the second."""


def doubts(machine: Machine) -> Iterator[Doubt]:
    """Every relation that does not hold, in the order of the rules below."""
    for rule in RULES:
        yield from rule(machine)


def per_clock(machine: Machine) -> Iterator[Doubt]:
    """Rates are cores x clock x what an instruction can do."""
    for engine in machine.engines.values():
        cores, clock = engine.cores.value, engine.clock.value
        least, most = PER_CLOCK[engine.kind]
        for format_, rate in engine.rate.items():
            if cores is None or clock is None or rate.value is None:
                continue
            key = f"engines.{engine.name}.rate.{format_}"
            operations = rate.value / cores / clock * FORMATS[format_].bits / 16
            if not least <= operations <= most:
                other = f"{cores:g} cores x {written(engine.clock)}"
                limit = most if operations > most else least
                ratio = operations / limit
                yield Doubt("per_clock", key, written(rate), other, f"{limit:,}", ratio)


def widths(machine: Machine) -> Iterator[Doubt]:
    """Of floats, and of integers, the wider are not the faster."""
    for engine in machine.engines.values():
        for family in (FLOATS, INTEGERS):
            rated = [name for name in family if name in engine.rate]
            path = f"engines.{engine.name}.rate"
            for wide in rated:
                narrower = [name for name in rated if FORMATS[name].bits < FORMATS[wide].bits]
                slower = (
                    _beside(machine, "wider", f"{path}.{wide}", f"{path}.{name}", most=1.0)
                    for name in narrower
                )
                slowest = max(chain(*slower), key=lambda doubt: doubt.ratio, default=None)
                yield from [slowest] if slowest else []


def directions(machine: Machine) -> Iterator[Doubt]:
    """Reads and writes of one memory, and of one protocol, are about as fast."""
    for memory in machine.memories.values():
        for first, second in (("read", "write"), ("fill", "drain")):
            path = f"memories.{memory.name}"
            names = (f"{path}.{first}", f"{path}.{second}")
            yield from _beside(machine, "directions", *names, 1 / ASIDE, ASIDE)
    for path, _, _ in _protocols(machine):
        for figure in ("bandwidth", "latency"):
            names = (f"{path}.read_{figure}", f"{path}.write_{figure}")
            yield from _beside(machine, "directions", *names, 1 / ASIDE, ASIDE)


def memories(machine: Machine) -> Iterator[Doubt]:
    """All copies of a memory together are at least as fast as the memory outside them."""
    for memory in machine.memories.values():
        outer = _outer_with(machine, memory, "read")
        inside, copies = memory.read.value, _copies(machine, memory)
        if outer is not None and inside is not None and copies is not None:
            outside = outer.read.value or 0.0
            names = (f"memories.{memory.name}.read", f"memories.{outer.name}.read")
            if inside * copies < outside:
                stands = written(outer.read)
                found = f"{written(memory.read)} x {copies:g}"
                ratio = inside * copies / outside
                yield Doubt("inner_slower", names[0], found, names[1], stands, ratio)
        yield from _filled(machine, memory)


def _filled(machine: Machine, memory: Memory) -> Iterator[Doubt]:
    """What flows into all copies of a memory comes out of the next one outwards, and back."""
    outer = machine.memories.get(memory.outer)
    copies = _copies(machine, memory)
    if outer is None or copies is None:
        return
    for way, side in (("fill", "read"), ("drain", "write")):
        flow, limit = getattr(memory, way), getattr(outer, side)
        if flow.value is None or limit.value is None:
            continue
        ratio = flow.value * copies / limit.value
        if ratio > ASIDE:
            found = f"{written(flow)} x {copies:g}"
            names = (f"memories.{memory.name}.{way}", f"memories.{outer.name}.{side}")
            yield Doubt("overfull", names[0], found, names[1], written(limit), ratio)


def links(machine: Machine) -> Iterator[Doubt]:
    """Inner domains are the faster ones, and a link is as fast as its ports together."""
    for domain, around in pairwise(machine.domains):
        inner, outer = f"domains.{domain.name}", f"domains.{around.name}"
        names = (f"{outer}.bandwidth", f"{inner}.bandwidth")
        yield from _beside(machine, "outer_faster", *names, most=1.0)
        names = (f"{inner}.latency", f"{outer}.latency")
        yield from _beside(machine, "inner_later", *names, most=ASIDE)
    for domain in machine.domains:
        ports, port, whole = domain.ports.value, domain.port_bandwidth.value, domain.bandwidth.value
        if ports is None or port is None or whole is None:
            continue
        ratio = ports * port / whole
        if not 1 / ASIDE <= ratio <= ASIDE:
            path, found = f"domains.{domain.name}", f"{written(domain.port_bandwidth)} x {ports:g}"
            key, other = f"{path}.port_bandwidth", f"{path}.bandwidth"
            yield Doubt("ports", key, found, other, written(domain.bandwidth), ratio)


def protocols(machine: Machine) -> Iterator[Doubt]:
    """A protocol is near its link in latency and bandwidth, and takes cores that there are."""
    for path, domain, protocol in _protocols(machine):
        link = f"domains.{domain.name}"
        for way in ("read", "write"):
            names = (f"{path}.{way}_latency", f"{link}.latency")
            yield from _beside(machine, "late", *names, most=LATE)
            yield from _beside(machine, "early", *names, least=1 / ASIDE)
            names = (f"{path}.{way}_bandwidth", f"{link}.bandwidth")
            yield from _beside(machine, "slow", *names, least=1 / SLOW)
        if protocol.engine:
            names = (f"{path}.engine_cores", f"engines.{protocol.engine}.cores")
            yield from _beside(machine, "more_cores", *names, most=1.0)


RULES = (per_clock, widths, directions, memories, links, protocols)


# ---- figures against each other ----------------------------------------------------------------


def _beside(
    machine: Machine, code: str, key: str, other: str, least: float = 0.0, most: float = math.inf
) -> Iterator[Doubt]:
    """Where both are known and the first over the second is not from the least to the most."""
    first, second = machine.figure(key), machine.figure(other)
    if first.value is None or second.value is None:
        return
    ratio = first.value / second.value
    if not least <= ratio <= most:
        yield Doubt(code, key, written(first), other, written(second), ratio)


def _protocols(machine: Machine) -> Iterator[tuple[str, Domain, Protocol]]:
    for domain in machine.domains:
        for name, protocol in domain.protocols.items():
            yield f"domains.{domain.name}.protocols.{name}", domain, protocol


def _copies(machine: Machine, memory: Memory) -> float | None:
    """How many of a memory a device has."""
    return 1.0 if memory.per == "device" else machine.engines[memory.per].cores.value


def _outer_with(machine: Machine, memory: Memory, figure: str) -> Memory | None:
    """The next memory outwards of which the figure is known."""
    outer = machine.memories.get(memory.outer)
    while outer is not None and getattr(outer, figure).value is None:
        outer = machine.memories.get(outer.outer)
    return outer


def written(figure: Figure) -> str:
    """The value as the file writes it, in as many digits as a note needs."""
    return figure_text(figure, digits=6)
