"""Which unknown figures of a machine a step cannot be costed without, all of them together.

What depends on the model, the rates of its formats, is `formats.support_of`'s question.
"""

from __future__ import annotations

from collections.abc import Iterator

from supertile.ir.errors import UserError
from supertile.targets.cost.figures import exponential_engine
from supertile.targets.cost.link import FUSED, domain_shares
from supertile.targets.cost.protocol import known_protocols
from supertile.targets.machine_types import Domain, Machine
from supertile.targets.tile_limits import has_tile_memory, tile_memories


def check_costed(machine: Machine, ranks: int, tp: int) -> None:
    """Raise `machine.uncosted`, which names all figures that a step on these ranks lacks."""
    domains = [share.domain for share in domain_shares(machine, ranks)] if ranks > 1 else []
    lacking = [*device_needs(machine), *link_needs(machine, domains, tp > 1)]
    if not lacking:
        return
    known = (machine.spots[name] for name in lacking if name in machine.spots)
    raise UserError(
        "machine.uncosted",
        next(known, None),
        machine=machine.name,
        names=", ".join(f"`{name}`" for name in lacking),
        found=lacking_text(machine, lacking),
    )


def device_needs(machine: Machine) -> list[str]:
    """Dotted names of unknown figures that every step needs."""
    main = machine.main_memory
    vector = machine.engine("vector")
    names = [f"memories.{main.name}.{main.size_figure}", f"memories.{main.name}.read"]
    if vector is not None:
        names.append(f"engines.{vector.name}.rate.f32")
    names.append(f"engines.{exponential_engine(machine).name}.rate.f32")
    if has_tile_memory(machine):
        tiles = tile_memories(machine).values()
        names += [f"memories.{memory.name}.{memory.size_figure}" for memory in tiles]
    return [name for name in dict.fromkeys(names) if machine.figure(name).value is None]


def link_needs(machine: Machine, domains: list[Domain], has_groups: bool) -> list[str]:
    """Those that traffic over these domains needs; groups of ranks sum over them too."""
    return [name for domain in domains for name in _of_domain(machine, domain, has_groups)]


def uses_lacking(machine: Machine) -> Iterator[tuple[str, list[str]]]:
    """What cannot be costed, and the figures that are unknown for it."""
    if not has_tile_memory(machine):
        yield "a kernel", ["memories.NAME.capacity"]
    if lacking := device_needs(machine):
        yield "a step", lacking
    inside = 1
    for domain in machine.domains:
        if lacking := link_needs(machine, [domain], has_groups=True):
            yield f"traffic of more than {inside} {machine.device_unit}s ({domain.name})", lacking
        inside = int(domain.devices.value or inside)


def lacking_text(machine: Machine, names: list[str]) -> str:
    """Each figure with the reason why it is unknown."""
    return "; ".join(f"`{name}`: {machine.figure(name).note}" for name in names)


def _of_domain(machine: Machine, domain: Domain, has_groups: bool) -> Iterator[str]:
    """The link's own figures stand for protocols without figures, and bound those with."""
    name = f"domains.{domain.name}"
    if domain.bandwidth.value is None:
        yield f"{name}.bandwidth"
    outwards = machine.domains[machine.domains.index(domain) :]
    has_start = any(outer.latency.value is not None for outer in outwards)
    has_kernels = not has_groups and all(_is_fitted(domain, kernel) for kernel in FUSED)
    if not (has_start or has_kernels or known_protocols(domain)):
        yield f"{name}.latency"


def _is_fitted(domain: Domain, operation: str) -> bool:
    fit = domain.protocols.get(operation)
    return fit is not None and fit.write_latency.value is not None
