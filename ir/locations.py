"""Source locations: where in the model file an op comes from, and which name its result bears.

An op is at NameLoc("attn.q", FileLineColLoc) when its result is a named value of the model file,
else at FileLineColLoc. Ops merged from several may hold a FusedLoc: the first part that knows
counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.dialects.builtin import (
    CallSiteLoc,
    FileLineColLoc,
    FusedLoc,
    IntAttr,
    NameLoc,
    StringAttr,
    UnknownLoc,
)
from xdsl.ir import Attribute


def at(file: str, line: int, column: int, name: str = "") -> FileLineColLoc | NameLoc:
    """The location of a place in a file; with a name, that of a named value."""
    place = FileLineColLoc(StringAttr(file), IntAttr(line), IntAttr(column))
    return NameLoc(StringAttr(name), place) if name else place


def file_line(location: Attribute) -> FileLineColLoc | None:
    """The place in a file, if the location has one."""
    while isinstance(location, NameLoc):  # as nearly all are: that need not be searched for
        location = location.location
    if isinstance(location, FileLineColLoc):
        return location
    return next((part for part in _parts(location) if isinstance(part, FileLineColLoc)), None)


def name_of(location: Attribute) -> str | None:
    """The name of the value, if it bears one in the model file."""
    return next((part.desc.data for part in _parts(location) if isinstance(part, NameLoc)), None)


def nameless(location: Attribute) -> FileLineColLoc | UnknownLoc:
    """The place alone: of what is a part of a named value."""
    return file_line(location) or UnknownLoc()


def place_of(location: Attribute) -> str:
    """`file:line`, or "" if unknown."""
    place = file_line(location)
    return f"{place.filename.data}:{place.line.data}" if place else ""


def is_unknown(location: Attribute) -> bool:
    return isinstance(location, UnknownLoc)


def location_text(location: Attribute) -> str:
    """`file:line:column`, with the value's name if it has one; for messages."""
    place = file_line(location)
    if place is None:
        return "an unknown place"
    text = f"{place.filename.data}:{place.line.data}:{place.column.data}"
    name = name_of(location)
    return f"{text} ({name})" if name else text


def _parts(location: Attribute) -> Iterator[Attribute]:
    """The location and what it is made of, outermost first."""
    yield location
    match location:
        case NameLoc():
            yield from _parts(location.location)
        case CallSiteLoc():
            yield from _parts(location.callee)
            yield from _parts(location.caller)
        case FusedLoc():
            for part in location.locations:  # type: ignore[attr-defined]
                yield from _parts(part)
