"""Token files: `.npy`, `.npz` (input_ids, optionally lengths) or text, one sequence a line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import Spot, UserError
from supertile.runtime.array_file import read_numpy

SIZE_LIMIT = 1 << 30  # bytes of a token file
WORD = re.compile(r"[^\s,]+")
NUMBER = re.compile(r"-?[0-9]{1,18}")
Rows = list[NDArray[np.int64]]


def read_tokens(path: Path) -> Rows:
    """One array of token ids for each sequence; every one has at least one token."""
    # os.path, unlike Path, takes names that no file can have.
    if not os.path.isfile(path):
        reason = "is a folder" if os.path.isdir(path) else "does not exist"
        raise UserError("run.tokens_missing", file=str(path)[:300], reason=reason)
    if os.path.getsize(path) > SIZE_LIMIT:
        raise UserError("run.tokens_huge", file=path, limit=SIZE_LIMIT)
    rows = _read_array(path) if path.suffix in (".npy", ".npz") else _read_text(path)
    if not rows:
        raise UserError("run.tokens_empty", file=path)
    for number, row in enumerate(rows):
        if not len(row):
            raise UserError("run.row_empty", file=path, row=number)
    return rows


def check_vocabulary(rows: Rows, size: int) -> None:
    """Every id is one of the model's."""
    for number, row in enumerate(rows):
        wrong = np.flatnonzero((row < 0) | (row >= size))
        if len(wrong):
            at = int(wrong[0])
            raise UserError("run.token_range", row=number, at=at, found=int(row[at]), size=size)


def _read_array(path: Path) -> Rows:
    arrays = read_numpy(str(path), SIZE_LIMIT, "run.tokens_broken")
    if not isinstance(arrays, dict):
        return _split(path, arrays, None)
    if "input_ids" not in arrays:
        found = ", ".join(arrays)
        raise UserError("run.tokens_key", file=path, found=found[:200] or "nothing")
    return _split(path, arrays["input_ids"], arrays.get("lengths"))


def _split(path: Path, ids: NDArray[Any], lengths: NDArray[Any] | None) -> Rows:
    if ids.ndim == 1:
        ids = ids[None]
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        found = f"{ids.dtype} {list(ids.shape)}"
        raise UserError("run.tokens_shape", file=path, found=found)
    if ids.dtype == np.uint64:
        # What int64 cannot hold is in no vocabulary, and must not become negative.
        ids = np.minimum(ids, np.uint64(np.iinfo(np.int64).max))
    if lengths is None:
        return [row.astype(np.int64) for row in ids]
    fits = lengths.shape == ids.shape[:1] and lengths.dtype.kind in "iu"
    if not fits or (lengths < 0).any() or (lengths > ids.shape[1]).any():
        found = f"lengths {lengths.dtype} {list(lengths.shape)}"
        raise UserError("run.tokens_shape", file=path, found=found)
    return [row[:length].astype(np.int64) for row, length in zip(ids, lengths, strict=True)]


def _read_text(path: Path) -> Rows:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError("run.tokens_broken", file=path, reason="it is not text") from None
    except OSError as error:
        raise UserError("run.tokens_broken", file=path, reason=error.strerror) from None
    return [_row(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(path: Path, number: int, line: str) -> NDArray[np.int64]:
    """Ids separated by blanks or commas."""
    ids = []
    for word in WORD.finditer(line):
        if not NUMBER.fullmatch(word[0]):
            spot = Spot(str(path), number, word.start() + 1, line)
            raise UserError("run.tokens_word", spot, found=word[0][:80])
        ids.append(int(word[0]))
    return np.array(ids, np.int64)
