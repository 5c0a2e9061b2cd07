"""The exception for wrong input. Its texts, all that a user can be shown, are in `error_texts`.

An error is data first: a code from `TEXTS`, the values that fill its text, and where the input has
lines, a `Spot`. `render` makes the one paragraph that the command line prints. Raise with

    raise UserError("checkpoint.missing", file=path, name=name)

and never with a text of your own. Whatever is raised that is no `UserError` is a bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supertile.ir.error_texts.checkpoint import CHECKPOINT_TEXTS
from supertile.ir.error_texts.command import COMMAND_TEXTS
from supertile.ir.error_texts.config import CONFIG_TEXTS
from supertile.ir.error_texts.cost import COST_TEXTS
from supertile.ir.error_texts.deploy import DEPLOY_TEXTS
from supertile.ir.error_texts.engine import ENGINE_TEXTS
from supertile.ir.error_texts.formats import FORMAT_TEXTS
from supertile.ir.error_texts.ir_text import IR_TEXTS
from supertile.ir.error_texts.language import LANGUAGE_TEXTS
from supertile.ir.error_texts.loads import LOADS_TEXTS
from supertile.ir.error_texts.machine import MACHINE_TEXTS
from supertile.ir.error_texts.mpi import MPI_TEXTS
from supertile.ir.error_texts.names import NAMES_TEXTS
from supertile.ir.error_texts.passes import PASS_TEXTS
from supertile.ir.error_texts.placement import PLACEMENT_TEXTS
from supertile.ir.error_texts.plan import PLAN_TEXTS
from supertile.ir.error_texts.plan_command import PLAN_COMMAND_TEXTS
from supertile.ir.error_texts.reference import REFERENCE_TEXTS
from supertile.ir.error_texts.run import RUN_TEXTS
from supertile.ir.error_texts.shard import SHARD_TEXTS
from supertile.ir.error_texts.text import Text
from supertile.ir.hints import nearest

__all__ = ["TEXTS", "Spot", "UserError", "nearest"]


MESSAGE_LIMIT = 1200  # letters of a message: names in inputs may be of any length


@dataclass(frozen=True)
class Spot:
    """A place in a text that the user wrote: 1-based line and column, and the line itself."""

    file: str
    line: int
    column: int
    text: str = ""


class UserError(Exception):
    """The user's input is wrong; the command ends with exit code 1 and this error's paragraph."""

    def __init__(self, code: str, spot: Spot | None = None, **values: Any) -> None:
        text = TEXTS[code]
        self.code = code
        self.spot = spot
        self.values = values
        self.message = _shorten(_one_line(text.message.format(**values)), MESSAGE_LIMIT)
        self.expected = _one_line(text.expected.format(**values))
        self.found = _one_line(text.found.format(**values))
        self.suggestion = _one_line(text.suggestion.format(**values))
        super().__init__(self.render())

    def render(self) -> str:
        """The paragraph: place, message, source line with caret, expected, found, suggestion."""
        lines = []
        if self.spot is None:
            lines.append(f"error: {self.message}")
        else:
            spot = self.spot
            file = _one_line(spot.file)
            lines.append(f"{file}:{spot.line}:{spot.column}: error: {self.message}")
            if spot.text:
                shown, column = _window(_in_columns(spot.text), spot.column)
                gutter = f"{spot.line:>5} | "
                lines.append(gutter + shown)
                lines.append(" " * (len(gutter) + column - 1) + "^")
        for label, value in (
            ("expected", self.expected),
            ("found", self.found),
            ("try", self.suggestion),
        ):
            if value:
                lines.append(f"  {label}: {_shorten(value)}")
        return "\n".join(lines)


def _window(text: str, column: int, width: int = 100) -> tuple[str, int]:
    """The part of a long line around the column, and the column within that part."""
    if len(text) <= width:
        return text, column
    start = max(0, min(column - 1 - width // 2, len(text) - width))
    return text[start : start + width], column - start


def _shorten(value: str, limit: int = 400) -> str:
    return value if len(value) <= limit else value[: limit - 3] + "..."


def _one_line(text: str) -> str:
    """What inputs hold ends no paragraph and moves no cursor: line ends are escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _in_columns(text: str) -> str:
    """A line of input with one letter in each column, so that the caret is below the right one."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


TEXTS: dict[str, Text] = {
    **CONFIG_TEXTS,
    **CHECKPOINT_TEXTS,
    **NAMES_TEXTS,
    **LANGUAGE_TEXTS,
    **RUN_TEXTS,
    **REFERENCE_TEXTS,
    **IR_TEXTS,
    **PASS_TEXTS,
    **FORMAT_TEXTS,
    **PLACEMENT_TEXTS,
    **SHARD_TEXTS,
    **MPI_TEXTS,
    **COMMAND_TEXTS,
    **MACHINE_TEXTS,
    **DEPLOY_TEXTS,
    **ENGINE_TEXTS,
    **COST_TEXTS,
    **LOADS_TEXTS,
    **PLAN_TEXTS,
    **PLAN_COMMAND_TEXTS,
}
