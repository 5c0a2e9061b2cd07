"""All output files of one timeline: every text is made and stored before the first file changes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from supertile.ir.errors import UserError
from supertile.ir.files import write_text
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
    """Write texts by name into a folder, which is made if it is missing.

    Every text is on the disk under a temporary name before the first file is replaced, so a full
    disk or an interrupt leaves the files of an earlier run as they were. Raises the errors of
    `write_text`: `command.unwritable`, `.full`, `.is_folder`.
    """
    texts = {Path(folder) / name: text for name, text in named.items()}
    for path in texts:
        if path.is_dir():
            raise UserError("command.is_folder", file=path)
    staged: dict[Path, Path] = {}
    try:
        for path, text in texts.items():
            target = Path(os.path.realpath(path))  # a link keeps pointing at its file
            temporary = target.parent / f".supertile-{os.getpid()}-{secrets.token_hex(6)}.tmp"
            staged[temporary] = target
            _stage(path, target, temporary, text)
        _replace(staged)
    except BaseException:
        for temporary in staged:
            with contextlib.suppress(OSError):
                temporary.unlink()
        raise
    return tuple(texts)


def _stage(path: Path, target: Path, temporary: Path, text: str) -> None:
    try:
        write_text(temporary, text)
    except UserError as error:
        raise UserError(error.code, **{**error.values, "file": path}) from None
    if target.exists():
        shutil.copymode(target, temporary)


def _replace(staged: dict[Path, Path]) -> None:
    for temporary, target in staged.items():
        try:
            temporary.replace(target)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError("command.unwritable", file=target, reason=reason) from None
