"""Every text that a user can be shown about wrong input, and the exception that carries it.

An error is data first: a code from `TEXTS`, the values that fill its text, and where the input has
lines, a `Spot`. `render` makes the one paragraph that the command line prints. Raise with

    raise UserError("checkpoint.missing", file=path, name=name)

and never with a text of your own. Whatever is raised that is no `UserError` is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spot:
    """A place in a text that the user wrote: 1-based line and column, and the line itself."""

    file: str
    line: int
    column: int
    text: str = ""


@dataclass(frozen=True)
class Text:
    """One error: what is wrong, what was expected, what was found, what to try. Each a template."""

    message: str
    expected: str = ""
    found: str = ""
    suggestion: str = ""


class UserError(Exception):
    """The user's input is wrong; the command ends with exit code 1 and this error's paragraph."""

    def __init__(self, code: str, spot: Spot | None = None, **values: Any) -> None:
        text = TEXTS[code]
        self.code = code
        self.spot = spot
        self.values = values
        self.message = text.message.format(**values)
        self.expected = text.expected.format(**values)
        self.found = text.found.format(**values)
        self.suggestion = text.suggestion.format(**values)
        super().__init__(self.render())

    def render(self) -> str:
        """The paragraph: place, message, source line with caret, expected, found, suggestion."""
        lines = []
        if self.spot is None:
            lines.append(f"error: {self.message}")
        else:
            spot = self.spot
            lines.append(f"{spot.file}:{spot.line}:{spot.column}: error: {self.message}")
            if spot.text:
                shown, column = _window(spot.text.expandtabs(1), spot.column)
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


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean X?` for the closest known name, else `otherwise`."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def _window(text: str, column: int, width: int = 100) -> tuple[str, int]:
    """The part of a long line around the column, and the column within that part."""
    if len(text) <= width:
        return text, column
    start = max(0, min(column - 1 - width // 2, len(text) - width))
    return text[start : start + width], column - start


def _shorten(value: str, limit: int = 400) -> str:
    return value if len(value) <= limit else value[: limit - 3] + "..."


# Keyed by `area.case`; one table an area. `{}` fields are filled by the raiser.

CONFIG_TEXTS: dict[str, Text] = {}

CHECKPOINT_TEXTS: dict[str, Text] = {
    # The file system
    "checkpoint.no_file": Text(
        "{file} cannot be opened: {reason}",
        expected="a readable safetensors file, or a folder with one",
    ),
    "checkpoint.not_a_file": Text(
        "{file} is not a file",
        expected="a safetensors file",
        found="{kind}",
    ),
    "checkpoint.empty": Text(
        "{file} is empty",
        expected="a safetensors file",
        found="0 bytes",
        suggestion="fetch the file again",
    ),
    "checkpoint.pickle": Text(
        "{file} is no safetensors file but looks like a pickled PyTorch checkpoint",
        expected="weights as safetensors; pickles are never read, since reading one runs its code",
        suggestion="convert the weights to safetensors where you trust their source",
    ),
    # The header of one file
    "checkpoint.header_length": Text(
        "{file} is cut short, or is no safetensors file",
        expected="at least 8 bytes: a length, then a header of that length, at most {limit} bytes",
        found="{found}",
        suggestion="fetch the file again",
    ),
    "checkpoint.json": Text(
        "{file} does not hold the JSON object that it should",
        expected="{expected}",
        found="{found:.200}",
    ),
    "checkpoint.duplicate": Text(
        "{file} has the key {name!r:.200} twice in one JSON object",
        expected="every key once",
    ),
    "checkpoint.entry": Text(
        "the header of {file} describes the tensor {name!r:.200} wrongly",
        expected="dtype: a text; shape: at most {rank} sizes of 0 or more; data_offsets: begin, end",
    ),
    "checkpoint.offsets": Text(
        "the tensor {name!r:.200} lies outside the data of {file}",
        expected="bytes within 0 to {size}, begin before end",
        found="{begin} to {end}",
        suggestion="the file may be cut short: fetch it again",
    ),
    "checkpoint.size": Text(
        "the tensor {name!r:.200} in {file} has another size than its shape and dtype need",
        expected="{expected} bytes for {dtype} {shape}",
        found="{found} bytes",
    ),
    "checkpoint.overlap": Text(
        "the tensors {first!r:.200} and {second!r:.200} share bytes in {file}",
        expected="every tensor in bytes of its own",
    ),
    "checkpoint.unknown_dtype": Text(
        "the tensor {name!r:.200} in {file} has a dtype that is not read here",
        expected="one of {known}",
        found="{dtype!r:.60}",
    ),
    # A folder and its index
    "checkpoint.no_weights": Text(
        "the folder {file} holds no safetensors file",
        expected="model.safetensors, or model.safetensors.index.json with its shards",
    ),
    "checkpoint.many_files": Text(
        "the folder {file} holds {count} safetensors files and no model.safetensors.index.json",
        expected="an index that says which tensor lies in which file",
        suggestion="fetch the index, or name one of the files",
    ),
    "checkpoint.weight_map": Text(
        "{file} does not say which tensor lies in which shard",
        expected='an object "weight_map" from tensor names to file names',
        found="{found}",
    ),
    "checkpoint.shard_name": Text(
        "{file} names the shard {shard!r:.200}",
        expected="plain file names: shards lie in the folder of the index, never elsewhere",
    ),
    "checkpoint.no_shard": Text(
        "the shard {shard!r:.200} that {file} names is missing",
        suggestion="fetch the shard; the download may be incomplete",
    ),
    "checkpoint.broken_promise": Text(
        "{file} says that the tensor {name!r:.200} lies in {shard!r:.200}, which lacks it",
        expected="an index and shards of one release",
        suggestion="fetch the index and the shard again",
    ),
    # A tensor and its declaration
    "checkpoint.missing": Text(
        "{file} has no tensor {name!r:.200}{others}",
        expected="{declared} {shape}",
        suggestion="{suggestion}",
    ),
    "checkpoint.shape": Text(
        "the tensor {name!r:.200} in {file} has another shape than the model{others}",
        expected="{expected}",
        found="{found}",
        suggestion="compare the sizes in config.json with this checkpoint",
    ),
    "checkpoint.dtype": Text(
        "the tensor {name!r:.200} in {file} has an unsuitable dtype{others}",
        expected="{expected}",
        found="{found!r:.60}",
    ),
    "checkpoint.narrower": Text(
        "the tensor {name!r:.200} in {file} is narrower than the model declares{others}",
        expected="{expected}",
        found="{found!r:.60}",
        suggestion="use the weights as released, not a copy with further rounding",
    ),
    "checkpoint.no_scales": Text(
        "the tensor {name!r:.200} in {file} lacks its scales{others}",
        expected="{first!r:.200} or {second!r:.200}, {shape}",
        found="{dtype} codes alone",
    ),
    "checkpoint.not_finite": Text(
        "the tensor {name!r:.200} in {file} holds NaN or infinity",
        expected="finite numbers",
        found="{count} of {size} elements, the first at {index}",
        suggestion="the file may be damaged: fetch it again",
    ),
}

LANGUAGE_TEXTS: dict[str, Text] = {}

RUN_TEXTS: dict[str, Text] = {}

IR_TEXTS: dict[str, Text] = {}

PASS_TEXTS: dict[str, Text] = {}

COMMAND_TEXTS: dict[str, Text] = {}

TEXTS: dict[str, Text] = {
    **CONFIG_TEXTS,
    **CHECKPOINT_TEXTS,
    **LANGUAGE_TEXTS,
    **RUN_TEXTS,
    **IR_TEXTS,
    **PASS_TEXTS,
    **COMMAND_TEXTS,
}
