"""Tables with a row for each op, family or format: a row that is missing is an error by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class MissingRowError(LookupError):
    """A table lacks a row that is asked for: a bug of Supertile, with the place to mend."""

    def __init__(self, table: str, file: str, row: str) -> None:
        self.table, self.file, self.row = table, file, row
        super().__init__(f"no row for {row} in the table {table} of {file}")


class Table(dict[K, V]):
    """A dict whose rows belong to one module; `table[row]` names both if there is no such row."""

    def __init__(self, module: str, name: str, rows: Mapping[K, V]) -> None:
        super().__init__(rows)
        self.name = name
        self.file = module.removeprefix("supertile.").replace(".", "/") + ".py"

    def __missing__(self, row: K) -> V:
        shown = getattr(row, "name", None) or getattr(row, "__name__", None) or row
        raise MissingRowError(self.name, self.file, str(shown))
