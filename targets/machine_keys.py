"""A parsed machine file, read key by key: each value of its kind, or an error at its place."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from supertile.ir.errors import Spot, UserError, nearest

Table = Mapping[str, object]


class Keys:
    """The tables of a file; names are dotted, as in the file."""

    def __init__(self, file: str, tree: Table, spots: Mapping[str, Spot]) -> None:
        self.file = file
        self.tree = tree
        self.spots = spots

    def get(self, name: str) -> object:
        """The value of a dotted name, which must be there."""
        outer, _, key = name.rpartition(".")
        table = self.table(outer) if outer else self.tree
        if key not in table:
            raise self.all_missing([name])
        return table[key]

    def table(self, name: str, optional: bool = False) -> Table:
        outer, _, key = name.rpartition(".")
        table = self.table(outer) if outer else self.tree
        if optional and key not in table:
            return {}
        value = self.get(name)
        if not isinstance(value, Mapping):
            raise self.fail("machine.table", name, found=show(value))
        return value

    def parts(self, name: str, pattern: str, optional: bool = False) -> list[str]:
        """The names of the tables inside a table."""
        table = self.table(name, optional)
        if not table and not optional:
            raise self.all_missing([f"{name}.NAME"])
        for part in table:
            self._check_name(f"{name}.{part}", part, pattern)
        return list(table)

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise self.fail("machine.text", name, found=show(value))
        return value

    def name(self, name: str, pattern: str) -> str:
        value = self.text(name)
        self._check_name(name, value, pattern)
        return value

    def _check_name(self, name: str, value: str, pattern: str) -> None:
        if not re.fullmatch(pattern, value):
            raise self.fail("machine.name", name, found=value)

    def choice(self, name: str, known: Iterable[str]) -> str:
        return self._one_of(name, self.text(name), known)

    def _one_of(self, name: str, value: object, known: Iterable[str]) -> str:
        words = list(known)
        if not isinstance(value, str) or value not in words:
            hint = nearest(value, words) if isinstance(value, str) else ""
            expected = "one of " + ", ".join(words) if words else "nothing: there is no other"
            raise self.fail("machine.choice", name, found=show(value), expected=expected, hint=hint)
        return value

    def words(self, name: str, known: Iterable[str]) -> tuple[str, ...]:
        """A list of known words, each once."""
        value = self.get(name)
        if not isinstance(value, list) or not value:
            raise self.fail("machine.list", name, found=show(value))
        words = [self._one_of(f"{name}.{at}", word, known) for at, word in enumerate(value)]
        for at, word in enumerate(words):
            if word in words[:at]:
                raise self.fail("machine.repeated", f"{name}.{at}", what=word, table=name)
        return tuple(words)

    def known(self, name: str, table: Table, known: Iterable[str]) -> None:
        words = list(known)
        for key in table:
            if key not in words:
                place = f"{name}.{key}" if name else key
                raise UserError(
                    "machine.unknown_key",
                    self._spot(place, value=False),
                    key=key,
                    where=f"[{name}]" if name else "a machine file",
                    known=", ".join(words),
                    hint=nearest(key, words),
                )

    # ---- errors

    def _spot(self, name: str, value: bool = True) -> Spot:
        """Where the value of a name stands, or its key; failing both, the table around it."""
        while name:
            for place in (f"{name}=", name) if value else (name,):
                if place in self.spots:
                    return self.spots[place]
            name = name.rpartition(".")[0]
        return Spot(self.file, 1, 1)

    def all_missing(self, names: Iterable[str]) -> UserError:
        """One error for all that the file lacks, at the table that lacks the first."""
        listed = list(dict.fromkeys(names))
        is_or_are = "is" if len(listed) == 1 else "are"
        text = ", ".join(f"`{name}`" for name in listed)
        first = self._spot(listed[0].rpartition(".")[0])
        return UserError("machine.missing", first, key=listed[0], names=text, verb=is_or_are)

    def fail(self, code: str, name: str, **values: object) -> UserError:
        return UserError(code, self._spot(name), key=name, **values)


def show(value: object) -> str:
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = "a very large number"
    return shown if len(shown) <= 60 else shown[:57] + "..."
