"""What a machine is: engines, memories, and domains of links, each a set of figures.

All bandwidths of domains and protocols are one direction, of one device. All figures of an engine
are those of one device; figures of a memory are those of one copy (`Memory.per`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property

from supertile.ir.errors import Spot, UserError
from supertile.targets.machine_units import scale_of

EVIDENCE = ("measured", "vendor", "derived", "assumed")
"""From the strongest to the weakest."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Figure:
    """One number about a machine, and on whose word it stands."""

    value: float | None
    """In SI units (`machine_units`); None if unknown."""
    unit: str = ""
    """As the file writes it, such as "TB/s"; empty if unknown."""
    source: str = ""
    """Short name of the source, then the place in it: "CM384 Table 1"."""
    evidence: str = UNKNOWN
    """One of `EVIDENCE`, or "unknown"."""
    note: str = ""
    """How it was derived, why it was chosen, or why it is unknown."""

    @property
    def written(self) -> float | None:
        """The value in its own unit."""
        return None if self.value is None else self.value / scale_of(self.unit)


NOT_GIVEN = Figure(None, note="the machine file does not give it")
"""What an optional figure is that the file leaves out; it is not among `Machine.figures`."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One kind of arithmetic unit: all of a device's cores of that kind."""

    name: str
    kind: str
    """matrix, vector or special (exponentials and the like; without one, the vector engine)."""
    cores: Figure = NOT_GIVEN
    clock: Figure = NOT_GIVEN
    rate: Mapping[str, Figure]
    """Format -> peak operations a second of the whole device, dense."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One level of memory."""

    name: str
    per: str
    """"device", or the engine of which each core has a copy."""
    outer: str
    """The next memory outwards: where contents come from or go to. Empty for the main memory."""
    capacity: Figure = NOT_GIVEN
    usable: Figure = NOT_GIVEN
    """What one kernel may take of it, where that is less than the capacity."""
    read: Figure = NOT_GIVEN
    """Bytes a second out of it, whoever reads."""
    write: Figure = NOT_GIVEN
    fill: Figure = NOT_GIVEN
    """Bytes a second into it from its outer memory."""
    drain: Figure = NOT_GIVEN
    """Bytes a second from it to its outer memory."""
    line: Figure = NOT_GIVEN
    """Smallest piece that moves at full rate."""

    @property
    def size_figure(self) -> str:
        """The name of the figure that says how much programs may take."""
        return "capacity" if self.usable.value is None else "usable"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to move bytes between devices: time = latency + bytes / bandwidth.

    With the form "max" it is max(latency, bytes / bandwidth) instead: transfers that follow each
    other hide all but the time to issue them. With "each" every message pays the latency.
    """

    name: str
    engine: str
    """The engine whose cores move the bytes; empty if the cores stay free."""
    write_form: str
    read_form: str
    write_latency: Figure = NOT_GIVEN
    write_bandwidth: Figure = NOT_GIVEN
    read_latency: Figure = NOT_GIVEN
    read_bandwidth: Figure = NOT_GIVEN
    issue: Figure = NOT_GIVEN
    """Time to post one message."""
    piece_limit: Figure = NOT_GIVEN
    """Largest single transfer."""
    message_limit: Figure = NOT_GIVEN
    """Bytes a rank up to which the vendor's software prefers this protocol."""
    rank_limit: Figure = NOT_GIVEN
    crossover: Figure = NOT_GIVEN
    """Bytes above which the bandwidth, not the latency, sets the time."""
    engine_cores: Figure = NOT_GIVEN
    """Cores of `engine` that saturate the link."""
    ports: Figure = NOT_GIVEN
    """Ports of the device that one transfer may use."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Devices that share a network, and that network; smaller domains inside have their own."""

    name: str
    devices: Figure = NOT_GIVEN
    bandwidth: Figure = NOT_GIVEN
    """Peak of one device, one direction."""
    latency: Figure = NOT_GIVEN
    ports: Figure = NOT_GIVEN
    port_bandwidth: Figure = NOT_GIVEN
    protocols: Mapping[str, Protocol]


@dataclass(frozen=True)
class Formats:
    """The number formats that a machine's memory holds and its matrix engine multiplies."""

    stored: tuple[str, ...]
    """Formats that weights and states may be kept in; kernels may have to decode them."""
    scaled: tuple[str, ...]
    """Computed formats whose E8M0 scales, one for 32 elements, the matrix engine applies itself."""
    source: str
    evidence: str
    note: str = ""


@dataclass(frozen=True)
class Machine:
    """A machine as its file describes it. A rank is one device, and a device a `device_unit`."""

    name: str
    title: str
    device_unit: str
    devices: Figure
    """Devices on the fast network: a supernode, a rack, a server. `scale_out` reaches beyond."""
    formats: Formats
    engines: Mapping[str, Engine]
    memories: Mapping[str, Memory]
    domains: tuple[Domain, ...]
    """From the innermost to the outermost."""
    parameters: Mapping[str, Figure]
    """Launch times and achieved fractions of peak (`machine_schema.PARAMETERS`)."""
    sources: Mapping[str, str]
    file: str = ""
    spots: Mapping[str, Spot] = field(default_factory=dict, repr=False, compare=False)
    """Dotted name -> where the file gives it."""

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Every figure of the file by dotted name, the unknown ones included."""
        return _walk("", self)

    def figure(self, name: str) -> Figure:
        """The figure of a dotted name; an unknown one if the file does not give it."""
        return self._by_name.get(name, NOT_GIVEN)

    @cached_property
    def _by_name(self) -> dict[str, Figure]:
        return dict(self.figures())

    def need(self, name: str, needed_by: str) -> float:
        """The value, in SI units, of `engines.cube.rate.bf16` or another dotted name.

        `needed_by` says for whom, as in "the time of attention", should it be unknown.
        """
        figure = self.figure(name)
        if figure.value is None:
            raise UserError(
                "machine.unknown_figure",
                self.spots.get(name),
                machine=self.name,
                name=name,
                needed_by=needed_by,
                reason=figure.note,
            )
        return figure.value

    def engine(self, kind: str) -> Engine | None:
        """The engine of a kind: matrix, vector or special."""
        return next((engine for engine in self.engines.values() if engine.kind == kind), None)

    def domain(self, name: str) -> Domain | None:
        return next((domain for domain in self.domains if domain.name == name), None)

    @property
    def main_memory(self) -> Memory:
        """The outermost memory: HBM, or a CPU's DRAM."""
        return next(memory for memory in self.memories.values() if not memory.outer)

    @property
    def stored_formats(self) -> tuple[str, ...]:
        return self.formats.stored

    @property
    def computed_formats(self) -> tuple[str, ...]:
        """The formats that the matrix engine multiplies, in the order of the file."""
        matrix = self.engine("matrix")
        return tuple(matrix.rate) if matrix else ()


def _walk(name: str, value: object) -> Iterator[tuple[str, Figure]]:
    """The figures in `value` by dotted name, in the order of the file's tables."""
    if isinstance(value, Figure):
        yield from [] if value is NOT_GIVEN else [(name, value)]
        return
    for key, part in _parts(value):
        yield from _walk(f"{name}.{key}" if name else key, part)


def _parts(value: object) -> list[tuple[str, object]]:
    if isinstance(value, tuple):
        return [(part.name, part) for part in value if isinstance(part, Domain)]
    if isinstance(value, Mapping):
        return list(value.items())
    if is_dataclass(value):
        return [(entry.name, getattr(value, entry.name)) for entry in fields(value)]
    return []
