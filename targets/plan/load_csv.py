"""Expert counts as comma-separated text: columns layer, expert, count and maybe step.

The first line names the columns, in any order; SGLang's recorder calls them layer_id and expert_id.
A layer and expert without a line had no tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import JsonSource
from supertile.targets.plan.load_keys import rank_of_file
from supertile.targets.plan.loads import (
    COUNT_LEAST,
    COUNT_LIMIT,
    COUNT_TEXT,
    ELEMENT_LIMIT,
    Table,
)
from supertile.targets.plan.model import ExpertLayers, layers_text

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COLUMNS = ("layer", "expert", "count", "step")
OTHER_NAMES = {"layer_id": "layer", "expert_id": "expert"}
"""Of columns, as SGLang's recorder up to 0.4 writes them."""
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
        names = [name.lower() for name in cells[0]]
        self.names = self._header([OTHER_NAMES.get(name, name) for name in names])
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

    def experts(self, count: int) -> Integers:
        """The column of experts, each one of so many."""
        values = self.whole("expert")
        wrong = values >= count
        if wrong.any():
            expected = f"an expert of the model: 0 to {count - 1}"
            raise self.wrong("expert", int(wrong.argmax()), expected)
        return values

    def layers(self, model: ExpertLayers, counts: Floats) -> Integers:
        """The column of layers, each one of the model; those without experts count nothing."""
        values = self.whole("layer")
        dense = np.isin(values, np.array(model.dense, np.int64))
        wrong = (values >= len(model.every_number)) | (dense & (counts > 0))
        if wrong.any():
            expected = f"a layer of the model that has experts: {layers_text(model.moe)}"
            raise self.wrong("layer", int(wrong.argmax()), expected)
        return values

    def counts(self) -> Floats:
        """The column of counts, each finite."""
        values = np.zeros(len(self.body))
        for row, cell in enumerate(self.columns["count"]):
            try:
                values[row] = float(cell)
            except ValueError:
                values[row] = math.nan
            if values[row] != 0 and not COUNT_LEAST <= values[row] <= COUNT_LIMIT:
                raise self.wrong("count", row, COUNT_TEXT)
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
    count, expert = lines.counts(), lines.experts(model.experts)
    layer = lines.layers(model, count)
    stepped = "step" in lines.columns
    step = lines.whole("step") if stepped else np.zeros_like(layer)
    layers, row = np.unique(layer, return_inverse=True)
    steps, window = np.unique(step, return_inverse=True)
    shape = (len(steps), len(layers), model.experts)
    if math.prod(shape) > ELEMENT_LIMIT:
        raise lines.fail("loads.many_steps", 0, limit=ELEMENT_LIMIT, found=len(steps))
    place = np.ravel_multi_index((window, row, expert), shape)
    _, first = np.unique(place, return_index=True)
    if len(first) < len(place):
        again = np.ones(len(place), bool)
        again[first] = False
        raise lines.fail("loads.twice", int(again.argmax()) + 1)
    counts = np.zeros(shape)
    counts.flat[place] = count
    windows = steps.tolist() if stepped else None
    rank = rank_of_file(file)
    return Table(JsonSource(file), ("count",), counts, layers.tolist(), windows=windows, rank=rank)
