"""What is told about a machine file of the user's own while it is loaded: a line each."""

from __future__ import annotations

from supertile.ir.error_texts.machine_notes import MACHINE_NOTES
from supertile.ir.errors import Spot
from supertile.targets.machine import shadowed_file
from supertile.targets.machine_needs import lacking_text, uses_lacking
from supertile.targets.machine_neighbours import far_figures
from supertile.targets.machine_reads import PARAMETERS, unread_figures
from supertile.targets.machine_relations import Doubt, doubts
from supertile.targets.machine_types import Machine

OF_LINKS = ("launch_collective", "link_fraction")
NAMED = 12
"""Figures that a line names."""


def shadow_note(name: str) -> list[str]:
    """That a shipped name means the shipped machine, where a file here has that name."""
    if not shadowed_file(name):
        return []
    return ["note: " + MACHINE_NOTES["shadowed"].message.format(name=name)]


def machine_notes(machine: Machine) -> list[str]:
    """Figures that are doubtful beside each other or beside the shipped machines."""
    lines = [_line(machine, doubt) for doubt in (*doubts(machine), *far_figures(machine))]
    for use, names in uses_lacking(machine):
        text = MACHINE_NOTES["uncosted"].message.format(
            file=machine.file, use=use, names=lacking_text(machine, names)
        )
        lines.append(f"note: {text}")
    return [*lines, *_free(machine), *_unread(machine)]


def _free(machine: Machine) -> list[str]:
    """One line that names the parameters that the file leaves out, and what stands for them."""
    absent = [name for name in PARAMETERS if machine.figure(f"parameters.{name}").value is None]
    wanted = [name for name in absent if machine.domains or name not in OF_LINKS]
    if not wanted:
        return []
    listed = ", ".join(f"`parameters.{name}`" for name in wanted)
    text = MACHINE_NOTES["free"].message.format(file=machine.file, names=listed)
    return [f"note: {text}"]


def _unread(machine: Machine) -> list[str]:
    """One line that names the figures that no formula reads."""
    names = unread_figures(machine)
    if not names:
        return []
    more = len(names) - NAMED
    listed = ", ".join(f"`{name}`" for name in names[:NAMED])
    rest = f" and {more} more: `supertile list targets --show FILE` marks them" if more > 0 else ""
    text = MACHINE_NOTES["unread"].message.format(file=machine.file, names=listed + rest)
    return [f"note: {text}"]


def _line(machine: Machine, doubt: Doubt) -> str:
    spot = machine.spots.get(doubt.key, Spot(machine.file, 1, 1))
    text = MACHINE_NOTES[doubt.code].message.format(
        key=doubt.key,
        found=doubt.found,
        other=doubt.other,
        stands=doubt.stands,
        times=times_text(doubt.ratio),
    )
    return f"{spot.file}:{spot.line}:{spot.column}: note: {text}"


def times_text(ratio: float) -> str:
    """How one figure compares with another: "1,000 times", "1/1,000 of"."""
    return f"{_number(ratio)} times" if ratio >= 1 else f"1/{_number(1 / ratio)} of"


def _number(value: float) -> str:
    return f"{value:,.0f}" if 100 <= value < 1e6 else f"{value:.3g}"
