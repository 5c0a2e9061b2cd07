"""Which figures of a machine no formula reads: facts that the file keeps and costs do not use.

A figure counts as read where some deployment of some model reads it. The tests watch what costing
reads, so that this cannot say less than is true.
"""

from __future__ import annotations

from collections.abc import Iterator

from supertile.targets.cost.figures import shared_cache
from supertile.targets.cost.protocol import CHOICES, known_protocols
from supertile.targets.formats import KNOWN
from supertile.targets.machine_types import Domain, Engine, Machine, Memory
from supertile.targets.tile_limits import has_tile_memory, tile_memories

PARAMETERS = (
    *("launch_matrix", "launch_vector", "launch_collective"),
    *("matrix_fraction", "vector_fraction", "memory_fraction", "link_fraction"),
)
"""Parameters without which launches are free and peaks are reached."""
APART = "graph_launch"
"""A parameter that is told beside the step."""
DOMAIN = ("devices", "bandwidth", "latency")
START = ("write_latency", "write_bandwidth")
LIMITS = ("rank_limit", "message_limit")
"""Of the fixed-function collective engine, up to which it takes an exchange."""


def unread_figures(machine: Machine) -> list[str]:
    """Dotted names of the known figures that no formula reads, in the order of the file."""
    read = {"devices", *(f"parameters.{name}" for name in (*PARAMETERS, APART))}
    for engine in machine.engines.values():
        read.update(f"engines.{engine.name}.{name}" for name in _of_engine(machine, engine))
    for memory in machine.memories.values():
        read.update(f"memories.{memory.name}.{name}" for name in _of_memory(machine, memory))
    for domain in machine.domains:
        read.update(f"domains.{domain.name}.{name}" for name in (*DOMAIN, *_of_protocols(domain)))
    known = (name for name, figure in machine.figures() if figure.value is not None)
    return [name for name in known if name not in read]


def _of_engine(machine: Machine, engine: Engine) -> Iterator[str]:
    """Rates of formats that ops have, and cores where blocks or memories are counted by them."""
    yield "rate.f32" if "f32" in engine.rate else "rate.tf32"
    if engine.kind == "matrix":
        yield from (f"rate.{name}" for name in engine.rate if name in KNOWN)
    if engine.kind == "vector":  # products that the matrix engine has no rate for
        products = (name for name in engine.rate if name in KNOWN)
        yield from (f"rate.{name}" for name in products if name not in machine.computed_formats)
    has_tiles = any(memory.per == engine.name for memory in _tiles(machine))
    if engine.kind != "special" or has_tiles:
        yield "cores"


def _of_memory(machine: Machine, memory: Memory) -> Iterator[str]:
    """Sizes and flows of the main memory, the cache before it, and the memories of tiles."""
    tiles, cache = _tiles(machine), shared_cache(machine)
    is_main, is_tile = memory is machine.main_memory, memory in tiles
    if is_main or is_tile:
        yield memory.size_figure
    if is_main or memory is cache:
        yield from ("read", "write")
    if memory is cache:
        yield from ("fill", "drain")
    if is_tile:
        yield "fill"


def _of_protocols(domain: Domain) -> Iterator[str]:
    """Start and rate of what an exchange can take; of the fused kernels each alone."""
    for name, protocol in domain.protocols.items():
        path = f"protocols.{name}"
        if name in ("dispatch", "combine") or name in CHOICES:
            yield from (f"{path}.{figure}" for figure in START)
        if name in known_protocols(domain):
            yield f"{path}.issue"
            if protocol.issue.value is not None and protocol.engine:
                yield f"{path}.engine_cores"
        if name == "collective":
            yield from (f"{path}.{figure}" for figure in LIMITS)


def _tiles(machine: Machine) -> list[Memory]:
    return [*tile_memories(machine).values()] if has_tile_memory(machine) else []
