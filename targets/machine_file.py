"""A machine file as text: read from disk, parsed as TOML, and where each key stands in it.

`tomllib` gives no places, so `places` finds them by its own walk over the tokens of a text that
`tomllib` has accepted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from supertile.ir.errors import Spot, UserError
from supertile.ir.files import read_text, refuse_special

FILE_LIMIT = 1_000_000  # bytes; the shipped files have some 10,000

TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""+|\'\'\'.*?\'\'\'+|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\''  # strings
    r"|\#[^\n]*"
    r"|[\[\]{}=,.\n]"
    r"|[^\s\[\]{}=,.\"'\#]+",  # bare keys, numbers, words
    re.DOTALL,
)
AT = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)


def read_machine_text(file: str) -> str:
    """The file's text, with `\\n` alone as line end."""
    refuse_special(file, "machine")
    return read_text(file, "machine", FILE_LIMIT).replace("\r\n", "\n")


def parse(file: str, text: str) -> dict[str, object]:
    """The tables that the TOML text holds."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError("machine.nested", file=file) from None
    except ValueError as error:  # TOMLDecodeError, and integers too long to convert
        raise _syntax(file, text, str(error)) from None


def _syntax(file: str, text: str, message: str) -> UserError:
    """The error that `tomllib` reports, at the place that its message ends with."""
    lines = text.split("\n")
    match = AT.match(message)
    if match is None:
        return UserError("machine.syntax", Spot(file, 1, 1, lines[0]), reason=message)
    number = int(match[2]) if match[2] else len(lines)
    column = int(match[3]) if match[3] else len(lines[-1]) + 1
    spot = Spot(file, number, column, lines[number - 1])
    return UserError("machine.syntax", spot, reason=match[1])


# ---- places


def places(file: str, text: str) -> dict[str, Spot]:
    """Dotted name -> the place of its key, and `name=` -> that of its value.

    A table has the place where it is first named; entry n of a list is called `list.n`.
    """
    found: dict[str, Spot] = {}
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    lines = text.split("\n")
    line = 0
    for name, offset in _Walk(text).names():
        while line + 1 < len(starts) and starts[line + 1] <= offset:
            line += 1
        found.setdefault(name, Spot(file, line + 1, offset - starts[line] + 1, lines[line]))
    return found


class _Walk:
    """One pass over the tokens: which key is being read, and inside which tables."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.header: tuple[str, ...] = ()  # the table that the last [header] opened
        self.open: list[tuple[str, tuple[str, ...], int]] = []  # bracket, its name, entry
        self.key: list[tuple[str, int]] = []  # its parts, and where each begins
        self.in_value = False
        self.fresh = False  # no token of this value, or list entry, has been seen
        self.in_header = False

    def names(self) -> Iterator[tuple[str, int]]:
        for match in TOKEN.finditer(self.text):
            token, offset = match[0], match.start()
            if token.startswith("#"):
                continue
            if self.in_value:
                yield from self._value(token, offset)
            elif self.in_header:
                yield from self._heading(token, offset)
            else:
                yield from self._key(token, offset)

    def _around(self) -> tuple[str, ...]:
        return self.open[-1][1] if self.open else self.header

    def _path(self) -> tuple[str, ...]:
        return (*self._around(), *(part for part, _ in self.key))

    def _key_names(self, around: tuple[str, ...]) -> Iterator[tuple[str, int]]:
        """The key, after each table that its earlier parts name."""
        for part, offset in self.key:
            around = (*around, part)
            yield ".".join(around), offset

    def _key(self, token: str, offset: int) -> Iterator[tuple[str, int]]:
        if token == "=":
            yield from self._key_names(self._around())
            self.in_value = True
            self.fresh = True
        elif token == "[":
            self.in_header, self.header = True, ()
        elif token == "}":
            self._close()
        elif token not in "\n.,":
            self._add(token, offset)

    def _heading(self, token: str, offset: int) -> Iterator[tuple[str, int]]:
        if token == "\n":
            self.header, self.in_header = tuple(part for part, _ in self.key), False
            self.key = []
        elif token == "]" and self.key:
            yield from self._key_names(())
        elif token not in "[].":
            self._add(token, offset)

    def _value(self, token: str, offset: int) -> Iterator[tuple[str, int]]:
        if self.fresh and token not in ",]\n":
            yield self._value_name(), offset
            self.fresh = False
        if token == "{":
            self._push("{", self._path_of_value())
            self.in_value = False
        elif token == "[":
            self._push("[", self._path_of_value())
            self.fresh = True
        elif token in ("]", "}"):
            self._close()
        elif token == ",":
            self._next()
        elif token == "\n" and not self.open:
            self.in_value, self.key = False, []

    def _path_of_value(self) -> tuple[str, ...]:
        if self.open and self.open[-1][0] == "[":
            _, name, entry = self.open[-1]
            return (*name, str(entry))
        return self._path()

    def _value_name(self) -> str:
        inside_list = bool(self.open) and self.open[-1][0] == "["
        return ".".join(self._path_of_value()) + ("" if inside_list else "=")

    def _push(self, bracket: str, name: tuple[str, ...]) -> None:
        self.open.append((bracket, name, 0))
        self.key = []

    def _close(self) -> None:
        """A bracket ends; what follows still belongs to the value that it was."""
        if self.open:
            self.open.pop()
        self.in_value, self.key = True, []

    def _next(self) -> None:
        """After a comma: the next entry of a list, or the next key of an inline table."""
        if not self.open:
            return
        bracket, name, entry = self.open[-1]
        self.open[-1] = (bracket, name, entry + 1)
        self.key = []
        self.fresh = bracket == "["
        self.in_value = bracket == "["

    def _add(self, token: str, offset: int) -> None:
        self.key.append((_unquoted(token), offset))


def _unquoted(token: str) -> str:
    return token[1:-1] if len(token) > 1 and token[0] in "\"'" else token
