"""Whether the facts of a machine file fit each other: each check one rule, in the order below."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from supertile.ir.errors import Spot, UserError
from supertile.targets.machine_types import Domain, Figure, Machine, Memory
from supertile.targets.machine_units import FORMATS


def check_machine(machine: Machine) -> None:
    """Raise the first contradiction."""
    for check in CHECKS:
        for error in check(machine):
            raise error


def _error(machine: Machine, code: str, name: str, **values: object) -> UserError:
    """The error at a dotted name, or at the table around it."""
    place = name
    while place and place not in machine.spots:
        place = place.rpartition(".")[0]
    return UserError(code, machine.spots.get(place, Spot(machine.file, 1, 1)), key=name, **values)


def kinds(machine: Machine) -> Iterator[UserError]:
    """One engine of a kind, and a matrix and a vector engine."""
    seen: dict[str, str] = {}
    for engine in machine.engines.values():
        name = f"engines.{engine.name}.kind"
        if engine.kind in seen:
            yield _error(machine, "machine.repeated", name, what=engine.kind, table="engines")
        seen[engine.kind] = engine.name
    for kind in ("matrix", "vector"):
        if kind not in seen:
            yield _error(machine, "machine.no_engine", "engines", kind=kind)


def stored(machine: Machine) -> Iterator[UserError]:
    """What an engine computes, memory holds."""
    for engine in machine.engines.values():
        for key in engine.rate:
            holds = FORMATS[key].stored_as
            name = f"engines.{engine.name}.rate.{key}"
            if holds not in machine.formats.stored:
                yield _error(machine, "machine.not_stored", name, format=key, holds=holds)


def scaled(machine: Machine) -> Iterator[UserError]:
    """Scales are applied to formats that the matrix engine multiplies."""
    for at, key in enumerate(machine.formats.scaled):
        if key not in machine.computed_formats:
            known = ", ".join(machine.computed_formats)
            yield _error(
                machine, "machine.not_computed", f"formats.scaled.{at}", format=key, known=known
            )


def levels(machine: Machine) -> Iterator[UserError]:
    """Memories form a tree with one main memory, each at least as large as those inside it."""
    outermost = [memory.name for memory in machine.memories.values() if not memory.outer]
    if len(outermost) != 1:
        found = ", ".join(outermost) or "none"
        name = f"memories.{outermost[1]}" if outermost else "memories"
        yield _error(machine, "machine.main_memory", name, found=found)
        return
    for memory in machine.memories.values():
        name = f"memories.{memory.name}"
        if memory.usable.value is not None and _less(memory.capacity, memory.usable):
            yield _smaller(machine, memory, memory.usable, f"{name}.usable")
        yield from _outwards(machine, memory)


def _outwards(machine: Machine, memory: Memory) -> Iterator[UserError]:
    if not memory.outer:
        return
    outer = machine.memories[memory.outer]
    name = f"memories.{memory.name}"
    steps = [memory.name]
    while outer.outer and outer.name not in steps:
        steps.append(outer.name)
        outer = machine.memories[outer.outer]
    if outer.name in steps:
        yield _error(machine, "machine.circle", f"{name}.outer", steps=" -> ".join(steps))
        return
    next_out = machine.memories[memory.outer]
    if _less(next_out.capacity, memory.capacity):
        yield _smaller(machine, next_out, memory.capacity, f"{name}.capacity")


def _smaller(machine: Machine, outer: Memory, inner: Figure, inner_name: str) -> UserError:
    name = f"memories.{outer.name}.capacity"
    found, least = _written(outer.capacity), _written(inner)
    return _error(machine, "machine.smaller", name, found=found, least=least, inner=inner_name)


def nesting(machine: Machine) -> Iterator[UserError]:
    """Each domain holds a whole number, two or more, of the domains inside it."""
    sized = [domain for domain in machine.domains if domain.devices.value is not None]
    inside = [("one device", 1), *((domain.name, _size(domain)) for domain in sized)]
    for (inner, count), (name, size) in pairwise(inside):
        if size % count or size <= count:
            key = f"domains.{name}.devices"
            yield _error(machine, "machine.nest", key, found=size, inner=inner, count=count)


def size(machine: Machine) -> Iterator[UserError]:
    """The machine is one device, or all of one domain."""
    if machine.devices.value is None:
        return
    devices = int(machine.devices.value)
    known = [domain for domain in machine.domains if domain.devices.value is not None]
    sizes = {domain.name: _size(domain) for domain in known}
    if devices != 1 and devices not in sizes.values():
        shown = ", ".join(f"{count} in a {name}" for name, count in sizes.items())
        yield _error(machine, "machine.size", "devices", found=devices, known=shown or "none")


def speeds(machine: Machine) -> Iterator[UserError]:
    """No protocol and no port is faster than the domain's link."""
    for domain in machine.domains:
        name = f"domains.{domain.name}"
        figures = {f"{name}.port_bandwidth": domain.port_bandwidth}
        for protocol in domain.protocols.values():
            place = f"{name}.protocols.{protocol.name}"
            figures[f"{place}.write_bandwidth"] = protocol.write_bandwidth
            figures[f"{place}.read_bandwidth"] = protocol.read_bandwidth
        for key, figure in figures.items():
            if _less(domain.bandwidth, figure):
                limit = _written(domain.bandwidth)
                yield _error(machine, "machine.faster", key, found=_written(figure), limit=limit)


CHECKS = (kinds, stored, scaled, levels, nesting, size, speeds)


def _less(figure: Figure, other: Figure) -> bool:
    """Whether both are known and the first is smaller."""
    return figure.value is not None and other.value is not None and figure.value < other.value


def _size(domain: Domain) -> int:
    return int(domain.devices.value or 0)


def _written(figure: Figure) -> str:
    return f"{figure.written:g} {figure.unit}"
