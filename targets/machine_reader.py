"""From the tables of a machine file to a `Machine`: each key known, each figure with its word.

Whether the facts fit each other is `machine_checks`' question.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from supertile.ir.errors import Spot, UserError, nearest
from supertile.targets import machine_schema as schema
from supertile.targets.machine_file import parse, places, read_machine_text
from supertile.targets.machine_keys import Keys, Table, show
from supertile.targets.machine_missing import missing_names
from supertile.targets.machine_types import (
    EVIDENCE,
    UNKNOWN,
    Domain,
    Engine,
    Figure,
    Formats,
    Machine,
    Memory,
    Protocol,
)
from supertile.targets.machine_units import (
    DIMENSION_OF,
    EXAMPLES,
    FORMATS,
    LIMITS,
    SI_UNITS,
    STORED,
    UNITS,
    scale_of,
)

MACHINE_NAME = r"[a-z0-9][a-z0-9_.-]*"
SOURCE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]*"
PART_NAME = r"[a-z][a-z0-9_]*"  # no dots: they separate the parts of a figure's name


def read_machine(file: str) -> Machine:
    """The machine that the file describes, before its facts are held against each other."""
    text = read_machine_text(file)
    reader = Reader(file, parse(file, text), places(file, text))
    try:
        return reader.machine()
    except UserError as error:
        if error.code != "machine.missing":
            raise
        names = [error.values["key"], *missing_names(reader.tree)]
        raise reader.all_missing(names) from None


class Reader(Keys):
    """The parsed file, read table by table."""

    def __init__(self, file: str, tree: Table, spots: Mapping[str, Spot]) -> None:
        super().__init__(file, tree, spots)
        self.sources: dict[str, str] = {}

    def machine(self) -> Machine:
        self.known("", self.tree, schema.TOP)
        self.sources = self._sources()
        domains = self.parts("domains", PART_NAME, optional=True)
        return Machine(
            name=self.name("name", MACHINE_NAME),
            title=self.text("title"),
            device_unit=self.name("device_unit", PART_NAME),
            devices=self._figure("devices", "count"),
            formats=self._formats(),
            engines={name: self._engine(name) for name in self.parts("engines", PART_NAME)},
            memories={name: self._memory(name) for name in self.parts("memories", PART_NAME)},
            domains=tuple(self._domain(name) for name in domains),
            parameters=self._parameters(),
            sources=self.sources,
            file=self.file,
            spots=self.spots,
        )

    # ---- the tables

    def _sources(self) -> dict[str, str]:
        names = self.parts("sources", SOURCE_NAME)
        return {name: self.text(f"sources.{name}") for name in names}

    def _formats(self) -> Formats:
        table = self.table("formats")
        self.known("formats", table, schema.FORMATS_KEYS)
        scaled = "formats.scaled"
        return Formats(
            stored=self.words("formats.stored", STORED),
            scaled=self.words(scaled, FORMATS) if "scaled" in table else (),
            source=self._source("formats.source"),
            evidence=self.choice("formats.evidence", EVIDENCE),
            note=self.text("formats.note") if "note" in table else "",
        )

    def _engine(self, part: str) -> Engine:
        name = f"engines.{part}"
        table = self.table(name)
        self.known(name, table, ("kind", "rate", *schema.ENGINE))
        rates = self.table(f"{name}.rate")
        self.known(f"{name}.rate", rates, FORMATS)
        return Engine(
            name=part,
            kind=self.choice(f"{name}.kind", schema.KINDS),
            rate={key: self._figure(f"{name}.rate.{key}", "rate") for key in rates},
            **self._figures(name, table, schema.ENGINE, schema.REQUIRED["engine"]),
        )

    def _memory(self, part: str) -> Memory:
        name = f"memories.{part}"
        table = self.table(name)
        self.known(name, table, ("per", "outer", *schema.MEMORY))
        others = [other for other in self.table("memories") if other != part]
        return Memory(
            name=part,
            per=self.choice(f"{name}.per", ("device", *self.table("engines"))),
            outer=self.choice(f"{name}.outer", others) if "outer" in table else "",
            **self._figures(name, table, schema.MEMORY, schema.REQUIRED["memory"]),
        )

    def _domain(self, part: str) -> Domain:
        name = f"domains.{part}"
        table = self.table(name)
        self.known(name, table, ("protocols", *schema.DOMAIN))
        protocols = self.table(f"{name}.protocols", optional=True)
        self.known(f"{name}.protocols", protocols, schema.PROTOCOLS)
        return Domain(
            name=part,
            protocols={key: self._protocol(f"{name}.protocols.{key}", key) for key in protocols},
            **self._figures(name, table, schema.DOMAIN, schema.REQUIRED["domain"]),
        )

    def _protocol(self, name: str, part: str) -> Protocol:
        table = self.table(name)
        self.known(name, table, ("engine", "write_form", "read_form", *schema.PROTOCOL))
        forms = {
            key: self.choice(f"{name}.{key}", schema.FORMS) if key in table else "sum"
            for key in ("write_form", "read_form")
        }
        engines = self.table("engines")
        return Protocol(
            name=part,
            engine=self.choice(f"{name}.engine", engines) if "engine" in table else "",
            write_form=forms["write_form"],
            read_form=forms["read_form"],
            **self._figures(name, table, schema.PROTOCOL),
        )

    def _parameters(self) -> dict[str, Figure]:
        table = self.table("parameters", optional=True)
        self.known("parameters", table, schema.PARAMETERS)
        return {key: self._figure(f"parameters.{key}", schema.PARAMETERS[key][0]) for key in table}

    # ---- figures

    def _figures(
        self, name: str, table: Table, dimensions: Mapping[str, str], required: Iterable[str] = ()
    ) -> dict[str, Figure]:
        """The figures that the table gives."""
        given = [key for key in dimensions if key in table or key in required]
        return {key: self._figure(f"{name}.{key}", dimensions[key]) for key in given}

    def _figure(self, name: str, dimension: str) -> Figure:
        table = self.get(name)
        if not isinstance(table, Mapping) or "value" not in table:
            unit = EXAMPLES[dimension]
            raise self.fail("machine.figure", name, found=show(table), unit=unit)
        if table["value"] == UNKNOWN:
            self.known(name, table, schema.UNKNOWN_FIGURE)
            return Figure(None, note=self.text(f"{name}.reason"))
        self.known(name, table, schema.FIGURE)
        unit = self._unit(f"{name}.unit", dimension)
        evidence = self.choice(f"{name}.evidence", EVIDENCE)
        if evidence in ("derived", "assumed") and "note" not in table:
            raise self.fail("machine.note", name, evidence=evidence)
        return Figure(
            value=self._number(f"{name}.value", dimension, unit),
            unit=unit,
            source=self._source(f"{name}.source"),
            evidence=evidence,
            note=self.text(f"{name}.note") if "note" in table else "",
        )

    def _number(self, name: str, dimension: str, unit: str) -> float:
        """The value in SI units: positive, finite, and what its dimension allows."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail("machine.number", name, found=show(value))
        try:
            number = float(value) * scale_of(unit)
        except OverflowError:
            number = math.inf
        if not value > 0 or value == math.inf:
            raise self.fail("machine.number", name, found=show(value))
        if dimension == "count" and not number.is_integer():
            raise self.fail("machine.whole", name, found=show(value))
        if dimension == "fraction" and number > 1:
            raise self.fail("machine.fraction", name, found=show(value))
        least, most = LIMITS[dimension]
        if not least <= number <= most:
            limits, si = f"from {least:g} to {most:g}", SI_UNITS[dimension]
            found = f"{show(value)} {unit}"
            raise self.fail("machine.range", name, found=found, expected=f"{limits} {si}".strip())
        return number

    def _unit(self, name: str, dimension: str) -> str:
        unit = self.text(name)
        known = UNITS[dimension]
        if unit in known:
            return unit
        code = "machine.dimension" if unit in DIMENSION_OF else "machine.unit"
        hint = nearest(unit, known)
        raise self.fail(code, name, found=unit, expected=", ".join(known), hint=hint)

    def _source(self, name: str) -> str:
        """A source: a short name of [sources], then the place; several with semicolons."""
        source = self.text(name)
        for part in source.split(";"):
            short = part.strip().partition(" ")[0]
            if short not in self.sources:
                hint = nearest(short, self.sources)
                known = ", ".join(self.sources)
                raise self.fail("machine.source", name, found=short, known=known, hint=hint)
        return source
