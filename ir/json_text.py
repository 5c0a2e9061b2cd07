"""JSON from elsewhere, parsed with care: no key twice, no NaN, no endless numbers; and its places.

`area` names the error texts: `area.syntax`, `.nested`, `.duplicate` and `.constant`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from supertile.ir.errors import Spot, UserError

DIGITS_LIMIT = 20  # of an integer; longer ones are mistakes and overflow later
STRING = r'"((?:[^"\\]|\\.)*+)"'
SHOWN_LIMIT = 80
SPACES = re.compile(r"[ \t\r\n]*")


def parse_json(file: str, text: str, area: str) -> object:
    """The value that the text holds: no duplicate keys, every number finite."""

    def refuse(literal: str) -> NoReturn:
        tokens = re.finditer(f"{STRING}|{re.escape(literal)}", text, re.DOTALL)
        offset = next((token.start() for token in tokens if token[0] == literal), 0)
        shown = literal if len(literal) <= 40 else literal[:40] + "..."
        spot = spot_at(file, text, offset)
        raise UserError(f"{area}.constant", spot, found=shown, digits=DIGITS_LIMIT)

    def integer(literal: str) -> int:
        return int(literal) if len(literal) <= DIGITS_LIMIT else refuse(literal)

    def real(literal: str) -> float:
        number = float(literal)
        return number if math.isfinite(number) else refuse(literal)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            key = next(key for index, key in enumerate(names) if key in names[:index])
            spot = _repeated_spot(file, text, key)
            raise UserError(f"{area}.duplicate", spot, key=show_json(key))
        return found

    try:
        value: object = json.loads(
            text,
            parse_constant=refuse,
            parse_int=integer,
            parse_float=real,
            object_pairs_hook=unique,
        )
    except JSONDecodeError as error:
        spot = spot_at(file, text, error.pos)
        raise UserError(f"{area}.syntax", spot, reason=error.msg) from None
    except RecursionError:
        raise UserError(f"{area}.nested", file=file) from None
    return value


def show_json(value: object) -> str:
    """A value in an error: a scalar as JSON, a list or an object by its kind only."""
    if isinstance(value, Mapping | list):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = json.dumps(value, default=str)
    return text if len(text) <= SHOWN_LIMIT else text[: SHOWN_LIMIT - 3] + "..."


# ---- places in the text

Steps = tuple[str | int, ...]
"""Keys of objects and positions in lists: the way to a value."""


@dataclass(frozen=True)
class JsonSource:
    """A file that values were read from; `text` is empty where it is no JSON."""

    file: str
    text: str = ""

    def fail(self, code: str, steps: Steps, **values: Any) -> UserError:
        """The error about the value at `steps`, which its text calls `{key}`, in `{file}`."""
        spot = None
        if self.text:
            spot = spot_at(self.file, self.text, value_offset(self.text, steps))
        return UserError(code, spot, key=steps_text(steps), file=self.file, **values)


def steps_text(steps: Sequence[str | int]) -> str:
    """As it is written in code: `layers[3].slots[17]`."""
    parts = (f"[{step}]" if isinstance(step, int) else f".{step:.60}" for step in steps)
    return "".join(parts).removeprefix(".") or "the whole"


def spot_at(file: str, text: str, offset: int) -> Spot:
    """The line and column of an offset."""
    start = text.rfind("\n", 0, offset) + 1
    end = text.find("\n", start)
    line = (text[start:] if end < 0 else text[start:end]).rstrip("\r")
    return Spot(file, text.count("\n", 0, offset) + 1, offset - start + 1, line)


def key_spot(file: str, text: str, key: str) -> Spot | None:
    """Where a key stands in a text that `parse_json` accepts; dots lead into objects."""
    steps = tuple(key.split("."))
    found = [offset for path, offset in _keys_of(text) if path == steps]
    return spot_at(file, text, found[0]) if found else None


def first_spot(file: str, text: str, *keys: str) -> Spot:
    """Where the first of the keys stands that the text has; its start where it has none of them."""
    spots = (key_spot(file, text, key) for key in keys)
    return next(filter(None, spots), Spot(file, 1, 1))


def value_offset(text: str, steps: Sequence[str | int]) -> int:
    """Where a value stands in a text that `parse_json` accepts; keys and list positions lead to it.

    Where the steps lead nowhere, the offset of the last value on the way.
    """
    offset = _skip(text, 0)
    for step in steps:
        inside = _object_entry if text[offset] == "{" else _list_entry
        found = inside(text, offset, step) if text[offset] in "{[" else None
        if found is None:
            return offset
        offset = found
    return offset


def _object_entry(text: str, offset: int, key: str | int) -> int | None:
    position = _skip(text, offset + 1)
    while text[position] == '"':
        name, position = scanstring(text, position + 1)
        value = _skip(text, _skip(text, position) + 1)  # behind the colon
        if name == key:
            return value
        position = _behind(text, value)
    return None


def _list_entry(text: str, offset: int, index: str | int) -> int | None:
    if not isinstance(index, int):
        return None
    position = _skip(text, offset + 1)
    for _ in range(index):
        if text[position] == "]":
            return None
        position = _behind(text, position)
    return position if text[position] != "]" else None


def _behind(text: str, offset: int) -> int:
    """The next entry behind the value at an offset, or the bracket that closes."""
    end = _skip(text, json.JSONDecoder().raw_decode(text, offset)[1])
    return _skip(text, end + 1) if text[end] == "," else end


def _skip(text: str, offset: int) -> int:
    match = SPACES.match(text, offset)
    return match.end() if match else offset


def _repeated_spot(file: str, text: str, key: str) -> Spot:
    """The second place of a key that one object holds twice; the text's start if it is escaped."""
    seen: set[tuple[str, ...]] = set()
    for path, offset in _keys_of(text):
        if path in seen and path[-1] == key:
            return spot_at(file, text, offset)
        seen.add(path)
    return spot_at(file, text, 0)


def _keys_of(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every key of the JSON text, after the keys that lead to it, and its offset."""
    path: list[str] = []
    last = ""
    for token in re.finditer(rf"{STRING}(\s*:)?|[\[{{}}\]]", text, re.DOTALL):
        if token[2]:
            last = token[1]
            yield (*path[1:], last), token.start()
        elif token[0] in "[{":
            path.append(last or str(token.start()))  # an entry of a list has no key of its own
            last = ""
        elif token[0] in "]}":
            del path[-1:]
