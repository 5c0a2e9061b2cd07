"""Expert counts as comma-separated text: columns layer, expert, count and maybe step.

The first line names the columns, in any order. A layer and expert without a line had no tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.json_text import JsonSource
from supertile.targets.plan.loads import COUNT_LIMIT, ELEMENT_LIMIT, Table
from supertile.targets.plan.model import ExpertLayers

COLUMNS = ("layer", "expert", "count", "step")
REQUIRED = COLUMNS[:3]
WHOLE_LIMIT = 2**31


class _Lines:
    """The lines with something on them, and where they stand."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.numbers = [i for i, line in enumerate(self.lines) if line.strip()]
        self.cells = [[cell.strip() for cell in self.lines[i].split(",")] for i in self.numbers]

    def fail(self, code: str, row: int, column: int = 0, **values: object) -> UserError:
        number = self.numbers[row]
        line = self.lines[number]
        parts = line.split(",")
        before = sum(len(part) + 1 for part in parts[:column])
        cell = parts[min(column, len(parts) - 1)]
        start = before + len(cell) - len(cell.lstrip()) + 1
        return UserError(code, Spot(self.file, number + 1, start, line), **values)


def read_csv(file: str, text: str, model: ExpertLayers) -> Table:
    """The table of a text. Errors: `loads.header`, `.width`, `.cell`, `.twice`, `.lines`."""
    lines = _Lines(file, text)
    names = _header(lines)
    body = lines.cells[1:]
    if not body:
        raise lines.fail("loads.lines", 0)
    width = next((i for i, cells in enumerate(body) if len(cells) != len(names)), None)
    if width is not None:
        raise lines.fail("loads.width", width + 1, expected=len(names), found=len(body[width]))
    columns = dict(zip(names, zip(*body, strict=True), strict=True))
    layer = _whole(lines, names, "layer", columns["layer"])
    expert = _whole(lines, names, "expert", columns["expert"])
    step = _whole(lines, names, "step", columns["step"]) if "step" in columns else layer * 0
    _known(lines, names, "layer", layer, model.moe)
    _known(lines, names, "expert", expert, range(model.experts))
    count = _counts(lines, names, columns["count"])
    steps, window = np.unique(step, return_inverse=True)
    if len(steps) * len(model.moe) * model.experts > ELEMENT_LIMIT:
        raise lines.fail("loads.many_steps", 0, limit=ELEMENT_LIMIT, found=len(steps))
    row = np.searchsorted(np.array(model.moe), layer)
    place = (window * len(model.moe) + row) * model.experts + expert
    _, first = np.unique(place, return_index=True)
    if len(first) < len(place):
        again = np.ones(len(place), bool)
        again[first] = False
        raise lines.fail("loads.twice", int(again.argmax()) + 1)
    counts = np.zeros(len(steps) * len(model.moe) * model.experts)
    counts[place] = count
    shape = (len(steps), len(model.moe), model.experts)
    return Table(JsonSource(file), ("count",), counts.reshape(shape), model.moe)


def _header(lines: _Lines) -> list[str]:
    names = [name.lower() for name in lines.cells[0]]
    known = ", ".join(COLUMNS)
    for column, name in enumerate(names):
        if name not in COLUMNS or name in names[:column]:
            hint = nearest(name, COLUMNS) if name not in COLUMNS else "name a column once"
            values = {"expected": known, "found": name[:60] or "nothing", "hint": hint}
            raise lines.fail("loads.header", 0, column, **values)
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        hint = f"add a column {missing[0]}"
        found = ", ".join(names)
        raise lines.fail("loads.header", 0, expected=known, found=found, hint=hint)
    return names


def _whole(
    lines: _Lines, names: Sequence[str], name: str, cells: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A column of whole numbers from 0 on."""
    for row, cell in enumerate(cells):
        if not (cell.isascii() and cell.isdigit() and len(cell) <= 10 and int(cell) < WHOLE_LIMIT):
            raise lines.fail(
                "loads.cell",
                row + 1,
                names.index(name),
                name=name,
                expected=f"a whole number from 0 to {WHOLE_LIMIT - 1}",
                found=cell[:60] or "nothing",
            )
    return np.array(list(map(int, cells)), np.int64)


def _known(
    lines: _Lines,
    names: Sequence[str],
    name: str,
    values: np.ndarray[tuple[int], np.dtype[np.int64]],
    known: Sequence[int],
) -> None:
    wrong = ~np.isin(values, np.array(known))
    if wrong.any():
        row = int(wrong.argmax())
        expected = f"a {name} of the model that has experts: {known[0]} to {known[-1]}"
        column = names.index(name)
        found = int(values[row])
        raise lines.fail("loads.cell", row + 1, column, name=name, expected=expected, found=found)


def _counts(
    lines: _Lines, names: Sequence[str], cells: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.zeros(len(cells))
    for row, cell in enumerate(cells):
        try:
            values[row] = float(cell)
        except ValueError:
            values[row] = math.nan
        if not 0 <= values[row] <= COUNT_LIMIT:
            expected = f"a number from 0 to {COUNT_LIMIT:g}"
            raise lines.fail(
                "loads.cell",
                row + 1,
                names.index("count"),
                name="count",
                expected=expected,
                found=cell[:60] or "nothing",
            )
    return values
