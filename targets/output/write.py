"""All output files of one timeline: every text is made and stored before the folder changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from supertile.ir.output_folder import OutputFolder
from supertile.targets.output.report import report_page
from supertile.targets.output.summary import summary_text
from supertile.targets.output.trace import schedule_text
from supertile.targets.timeline import Timeline

FILES = {
    "schedule.json": schedule_text,
    "report.html": report_page,
    "summary.json": summary_text,
}
"""Name -> what makes its text of a timeline."""


def output_texts(timeline: Timeline) -> dict[str, str]:
    """Name -> text of schedule.json, report.html and summary.json."""
    return {name: make(timeline) for name, make in FILES.items()}


def write_outputs(timeline: Timeline, folder: str | Path) -> tuple[Path, ...]:
    """Write schedule.json, report.html and summary.json: see `write_together`."""
    return write_together(output_texts(timeline), folder)


def write_together(named: Mapping[str, str], folder: str | Path) -> tuple[Path, ...]:
    """Write texts by name into a folder, all of them or none: see `ir.output_folder`."""
    with OutputFolder(folder) as output:
        for name, text in named.items():
            output.write(name, text)
    return tuple(Path(folder) / name for name in named)
