"""The result of scheduling and costing one deployment: what the report, the trace and tables show.

Everything is per device. One program stands for all layers of a kind, so that nothing here grows
with the number of layers; `order` says how the programs follow one another in a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NANO = 1_000_000_000
"""Times are whole nanoseconds, so that an end is where the next start may be, to the last digit."""


@dataclass(frozen=True)
class Task:
    """One kernel launch or one transfer. Times in seconds from the start of its program."""

    name: str
    """Kernel symbol, or the communication op: "dispatch", "combine", "all_reduce"."""
    kind: str
    """Fused kind or op name ("attention", "experts", "linear", ...), or "communication"."""
    lane: str
    """"compute" for kernels, which use all cores one after the other; a domain's name otherwise."""
    start: float
    duration: float
    waits: tuple[int, ...]
    """Numbers of the tasks of the same program that end before this one starts."""
    busy: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each engine, memory or link would need alone: "cube", "vector", "hbm", "l2"."""
    launch: float = 0.0
    """Seconds of `duration` that are launch cost."""
    bound: str = ""
    """The key of `busy` that decides the duration, or "launch"."""
    flops: float = 0.0
    bytes: Mapping[str, float] = field(default_factory=dict)
    """Bytes through each memory."""
    wire_bytes: float = 0.0
    messages: float = 0.0
    formula: str = ""
    """How the duration was computed, in symbols and then in numbers."""
    figures: tuple[str, ...] = ()
    """Machine figures that the duration rests on: paths as `Machine.need` takes them."""
    source: str = ""
    """file:line of the model file."""
    part: str = ""
    """Of what is done in parts: "half 1, wave 2"."""
    continues: bool = False
    """Whether this is a later wave of what an earlier task started: nothing is launched."""
    route: str = ""
    """Of a transfer of experts' rows: the way that they take (`ir/comm_route.py`)."""

    @property
    def title(self) -> str:
        """The name, with the part if there are several."""
        return f"{self.name}, {self.part}" if self.part else self.name

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True)
class Program:
    """The tasks of one function (a layer kind or an entry), in order of start."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def duration(self) -> float:
        return max((task.end for task in self.tasks), default=0.0)


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of device memory by purpose: "weights", "main cache", "indexer cache", ... in order."""

    parts: tuple[tuple[str, float], ...]
    capacity: float
    """Usable bytes of the device."""

    @property
    def total(self) -> float:
        return sum(size for _, size in self.parts)

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity


@dataclass(frozen=True)
class FigureUse:
    """A machine figure that the result rests on."""

    path: str
    value: str
    """With its unit."""
    source: str
    evidence: str
    share: float
    """Share of the step time of the tasks whose deciding term rests on it, 0 to 1."""


@dataclass(frozen=True)
class Timeline:
    """One step of one deployment on one machine."""

    model: str
    config: str
    machine: str
    device_unit: str
    deployment: str
    """The full text of the deployment, defaults included."""
    phase: str
    ranks: int
    programs: tuple[Program, ...]
    order: tuple[tuple[str, int], ...]
    """(program, how many times in a row), in execution order."""
    memory: MemoryUse
    figures: tuple[FigureUse, ...]
    summary: Mapping[str, object]
    """The fields of summary.json, in order."""
    definitions: Mapping[str, str]
    """One sentence for each field of `summary`."""
    notes: tuple[str, ...] = ()
    """What a reader must know: assumptions, unknown figures that were left out, what would fit."""
    loads: str = ""
    """Loads of the experts that the figures are for, and where the experts are."""
    overlap: str = ""
    """How communication is hidden, and what the other ways would take."""
    condition: str = ""
    """V4's condition for hiding all of it behind the experts' arithmetic, and whether it holds."""
    main_memory: str = "hbm"
    """The device's outermost memory, a key of `Task.bytes`: arithmetic intensity refers to it."""

    def program(self, name: str) -> Program:
        return next(program for program in self.programs if program.name == name)
