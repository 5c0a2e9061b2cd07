"""Which figures of a machine a cost rests on: read through a ledger, which remembers them.

A figure that a cost cannot do without is asked with `need`; one whose term can be left out, with
`known`, and then the ledger notes what was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from supertile.targets.machine_types import Engine, Machine, Memory

# Where the matrix or vector engine lacks a rate: the formats to try, the narrowest first. Kernels
# decode to them on the way to the engine; `tf32` rounds float32 operands to 10 bits.
DECODED: dict[str, tuple[str, ...]] = {
    "f4e2m1": ("f8e4m3", "bf16", "f16", "f32"),
    "i4": ("i8", "bf16", "f16", "f32"),
    "f8e4m3": ("bf16", "f16", "f32"),
    "hif8": ("bf16", "f16", "f32"),
    "f8e8m0": ("f32",),
    "i8": ("bf16", "f16", "f32"),
    "bf16": ("f32", "tf32"),
    "f16": ("f32", "tf32"),
    "f32": ("tf32",),
}
WORDS = ("i1", "i32", "i64", "index")
"""Integers that no machine file lists: every machine holds them; counted at the float32 rate."""


@dataclass
class Ledger:
    """The figures of one machine, as one cost reads them."""

    machine: Machine
    needed_by: str
    figures: dict[str, dict[str, None]] = field(default_factory=dict)
    """Resource (an engine, a memory, a domain, "launch") -> paths of figures, in order."""
    notes: dict[str, None] = field(default_factory=dict)

    def need(self, path: str, resource: str) -> float:
        """The figure in SI units; an error that names it if it is unknown."""
        value = self.machine.need(path, self.needed_by)
        self.figures.setdefault(resource, {})[path] = None
        return value

    def known(self, path: str, resource: str) -> float | None:
        """The figure, or None if it is unknown or the file leaves it out."""
        value = self.machine.figure(path).value
        if value is not None:
            self.figures.setdefault(resource, {})[path] = None
        return value

    def stand_in(self, path: str, resource: str, text: str) -> None:
        """Note that something else stands for an unknown figure, behind which the resource now is.

        It counts as assumed (`evidence.evidence_of`). A term that is left out is noted alone.
        """
        self.note(text)
        self.figures.setdefault(resource, {})[path] = None

    def fraction(self, name: str, resource: str) -> float:
        """An achieved fraction of a peak; all of the peak, with a note, where none is given."""
        value = self.known(f"parameters.{name}", resource)
        if value is None:
            text = f"{self.machine.name} gives no {name}: the peak is taken"
            self.stand_in(f"parameters.{name}", resource, text)
        return 1.0 if value is None else value

    def launch(self, name: str, resource: str = "launch") -> float:
        """A launch time; none, with a note, where the machine gives none."""
        value = self.known(f"parameters.{name}", resource)
        if value is None:
            self.note(f"{self.machine.name} gives no {name}: launches are free")
        return 0.0 if value is None else value

    def rate(self, engine: Engine, element: str) -> float:
        """Operations a second that kernels reach on operands of `element`, on the whole device.

        "f4e2m1 x f8e4m3" names two operands: the wider, slower one decides.
        """
        engine = self.engine_for(engine, element)
        fraction = "matrix_fraction" if engine.kind == "matrix" else "vector_fraction"
        peak = min(self.peak(engine, part) for part in factors(element))
        return peak * self.fraction(fraction, engine.name)

    def engine_for(self, engine: Engine, element: str) -> Engine:
        """The engine, or the vector engine for products that the matrix engine has no rate for."""
        vector = self.machine.engine("vector")
        if engine.kind != "matrix" or vector is None or self._takes(engine, element):
            return engine
        if not self._takes(vector, element):
            return engine
        self.note(f"{element} is multiplied on {vector.name}: {engine.name} has no rate for it")
        return vector

    def _takes(self, engine: Engine, element: str) -> bool:
        """Whether the engine has a rate for the operands, decoded if need be."""
        return all(self._decoded(engine, part) in engine.rate for part in factors(element))

    def peak(self, engine: Engine, element: str) -> float:
        """The machine file's rate of the format, or of the one that it is decoded to."""
        engine = self.engine_for(engine, element)
        format_ = element
        if element not in engine.rate:
            format_ = self._decoded(engine, element)
        if format_ != element:
            self.note(f"{element} runs on {engine.name} at the rate of {format_}")
        return self.need(f"engines.{engine.name}.rate.{format_}", engine.name)

    def _decoded(self, engine: Engine, element: str) -> str:
        """The format that operands are decoded to; the element itself if the machine lacks it."""
        if element in WORDS:
            return "f32"
        if element not in (*self.machine.stored_formats, "f8e8m0"):
            return element
        wider = DECODED.get(element, ())
        return next((name for name in wider if name in engine.rate), element)

    def share(self, resource: str, other: str) -> None:
        """The figures of a resource are behind another's, too."""
        self.figures.setdefault(other, {}).update(self.figures.get(resource, {}))

    def note(self, text: str) -> None:
        self.notes[text] = None

    def paths(self, *resources: str) -> tuple[str, ...]:
        """The figures behind these resources, each once."""
        found = [path for resource in resources for path in self.figures.get(resource, ())]
        return tuple(dict.fromkeys(found))


def factors(element: str) -> list[str]:
    """The formats of "f4e2m1 x f8e4m3"; of one that is no product, itself."""
    return [part.strip() for part in element.split(" x ")]


def shared_cache(machine: Machine) -> Memory | None:
    """The cache between a device's cores and its main memory."""
    main = machine.main_memory.name
    return next(
        (m for m in machine.memories.values() if m.per == "device" and m.outer == main), None
    )


def exponential_engine(machine: Machine) -> Engine:
    """The engine of exponentials: a special one, or else the vector engine."""
    engine = machine.engine("special") or machine.engine("vector")
    assert engine is not None, "every machine has a vector engine"
    return engine
