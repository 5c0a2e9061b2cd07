"""Checks of the config section and of the layer table: kinds, cases, names and where they stand."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from supertile.frontend import syntax
from supertile.frontend.check_body import check_kind
from supertile.frontend.families import DIALECTS
from supertile.frontend.program import Program, place
from supertile.frontend.rules import (
    LAYER,
    conditions_of,
    names_of,
    names_of_condition,
    rules_of,
    values_of,
)
from supertile.frontend.settle import required_key
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import ELEMENTS

BIND_KINDS = ("int", "count", "float", "flag", "text", "list", "rope", "block", "format")
COLUMN_KINDS = ("int", "float", "rope", "block", "format")
CHOOSING = ("block", "format")
"""Kinds of which a config holds the name of a case, never the thing itself."""
PAIRS = ("halves", "interleaved")


def check_section(program: Program, used: set[str]) -> None:
    """Raise the first error of the config section; `used` collects the names that it reads."""
    if program.dialect is not None:
        check_kind(program.dialect, tuple(DIALECTS))
    if program.layers is not None and program.layers.kind.name != "int":
        check_kind(program.layers.kind, ("int",))
    known: list[str] = []
    for bind in program.binds.values():
        check_kind(bind.kind, BIND_KINDS)
        _check_rope(program, bind)
        _check_cases(program, bind, bind.kind.name in (*CHOOSING, "text"), ())
        for expression in (bind.default, bind.rope.channels if bind.rope else None):
            if expression is not None:
                _check_names(names_of(expression), known, used)
        known.append(bind.name)
    for require in program.requires:
        if required_key(program, require) is None:
            _check_names(names_of_condition(require.condition), known, used)
    for table in program.tables.values():
        _check_once((column.name, column.where) for column in table.columns)
        for column in table.columns:
            _check_column(program, column, known, used)


def _check_column(
    program: Program, column: syntax.Column, known: list[str], used: set[str]
) -> None:
    check_kind(column.kind, COLUMN_KINDS)
    ropes = [bind.name for bind in program.binds.values() if bind.kind.name == "rope"]
    may_choose = column.kind.name in CHOOSING or column.kind.name == "rope"
    _check_cases(program, column, may_choose, ropes)
    names = [*known, LAYER]
    for condition in conditions_of(column):
        _check_names(names_of_condition(condition), names, used)
    for case in column.cases:
        if column.kind.name == "rope":
            used.add(case.target.name if isinstance(case.target, syntax.Name) else "")
    if column.default is not None:
        _check_names(names_of(column.default), names, used)


def _check_rope(program: Program, bind: syntax.Bind) -> None:
    """A rope says its channels, unless a dialect does."""
    if (bind.rope is None) == (bind.kind.name == "rope") and program.dialect is None:
        raise UserError("language.rope_place", bind.where)
    if bind.rope is not None:
        if bind.kind.name != "rope":
            raise UserError("language.rope_place", bind.where)
        check_kind(bind.rope.pairs, PAIRS)


def _check_cases(
    program: Program,
    item: syntax.Bind | syntax.Column,
    may_choose: bool,
    ropes: Collection[str],
) -> None:
    """Cases stand where a value or the number of the layer chooses, and name what there is."""
    kind = item.kind.name
    if (kind in CHOOSING and not item.cases) or (item.cases and not may_choose):
        raise UserError("language.cases", item.where, name=item.name)
    known: Collection[str] = {
        "block": program.blocks,
        "format": [*program.formats, *ELEMENTS],
        "rope": ropes,
    }.get(kind, ())
    if rules_of(item):
        _check_rules(item)
    _check_once((_shown(case.value), case.where) for case in values_of(item))
    for case in item.cases:
        if isinstance(case.target, syntax.Text) != (kind == "text"):
            raise UserError("language.cases", case.where, name=item.name)
        if isinstance(case.target, syntax.Name):
            _check_known(case.target, known)


def _check_rules(item: syntax.Bind | syntax.Column) -> None:
    """All cases but the last have a condition, and nothing of the config chooses besides."""
    *first, last = rules_of(item)
    keyed = isinstance(item, syntax.Bind) or item.key is not None or item.default is not None
    if keyed or values_of(item) or last.condition or not all(case.condition for case in first):
        raise UserError("language.rule_cases", item.where, name=item.name)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_once(names: Iterable[tuple[str, Spot]]) -> None:
    seen: dict[str, Spot] = {}
    for name, where in names:
        if name in seen:
            raise UserError("language.defined_twice", where, name=name, earlier=place(seen[name]))
        seen[name] = where


def _check_names(names: Iterable[syntax.Name], known: Collection[str], used: set[str]) -> None:
    for name in names:
        _check_known(name, known)
        used.add(name.name)


def _check_known(name: syntax.Name, known: Collection[str]) -> None:
    if name.name not in known:
        hint = nearest(name.name, known)
        raise UserError("language.unknown_name", name.where, name=name.name, hint=hint)
