"""Small pieces of HTML. Every text goes through `escape`: names come from the user's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from supertile.targets.output.step import PARTS

EVIDENCE = ("measured", "vendor", "derived", "assumed", "unknown")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what it shows, what it sorts by, and HTML of its own if it has any."""

    text: str
    order: float | str = ""
    html: str = ""
    number: bool = False


def text_cell(text: str) -> Cell:
    return Cell(text, text)


def number_cell(text: str, value: float | None) -> Cell:
    return Cell(text, -1.0 if value is None else value, number=True)


def table(name: str, columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that sorts by a click on a column; columns are (title, what it means)."""
    rows = list(rows)
    numeric = [any(row[n].number for row in rows) for n in range(len(columns))]
    head = "".join(
        f'<th scope="col"{_class(numeric[n])} title="{escape(meaning)}">'
        f'<button type="button" data-sort="{n}">{escape(title)}</button></th>'
        for n, (title, meaning) in enumerate(columns)
    )
    lines = [f'<div class="scroll"><table id="{name}" class="sortable"><thead><tr>{head}</tr>']
    lines.append("</thead><tbody>")
    lines += ["<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</tbody></table></div>"])


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(cell: Cell) -> str:
    order = f"{cell.order:.9g}" if isinstance(cell.order, float | int) else escape(cell.order)
    shown = cell.html or escape(cell.text)
    return f'<td{_class(cell.number)} data-order="{order}">{shown}</td>'


def stacked_bar(pieces: Iterable[tuple[str, float, str]]) -> str:
    """A bar of (class, share of its width, title); slivers are drawn, nothings are not."""
    spans = "".join(
        f'<span class="{escape(kind)}" style="width:{100 * share:.3f}%" title="{escape(title)}">'
        "</span>"
        for kind, share, title in pieces
        if share > 0
    )
    return f'<div class="stack">{spans}</div>'


def part_class(part: str) -> str:
    """The class that gives a part of the step its colour."""
    return f"part-{list(PARTS).index(part)}"


def badge(evidence: str) -> str:
    kind = evidence if evidence in EVIDENCE else "unknown"
    return f'<span class="badge {kind}">{escape(evidence)}</span>'


def task_button(program: str, number: int, shown: str) -> str:
    """A link that opens the details of a task."""
    place = escape(f"{program}:{number}")
    return f'<button type="button" class="link" data-task="{place}">{escape(shown)}</button>'
