"""From the TOML of an engine to its facts: each key known, each value with its source and evidence.

A fact is `{ value, source, evidence, note }`, numbers also with a `unit`, or
`{ value = "unknown", reason }`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from supertile.ir.errors import Spot, UserError, nearest
from supertile.targets.machine_file import places
from supertile.targets.machine_types import EVIDENCE, UNKNOWN
from supertile.targets.machine_units import DIMENSION_OF, UNITS, scale_of

Value = str | bool | float | tuple[str, ...] | None
Kind = Literal["word", "words", "flag", "bytes", "count", "fraction", "time"]


@dataclass(frozen=True)
class FactKind:
    """What the value of a fact may be: for a word one of `known`, for a number its dimension."""

    kind: Kind
    known: Sequence[str] = ()


SPLITS = ("even", "rank_turns", "row_hash", "nearest")
"""Which replica of an expert a token goes to: functions of `splits`."""
BALANCERS = ("hierarchical", "global")
"""DeepSeek's EPLB: hierarchical where the nodes divide the expert groups, or always global."""
STARTS = ("in_order", "by_rank")
"""Where experts are before any placement: functions of `starts`."""
ROWS = ("model", "experts", "numbers")
"""Rows of a placement file: all main layers, those with experts, or those by their numbers."""
DRAFTS = ("default", "rows")
"""Draft layers: the engine's own layout, or rows of the placement file that must be there."""

FACTS: Mapping[str, FactKind] = {
    "split.rule": FactKind("word", SPLITS),
    "start.rule": FactKind("word", STARTS),
    "eplb.rule": FactKind("word", BALANCERS),
    "file.suffixes": FactKind("words"),
    "file.rows": FactKind("word", ROWS),
    "file.drafts": FactKind("word", DRAFTS),
    "file.full_slots": FactKind("flag"),
    "file.redundant_limit": FactKind("count"),
    "memory.reserve": FactKind("bytes"),
    "memory.used": FactKind("fraction"),
    "memory.page": FactKind("count"),
    "time.gap": FactKind("time"),
}
TABLES = ("split", "start", "eplb", "file", "memory", "time")
TOP = ("name", "title", "version", "aliases", "sources", *TABLES)
KEYS = ("value", "unit", "source", "evidence", "note")
UNKNOWN_KEYS = ("value", "reason")


@dataclass(frozen=True)
class Fact:
    """One thing about an engine, and on whose word it stands."""

    value: Value
    """Numbers in SI units; None if unknown."""
    source: str = ""
    """Short name of a source, then the place in it."""
    evidence: str = UNKNOWN
    """One of `EVIDENCE`, or "unknown"."""
    note: str = ""
    """What the value means, or why it is unknown."""


@dataclass(frozen=True)
class EngineFile:
    """What the file of an engine says."""

    name: str
    title: str
    version: str
    aliases: tuple[str, ...]
    sources: Mapping[str, str]
    facts: Mapping[str, Fact]
    """By dotted name, those of `FACTS`."""


def read_engine(path: Path) -> EngineFile:
    """The file's facts. UserErrors: `engine.syntax`, `.missing`, `.unknown_key`, `.value`."""
    file = str(path)
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: of bytes that are no text, too
        raise UserError("engine.syntax", Spot(file, 1, 1), reason=str(error)) from None
    return _Reader(file, tree, places(file, text)).engine()


class _Reader:
    def __init__(self, file: str, tree: Mapping[str, object], spots: Mapping[str, Spot]) -> None:
        self.file, self.tree, self.spots = file, tree, spots

    def engine(self) -> EngineFile:
        self._known("", self.tree, TOP)
        for table in TABLES:
            keys = [name.partition(".")[2] for name in FACTS if name.startswith(f"{table}.")]
            self._known(table, self._table(table), keys)
        sources = {name: self._text(f"sources.{name}") for name in self._table("sources")}
        return EngineFile(
            name=self._text("name"),
            title=self._text("title"),
            version=self._text("version"),
            aliases=self._words("aliases") if "aliases" in self.tree else (),
            sources=sources,
            facts={name: self._fact(name, kind, sources) for name, kind in FACTS.items()},
        )

    def _fact(self, name: str, kind: FactKind, sources: Mapping[str, str]) -> Fact:
        table = self._table(name)
        if table.get("value") == UNKNOWN:
            self._known(name, table, UNKNOWN_KEYS)
            return Fact(None, note=self._text(f"{name}.reason"))
        self._known(name, table, KEYS)
        source, evidence = self._text(f"{name}.source"), self._text(f"{name}.evidence")
        for part in source.split("; "):
            if part.split()[0] not in sources:
                raise self._wrong(f"{name}.source", "a name of [sources] first", part)
        if evidence not in EVIDENCE:
            raise self._wrong(f"{name}.evidence", f"one of {', '.join(EVIDENCE)}", evidence)
        note = self._text(f"{name}.note") if "note" in table else ""
        return Fact(self._value(name, kind), source, evidence, note)

    def _value(self, name: str, kind: FactKind) -> Value:
        place = f"{name}.value"
        if kind.kind == "word":
            word = self._text(place)
            if word not in kind.known:
                raise self._wrong(place, f"one of {', '.join(kind.known)}", word)
            return word
        if kind.kind == "words":
            return self._words(place)
        value = self._get(place)
        if kind.kind == "flag":
            if not isinstance(value, bool):
                raise self._wrong(place, "true or false", value)
            return value
        return self._number(name, kind.kind)

    def _number(self, name: str, dimension: str) -> float:
        value, unit = self._get(f"{name}.value"), self._text(f"{name}.unit")
        if DIMENSION_OF.get(unit) != dimension:
            raise self._wrong(f"{name}.unit", f"one of {', '.join(UNITS[dimension])}", unit)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self._wrong(f"{name}.value", "a number above 0", value)
        return float(value) * scale_of(unit)

    # ---- values of their kind

    def _get(self, name: str) -> object:
        outer, _, key = name.rpartition(".")
        table = self._table(outer) if outer else self.tree
        if key not in table:
            raise UserError("engine.missing", self._spot(outer), key=name)
        return table[key]

    def _table(self, name: str) -> Mapping[str, object]:
        value = self._get(name)
        if not isinstance(value, Mapping):
            raise self._wrong(name, "a table", value)
        return value

    def _text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str) or not value.strip():
            raise self._wrong(name, "a text", value)
        return value

    def _words(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self._wrong(name, "a list of texts", value)
        return tuple(value)

    def _known(self, name: str, table: Mapping[str, object], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                where = f"{name}.{key}" if name else key
                hint = nearest(key, known)
                spot = self._spot(where)
                raise UserError(
                    "engine.unknown_key", spot, key=where, known=", ".join(known), hint=hint
                )

    # ---- errors

    def _spot(self, name: str) -> Spot:
        """Where a key stands; failing that, the table around it."""
        while name and name not in self.spots:
            name = name.rpartition(".")[0]
        return self.spots[name] if name else Spot(self.file, 1, 1)

    def _wrong(self, name: str, expected: str, found: object) -> UserError:
        return UserError(
            "engine.value", self._spot(name), key=name, expected=expected, found=repr(found)[:80]
        )
