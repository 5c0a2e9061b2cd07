"""Expert counts as comma-separated text: columns layer, expert, count and maybe step.

The first line names the columns, in any order. A layer and expert without a line had no tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import JsonSource
from supertile.targets.plan.loads import COUNT_LIMIT, ELEMENT_LIMIT, Table
from supertile.targets.plan.model import ExpertLayers

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COLUMNS = ("layer", "expert", "count", "step")
WHOLE_LIMIT = 2**31
DIGITS_LIMIT = 10


class _Lines:
    """The lines with something on them: their cells, and where they stand."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.numbers = [i for i, line in enumerate(self.lines) if line.strip()]
        cells = [[cell.strip() for cell in self.lines[i].split(",")] for i in self.numbers]
        self.body = cells[1:]
        self.names = self._header([name.lower() for name in cells[0]])
        self.columns = self._columns()

    def _header(self, names: list[str]) -> list[str]:
        known = ", ".join(COLUMNS)
        for column, name in enumerate(names):
            if name not in COLUMNS or name in names[:column]:
                hint = nearest(name, COLUMNS) if name not in COLUMNS else "name a column once"
                found = name[:60] or "nothing"
                raise self.fail("loads.header", 0, column, expected=known, found=found, hint=hint)
        for name in COLUMNS[:3]:
            if name not in names:
                hint, found = f"add a column {name}", ", ".join(names)
                raise self.fail("loads.header", 0, expected=known, found=found, hint=hint)
        return names

    def _columns(self) -> dict[str, Sequence[str]]:
        """Every column's cells by its name."""
        if not self.body:
            raise self.fail("loads.lines", 0)
        wanted = len(self.names)
        for row, cells in enumerate(self.body, 1):
            if len(cells) != wanted:
                raise self.fail("loads.width", row, expected=wanted, found=len(cells))
        return dict(zip(self.names, zip(*self.body, strict=True), strict=True))

    def whole(self, name: str) -> Integers:
        """A column of whole numbers from 0 on."""
        cells = self.columns[name]
        for row, cell in enumerate(cells):
            digits = cell.isascii() and cell.isdigit() and len(cell) <= DIGITS_LIMIT
            if not digits or int(cell) >= WHOLE_LIMIT:
                raise self.wrong(name, row, f"a whole number from 0 to {WHOLE_LIMIT - 1}")
        return np.array(list(map(int, cells)), np.int64)

    def known(self, name: str, known: Sequence[int]) -> Integers:
        """A column of numbers of layers, or of experts, that the model has."""
        values = self.whole(name)
        wrong = ~np.isin(values, np.array(known))
        if wrong.any():
            expected = f"a {name} of the model that has experts: {known[0]} to {known[-1]}"
            raise self.wrong(name, int(wrong.argmax()), expected)
        return values

    def counts(self) -> Floats:
        """The column of counts, each finite."""
        values = np.zeros(len(self.body))
        for row, cell in enumerate(self.columns["count"]):
            try:
                values[row] = float(cell)
            except ValueError:
                values[row] = math.nan
            if not 0 <= values[row] <= COUNT_LIMIT:
                raise self.wrong("count", row, f"a number from 0 to {COUNT_LIMIT:g}")
        return values

    def wrong(self, name: str, row: int, expected: str) -> UserError:
        """The error about one cell below the header."""
        found = self.columns[name][row][:60] or "nothing"
        place = (row + 1, self.names.index(name))
        return self.fail("loads.cell", *place, name=name, expected=expected, found=found)

    def fail(self, code: str, row: int, column: int = 0, **values: object) -> UserError:
        """The error about a place, rows counted from the header on."""
        number = self.numbers[row]
        line = self.lines[number]
        parts = line.split(",")
        before = sum(len(part) + 1 for part in parts[:column])
        start = before + len(parts[column]) - len(parts[column].lstrip()) + 1
        return UserError(code, Spot(self.file, number + 1, start, line), **values)


def read_csv(file: str, text: str, model: ExpertLayers) -> Table:
    """The table of a text. Errors: `loads.header`, `.width`, `.cell`, `.twice`, `.lines`."""
    lines = _Lines(file, text)
    layer, expert = lines.known("layer", model.moe), lines.known("expert", range(model.experts))
    step = lines.whole("step") if "step" in lines.columns else np.zeros_like(layer)
    steps, window = np.unique(step, return_inverse=True)
    shape = (len(steps), len(model.moe), model.experts)
    if math.prod(shape) > ELEMENT_LIMIT:
        raise lines.fail("loads.many_steps", 0, limit=ELEMENT_LIMIT, found=len(steps))
    row = np.searchsorted(np.array(model.moe), layer)
    place = np.ravel_multi_index((window, row, expert), shape)
    _, first = np.unique(place, return_index=True)
    if len(first) < len(place):
        again = np.ones(len(place), bool)
        again[first] = False
        raise lines.fail("loads.twice", int(again.argmax()) + 1)
    counts = np.zeros(shape)
    counts.flat[place] = lines.counts()
    return Table(JsonSource(file), ("count",), counts, model.moe)
