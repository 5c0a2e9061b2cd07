"""Under which names checkpoints store the tensors of a model: those of its model file, or others.

A file `NAME.names.toml` beside `NAME.st` has a table for each other dialect, from names of the
model file to stored ones; `{l}` stands for a layer and `{e}` for an expert. A name that ends in a
dot stands for all that begin so; what no row names is stored as the model file says. Experts may be
stored as the first axis of one tensor, and two matrices of an expert as one of twice the rows:

    ["saved as module"]
    "layers." = "model.layers."
    "layers.{l}.ffn.experts.{e}.w1.weight" = "model.layers.{l}.mlp.experts.gate_up_proj[{e}] 1/2"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from supertile.ir.errors import UserError
from supertile.ir.files import read_text

SUFFIX = ".names.toml"
LENGTH_LIMIT = 1_000_000  # bytes; the longest shipped file has 4,000
PLACEHOLDERS = ("{l}", "{e}")
STORED = re.compile(r"(?P<name>[^\s\[\]]+)(?P<item>\[\{e\}\])?(?: (?P<part>[12])/2)?")


@dataclass(frozen=True)
class Stored:
    """Where a tensor is: the whole of a stored one, an item of its first axis, a half of that."""

    name: str
    item: int | None = None
    half: int | None = None
    """0 or 1: the upper or the lower half of the rows."""


@dataclass(frozen=True)
class Dialect:
    """One way to name the tensors of a model."""

    title: str
    exact: Mapping[str, str]
    prefixes: Mapping[str, str]

    def stored(self, name: str) -> Stored:
        """Where the tensor of this name of the model file is."""
        if not self.exact and not self.prefixes:
            return Stored(name)
        pattern, numbers = pattern_of(name)
        text = self.exact.get(pattern)
        if text is None:
            prefix = max(filter(pattern.startswith, self.prefixes), key=len, default="")
            text = self.prefixes.get(prefix, "") + pattern.removeprefix(prefix)
        match = STORED.fullmatch(text)
        assert match is not None, "rows are checked when they are read"
        filled = match["name"]
        for placeholder, number in zip(PLACEHOLDERS, numbers, strict=False):
            filled = filled.replace(placeholder, number)
        item = int(numbers[1]) if match["item"] else None
        return Stored(filled, item, int(match["part"]) - 1 if match["part"] else None)


OWN = Dialect("the model file", {}, {})
"""Every tensor is stored under the name that the model file gives it."""


def pattern_of(name: str) -> tuple[str, list[str]]:
    """`layers.3.ffn.experts.7.w1` as `layers.{l}.ffn.experts.{e}.w1`, and the numbers."""
    numbers: list[str] = []
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isascii() and part.isdigit() and len(numbers) < len(PLACEHOLDERS):
            parts[place] = PLACEHOLDERS[len(numbers)]
            numbers.append(part)
    return ".".join(parts), numbers


def read_dialects(model: Path) -> tuple[Dialect, ...]:
    """The other dialects of a model file; none where no file beside it tells of any.

    Raises `names.syntax` and `names.row`, and what reading a file raises.
    """
    path = model.with_suffix(SUFFIX)
    if not path.exists():
        return ()
    text = read_text(str(path), "names", LENGTH_LIMIT)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError("names.syntax", file=path, reason=str(error)) from None
    return tuple(_dialect(path, title, rows) for title, rows in tables.items())


def _dialect(path: Path, title: str, rows: object) -> Dialect:
    if not isinstance(rows, dict):
        raise UserError("names.row", file=path, dialect=title, name=title, found=repr(rows)[:80])
    for name, stored in rows.items():
        whole = isinstance(stored, str) and STORED.fullmatch(stored)
        if not whole or (name.endswith(".") and not re.fullmatch(r"[^\s\[\]]*\.", stored)):
            found = repr(stored)[:80]
            raise UserError("names.row", file=path, dialect=title, name=name, found=found)
    prefixes = {name: stored for name, stored in rows.items() if name.endswith(".")}
    exact = {name: stored for name, stored in rows.items() if name not in prefixes}
    return Dialect(title, exact, prefixes)
