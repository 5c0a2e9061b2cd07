"""Machines as text: one row each for `supertile list targets`, and every figure for `--show`."""

from __future__ import annotations

import textwrap
from collections import Counter

from supertile.targets.machine import load_machine, machine_names
from supertile.targets.machine_reads import unread_figures
from supertile.targets.machine_types import EVIDENCE, UNKNOWN, Figure, Machine

COLUMNS = ("target", "machine", "device", "devices", "peak", "main memory", "evidence")
WIDTH = 100
UNREAD = " *"
"""Marks a figure that no formula reads."""


def target_rows() -> list[tuple[str, ...]]:
    """One row of `COLUMNS` for each shipped machine."""
    return [target_row(load_machine(name)) for name in machine_names()]


def target_row(machine: Machine) -> tuple[str, ...]:
    """Peak and memory are those of one device."""
    memory = machine.main_memory
    return (
        machine.name,
        machine.title,
        machine.device_unit,
        figure_text(machine.devices),
        peak_text(machine),
        f"{figure_text(memory.capacity)}, {figure_text(memory.read)}",
        evidence_text(machine),
    )


def figure_text(figure: Figure, digits: int = 10) -> str:
    """The value with its unit, as the file writes it: "4.8 TB/s"."""
    if figure.written is None:
        return UNKNOWN
    unit = "" if figure.unit in ("count", "fraction") else f" {figure.unit}"
    return f"{figure.written:.{digits}g}{unit}"


def peak_text(machine: Machine) -> str:
    """The fastest known rate of the matrix engine."""
    matrix = machine.engine("matrix")
    known = {key: rate.value or 0.0 for key, rate in (matrix.rate if matrix else {}).items()}
    best = max(known, key=known.__getitem__, default="")
    if not matrix or not known.get(best):
        return UNKNOWN
    return f"{figure_text(matrix.rate[best])} {best}"


def evidence_text(machine: Machine) -> str:
    """How many figures stand on what: "12 measured, 30 vendor, 3 unknown"."""
    counts = Counter(figure.evidence for _, figure in machine.figures())
    return ", ".join(f"{counts[kind]} {kind}" for kind in (*EVIDENCE, UNKNOWN) if counts[kind])


def show_text(machine: Machine) -> str:
    """Everything that the file says: a table of all figures, then the notes and the sources."""
    figures = list(machine.figures())
    notes = [figure.note for _, figure in figures if figure.note]
    numbers = {note: at for at, note in enumerate(dict.fromkeys(notes), start=1)}
    unread = {*unread_figures(machine)}
    rows: list[tuple[str, ...]] = [("figure", "value", "evidence", "source", "note")]
    rows += [
        _row(name + (UNREAD if name in unread else ""), figure, numbers) for name, figure in figures
    ]
    blocks = [
        "\n".join(_head(machine)),
        "\n".join(_aligned(rows)),
        "\n".join(["notes", *(_wrapped(f"[{at}]", note) for note, at in numbers.items())]),
        "\n".join(["sources", *(_wrapped(name, text) for name, text in machine.sources.items())]),
    ]
    return "\n\n".join(blocks) + "\n"


def _head(machine: Machine) -> list[str]:
    formats = machine.formats
    levels = [
        f"{memory.name} (one a {_owner(machine, memory.per)})"
        for memory in machine.memories.values()
    ]
    return [
        f"{machine.name}: {machine.title}",
        f"  a device, and so a rank, is one {machine.device_unit}",
        f"  formats stored    {', '.join(formats.stored)}",
        f"  formats computed  {', '.join(machine.computed_formats)}",
        f"  scales applied    {', '.join(formats.scaled) or 'none: kernels apply them'}",
        f"  on the word of    {formats.source}, {formats.evidence}",
        *([f"                    {formats.note}"] if formats.note else []),
        f"  memories          {', '.join(levels)}",
        f"  evidence          {evidence_text(machine)}",
        f"  {UNREAD.strip()} behind a figure: no formula reads it",
    ]


def _owner(machine: Machine, per: str) -> str:
    return machine.device_unit if per == "device" else f"core of {per}"


def _row(name: str, figure: Figure, numbers: dict[str, int]) -> tuple[str, ...]:
    note = f"[{numbers[figure.note]}]" if figure.note else ""
    return name, figure_text(figure), figure.evidence, figure.source or "-", note


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def _wrapped(label: str, text: str) -> str:
    lead = f"  {label:<8} "
    return textwrap.fill(text, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))
