"""The figures of a deployment in short: summary.json, and a table for the terminal."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TextIO

from supertile.targets.output.units import (
    NOT_APPLICABLE,
    bytes_text,
    label_text,
    part_text,
    share_text,
    value_text,
)
from supertile.targets.timeline import FigureUse, Timeline

NOTICEABLE = 0.05
"""Share of the step from which on a figure matters to the result."""
LOADS = "Loads of the experts that the figures are for, and where the experts are."
MACHINE = "The machine that is costed; with a path where its file is the user's own."
WIDTH = 100
"""Columns of the plain text."""
Row = tuple[str, str, str]
"""Name, value, definition."""


def summary_text(timeline: Timeline) -> str:
    """summary.json: the fields in their order, then "definitions": a sentence for each."""
    told = {"machine": timeline.machine, "loads": timeline.loads}
    definitions = {**timeline.definitions, "machine": MACHINE, "loads": LOADS}
    fields = {**timeline.summary, **told, "definitions": definitions}
    return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def print_summary(timeline: Timeline, stream: TextIO | None = None) -> None:
    """The table, with the definition of every figure; plain text if `stream` is no terminal.

    If the memory does not suffice, that and what would fit come first.
    """
    stream = stream or sys.stdout
    print_lines(_opening(timeline), stream)
    rows = [*_rows(timeline)]
    if stream.isatty():
        _print_table(rows, stream)
    else:
        print_lines(_plain(rows), stream)
    print_lines(_closing(timeline), stream)


def assumed_figures(timeline: Timeline) -> list[FigureUse]:
    """The assumed figures that matter to the result, the most important first."""
    assumed = [figure for figure in timeline.figures if figure.evidence == "assumed"]
    matter = [figure for figure in assumed if figure.share >= NOTICEABLE]
    return sorted(matter, key=lambda figure: (-figure.share, figure.path))


def memory_verdict(timeline: Timeline) -> str:
    """One sentence on whether the memory suffices."""
    memory = timeline.memory
    used, usable = bytes_text(memory.total), bytes_text(memory.capacity)
    if memory.fits:
        return f"fits: {used} of {usable} a {timeline.device_unit}"
    over = bytes_text(memory.total - memory.capacity)
    return f"does not fit: {used} needed, {usable} a {timeline.device_unit}, {over} too much"


def _rows(timeline: Timeline) -> Iterator[Row]:
    """A row for each figure that applies; one that has parts is followed by a row for each."""
    for key, value in timeline.summary.items():
        if value is None:
            continue
        definition = timeline.definitions.get(key, "")
        if not isinstance(value, Mapping):
            yield label_text(key), value_text(key, value), definition
            continue
        yield label_text(key), "" if value else value_text(key, value), definition
        for part, size in value.items():
            yield f"  {label_text(str(part))}", part_text(key, part, size), ""


def _opening(timeline: Timeline) -> Iterator[str]:
    yield f"{timeline.model} on {timeline.machine}: {timeline.deployment}"
    if timeline.loads:
        yield f"loads: {timeline.loads}"
    if not timeline.memory.fits:
        yield f"memory {memory_verdict(timeline)}"
        yield from (f"  {note}" for note in timeline.notes)
    yield ""


def _closing(timeline: Timeline) -> Iterator[str]:
    yield ""
    if timeline.overlap:
        yield f"overlap: {timeline.overlap}"
    if timeline.condition:
        yield f"where arithmetic bounds the experts, {timeline.condition}"
    if timeline.memory.fits:
        yield f"memory {memory_verdict(timeline)}"
    absent = [label_text(key) for key, value in timeline.summary.items() if value is None]
    if absent:
        yield f"{NOT_APPLICABLE} to {timeline.phase}: {', '.join(absent)}"
    assumed = assumed_figures(timeline)
    share = f"{100 * NOTICEABLE:.0f} %"
    yield (
        f"rests on assumed figures of the machine, each behind {share} of the step or more:"
        if assumed
        else f"no assumed figure of the machine is behind {share} of the step or more"
    )
    for figure in assumed:
        yield f"  {share_text(figure.share):>7}  {figure.path} = {figure.value} ({figure.source})"
    if timeline.memory.fits:
        yield from (f"note: {note}" for note in timeline.notes)


def _plain(rows: list[Row]) -> Iterator[str]:
    """Columns, the definitions wrapped."""
    name_width = max((len(name) for name, _, _ in rows), default=0)
    value_width = max((len(value) for _, value, _ in rows), default=0)
    margin = name_width + value_width + 4
    for name, value, definition in rows:
        # A narrow column is still better than one word a line.
        wrapped = textwrap.wrap(definition, max(WIDTH - margin, 40)) or [""]
        yield f"{name:<{name_width}}  {value:>{value_width}}  {wrapped[0]}".rstrip()
        yield from (" " * margin + line for line in wrapped[1:])


def print_lines(lines: Iterable[str], stream: TextIO) -> None:
    """Lines, those that are too wide for `WIDTH` wrapped behind their own indentation."""
    for line in lines:
        if len(line) <= WIDTH:
            print(line, file=stream)
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        wrapped = textwrap.wrap(
            line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        print("\n".join(wrapped), file=stream)


def _print_table(rows: list[Row], stream: TextIO) -> None:
    """rich takes a tenth of a second to load, so only terminals pay for it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("figure", "value", "what it is", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.columns[1].overflow = "fold"
    for name, value, definition in rows:
        # Text, not markup: names from the user's files may hold brackets.
        table.add_row(Text(name), Text(value, style="bold"), Text(definition, style="dim"))
    Console(file=stream).print(table)
