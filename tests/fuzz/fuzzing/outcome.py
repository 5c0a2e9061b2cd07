"""How a draw ended: as it must, or as a finding."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.inputs import ROOT

FINE, REFUSED = "fine", "refused"
SIZE_LIMIT = 3000  # characters of a paragraph
FOLDERS = ("cli", "frontend", "ir", "passes", "runtime", "targets")


@dataclass(frozen=True)
class Outcome:
    """`kind` is FINE, REFUSED, or what is wrong; findings of one kind are counted together."""

    kind: str
    text: str = ""
    """The paragraph, or the traceback."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Of a finding: what shows it again, by name."""

    @property
    def is_finding(self) -> bool:
        return self.kind not in (FINE, REFUSED)


def of_paragraph(text: str) -> Outcome:
    """What a user is told must be one paragraph that says something."""
    if "error: " not in text or not text.partition("error: ")[2].strip():
        return Outcome("an error without a text", text)
    if "Traceback" in text:
        return Outcome("a traceback in an error", text)
    if "\n\n" in text.strip():
        return Outcome("an error of several paragraphs", text)
    if len(text) > SIZE_LIMIT:
        return Outcome("an error that is too long", text)
    return Outcome(REFUSED, text)


def of_exception(error: BaseException) -> Outcome:
    """Named by its type and by the last place in Supertile that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame for frame in frames if _folder(frame.filename) in FOLDERS]
    place = ""
    if inside:
        last = inside[-1]
        place = f" in {Path(last.filename).relative_to(ROOT)}, {last.name}"
    text = "".join(traceback.format_exception(error))
    return Outcome(f"{type(error).__name__}{place}", text[-20_000:])


def _folder(file: str) -> str:
    path = Path(file)
    return path.relative_to(ROOT).parts[0] if path.is_relative_to(ROOT) else ""
