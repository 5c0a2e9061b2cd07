"""What another program computed for the same tokens: logits, selections, scores.

The arrays of the file, S' at least the tokens that are fed, rows beyond a sequence's end unread:

    logits               [B, S', V]  float32 or float64
    SELECTION            [B, S', n]  integers, n at most what the model chooses; -1: none
    SELECTION.scores     [B, S', N]  float32 or float64: what the choice was made by
    input_ids or tokens  [B, S']     if it is there, the tokens

SELECTION is the name of every selection of the model (`selections.py`): all that go by scores must
be there; those that a table fixes may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError, nearest
from supertile.runtime.array_file import Arrays, read_arrays
from supertile.runtime.selections import Selection

Array = NDArray[Any]
TOKENS = ("input_ids", "tokens")
UNREAD = ("lengths",)  # what `supertile run -o` writes besides


@dataclass(frozen=True)
class Reference:
    """A file whose arrays have the names, shapes and dtypes of a run."""

    file: str
    logits: Array
    """[B, S', V]"""
    chosen: dict[str, Array]
    """By the name of the selection: [B, S', k], -1 for none."""
    scores: dict[str, Array]
    """By the name of the selection, where the file has them: [B, S', N]."""


def read_reference(
    path: str, wanted: Sequence[Selection], rows: Sequence[Array], vocabulary: int
) -> Reference:
    """The file for a run that feeds `rows`; `UserError` with the name of what is wrong in it.

    What it chooses is checked when the run knows what each token may see: see `follow.py`.
    """
    arrays = read_arrays(path, "reference.broken")
    _refuse_names(path, arrays, wanted)
    _check_tokens(path, arrays, rows)
    check = _Checker(path, arrays, len(rows), max(len(row) for row in rows))
    logits = check.floats("logits", vocabulary)
    _check_numbers(path, logits, rows)
    present = [selection for selection in wanted if selection.name in arrays]
    return Reference(
        path,
        logits,
        {
            selection.name: _filled(check.choices(selection), selection.width)
            for selection in present
        },
        {
            selection.name: check.floats(selection.scores_name, selection.candidates)
            for selection in present
            if selection.scores_name in arrays
        },
    )


def _refuse_names(path: str, arrays: Arrays, wanted: Sequence[Selection]) -> None:
    """Nothing is missing, nothing is there that nobody reads."""
    present = ", ".join(arrays) or "nothing"
    needed = {"logits": "logits [B, S, V]"}
    for selection in wanted:
        if selection.is_scored:
            needed[selection.name] = f"{selection.name} [B, S, {selection.width}]"
    for name, text in needed.items():
        if name not in arrays:
            raise UserError("reference.missing", file=path, name=name, wanted=text, found=present)
    known = [*needed, *TOKENS, *UNREAD, *(selection.name for selection in wanted)]
    known += [selection.scores_name for selection in wanted if selection.is_scored]
    for name in arrays:
        if name not in known:
            hint = nearest(name, known, "leave it out of the file")
            raise UserError("reference.unknown", file=path, name=name, hint=hint)


def _check_tokens(path: str, arrays: Arrays, rows: Sequence[Array]) -> None:
    for name in TOKENS:
        if name not in arrays:
            continue
        ids = arrays[name]
        batch, longest = len(rows), max(len(row) for row in rows)
        if (
            ids.ndim != 2
            or len(ids) != batch
            or ids.shape[1] < longest
            or ids.dtype.kind not in "iu"
        ):
            wanted, shape = f"integers [{batch}, {longest}]", f"{ids.dtype} {list(ids.shape)}"
            raise UserError("reference.shape", file=path, name=name, wanted=wanted, found=shape)
        for sequence, row in enumerate(rows):
            wrong = np.flatnonzero(ids[sequence, : len(row)] != row)
            if len(wrong):
                at = int(wrong[0])
                raise UserError(
                    "reference.tokens",
                    file=path,
                    name=name,
                    token=at,
                    sequence=sequence,
                    wanted=row[at],
                    found=ids[sequence, at],
                )


def _check_numbers(path: str, logits: Array, rows: Sequence[Array]) -> None:
    """The logits of all tokens that are fed are numbers."""
    for sequence, row in enumerate(rows):
        wrong = np.argwhere(~np.isfinite(logits[sequence, : len(row)]))
        if len(wrong):
            token, place = (int(number) for number in wrong[0])
            raise UserError(
                "reference.not_finite",
                file=path,
                name="logits",
                found=logits[sequence, token, place],
                token=token,
                sequence=sequence,
            )


def _filled(chosen: Array, width: int) -> Array:
    """[B, S', n] with -1 up to the width of the model's choices."""
    missing = width - chosen.shape[-1]
    return np.pad(chosen, ((0, 0), (0, 0), (0, missing)), constant_values=-1)


@dataclass(frozen=True)
class _Checker:
    """Shapes and dtypes of the arrays of a file, for a batch of so many tokens a sequence."""

    file: str
    arrays: Arrays
    batch: int
    tokens: int

    def floats(self, name: str, width: int | None) -> Array:
        """An array [B, S', width]; None: any width."""
        array = self.arrays[name]
        if array.dtype.kind != "f" or array.dtype.itemsize < 4:
            raise self._wrong_dtype(name, "float32 or float64")
        if not self._fits(array) or (width is not None and array.shape[2] != width):
            raise self._wrong_shape(name, "N" if width is None else width)
        return array

    def choices(self, selection: Selection) -> Array:
        """An array [B, S', n], n at most the width of the selection."""
        array = self.arrays[selection.name]
        if array.dtype.kind != "i":
            raise self._wrong_dtype(selection.name, "signed integers")
        if not self._fits(array) or array.shape[2] > selection.width:
            raise self._wrong_shape(selection.name, f"{selection.width} or fewer")
        return array

    def _fits(self, array: Array) -> bool:
        return array.ndim == 3 and len(array) == self.batch and array.shape[1] >= self.tokens

    def _wrong_shape(self, name: str, width: object) -> UserError:
        wanted = f"[{self.batch}, {self.tokens} or more, {width}]"
        shape = list(self.arrays[name].shape)
        return UserError("reference.shape", file=self.file, name=name, wanted=wanted, found=shape)

    def _wrong_dtype(self, name: str, wanted: str) -> UserError:
        dtype = self.arrays[name].dtype
        return UserError("reference.dtype", file=self.file, name=name, wanted=wanted, found=dtype)
