"""Reads one safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes.

The safetensors library is not used: its NumPy loader cannot hand out BF16 and F8 tensors, and it
does not say precisely what is wrong with a damaged file.

The file is input from elsewhere. Nothing that its header says is believed before it is checked,
and every defect is a `UserError` that names the file.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.ir.files import NotAFileError, open_regular, reason_of

# NumPy has no BF16 and no 8-bit floats: these come out as their bits.
STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E8M0": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

# Which elements are NaN or infinity, from the stored bits. Integers and FP4 have neither.
_NOT_FINITE: dict[str, Callable[[NDArray[Any]], NDArray[np.bool_]]] = {
    "F32": lambda stored: ~np.isfinite(stored),
    "F16": lambda stored: ~np.isfinite(stored),
    "BF16": lambda stored: (stored & 0x7F80) == 0x7F80,
    "F8_E4M3": lambda stored: (stored & 0x7F) == 0x7F,
    "F8_E8M0": lambda stored: stored == 0xFF,
}

HEADER_LIMIT = 100_000_000
"""The longest header or index that is read, in bytes (the format's own limit)."""

SAMPLE = 64
"""Bytes of each of the places of a tensor that `sample` takes."""

RANK_LIMIT = 16

# A zip archive, or the first opcode of pickle protocols 2 to 5.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header says of one tensor: `begin` and `end` are bytes from the data's start."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """One safetensors file; opening it reads the header alone, and a tensor is read when asked for.

    The file stays open with this object. It is not mapped into memory: where a mapped file is cut
    short, the operating system ends the process. What is read of a file that has changed since its
    header was read is an error, `checkpoint.changed`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        self._size, self._changed = self._state()
        if self._size < 8:
            self._refuse_start(f"{self._size} bytes")
        length = int.from_bytes(self._bytes(0, 8), "little")
        if length > min(HEADER_LIMIT, self._size - 8):
            self._refuse_start(f"a header of {length} bytes in a file of {self._size} bytes")
        self._data = 8 + length
        header = _parse_object(self._bytes(8, length).tobytes(), path, "a safetensors header")
        header.pop("__metadata__", None)
        self._entries = {name: self._parse(name, value) for name, value in header.items()}
        self._refuse_overlaps()

    def names(self) -> Collection[str]:
        """The tensors of the file, in the header's order."""
        return self._entries.keys()

    def entry(self, name: str) -> Entry:
        """What the header says of `name`, which must be one of `names()`."""
        return self._entries[name]

    def read(self, name: str, item: int | None = None) -> NDArray[Any]:
        """The tensor, or its part at `item` of the first axis, read-only; BF16 as uint16, F8 uint8.

        Raises `checkpoint.unknown_dtype` for a dtype outside `STORED`, `checkpoint.changed`.
        """
        entry = self._entries[name]
        if entry.dtype not in STORED:
            raise UserError(
                "checkpoint.unknown_dtype",
                file=self.path,
                name=name,
                known=", ".join(STORED),
                dtype=entry.dtype,
            )
        dtype, shape = STORED[entry.dtype], entry.shape if item is None else entry.shape[1:]
        size = math.prod(shape) * dtype.itemsize
        raw = self._bytes(self._data + entry.begin + (item or 0) * size, size)
        stored = raw.view(dtype).reshape(shape)
        stored.flags.writeable = False
        return stored

    def read_finite(self, name: str, item: int | None = None) -> NDArray[Any]:
        """As `read`, but raises `checkpoint.not_finite` where a float is NaN or infinite."""
        stored = self.read(name, item)
        is_bad = _NOT_FINITE.get(self._entries[name].dtype)
        if is_bad is None:
            return stored
        bad = is_bad(stored)
        if not bad.any():
            return stored
        index = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
        raise UserError(
            "checkpoint.not_finite",
            name=name,
            file=self.path,
            count=int(bad.sum()),
            size=bad.size,
            index=index if item is None else [item, *index],
        )

    def sample(self, name: str) -> bytes:
        """Some bytes of a tensor: its first, middle and last ones."""
        entry = self._entries[name]
        size = entry.end - entry.begin
        taken = min(size, SAMPLE)
        places = sorted({0, (size - taken) // 2, size - taken})
        return b"".join(
            self._bytes(self._data + entry.begin + at, taken).tobytes() for at in places
        )

    def _state(self) -> tuple[int, int]:
        """Size in bytes and time of the last change."""
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns

    def _bytes(self, begin: int, size: int) -> NDArray[np.uint8]:
        """So many bytes of the file, of which the header was read before."""
        raw = np.empty(size, np.uint8)
        try:
            self._file.seek(begin)
            count = self._file.readinto(raw.data) if size else 0
        except OSError as error:
            raise UserError("checkpoint.no_file", file=self.path, reason=reason_of(error)) from None
        if count < size or self._state() != (self._size, self._changed):
            found = f"{self._state()[0]} bytes, where it had {self._size}"
            raise UserError("checkpoint.changed", file=self.path, found=found)
        return raw

    def _refuse_start(self, found: str) -> NoReturn:
        """The start is no safetensors header; pickles, the usual mistake, have their own text."""
        pickled = self._bytes(0, min(4, self._size)).tobytes().startswith(_PICKLE_STARTS)
        if pickled or self.path.suffix in _PICKLE_SUFFIXES:
            raise UserError("checkpoint.pickle", file=self.path)
        raise UserError("checkpoint.header_length", file=self.path, limit=HEADER_LIMIT, found=found)

    def _parse(self, name: str, value: object) -> Entry:
        """The entry of one tensor, checked against its own shape and against the file's size."""
        entry = _entry(value)
        if entry is None:
            raise UserError("checkpoint.entry", file=self.path, name=name, rank=RANK_LIMIT)
        size = self._size - self._data
        if not entry.begin <= entry.end <= size:
            raise UserError(
                "checkpoint.offsets",
                file=self.path,
                name=name,
                size=size,
                begin=entry.begin,
                end=entry.end,
            )
        if entry.dtype not in STORED:
            return entry
        expected = math.prod(entry.shape) * STORED[entry.dtype].itemsize
        if entry.end - entry.begin != expected:
            raise UserError(
                "checkpoint.size",
                file=self.path,
                name=name,
                dtype=entry.dtype,
                shape=list(entry.shape),
                expected=expected,
                found=entry.end - entry.begin,
            )
        return entry

    def _refuse_overlaps(self) -> None:
        filled = ((e.begin, e.end, name) for name, e in self._entries.items() if e.begin < e.end)
        last_end, last_name = 0, ""
        for begin, end, name in sorted(filled):
            if begin < last_end:
                raise UserError("checkpoint.overlap", file=self.path, first=last_name, second=name)
            last_end, last_name = end, name


def read_object(path: Path, expected: str) -> dict[str, Any]:
    """The JSON object in a file, read with the same care as a header; `expected` says what it is.

    Raises `checkpoint.json`, `.duplicate`, `.no_file`, `.not_a_file` or `.empty`.
    """
    with _open(path) as file:
        raw = file.read(HEADER_LIMIT + 1)
    if len(raw) > HEADER_LIMIT:
        found = f"more than {HEADER_LIMIT} bytes"
        raise UserError("checkpoint.json", file=path, expected=expected, found=found)
    return _parse_object(raw, path, expected)


def _parse_object(raw: bytes, path: Path, expected: str) -> dict[str, Any]:
    """The JSON object in `raw`. A key given twice is refused: of two, a parser keeps the last."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise UserError("checkpoint.duplicate", file=path, name=_repeated(k for k, _ in pairs))
        return values

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=once)
    except RecursionError:
        value, found = None, "JSON nested too deeply"
    except ValueError as error:  # not UTF-8, not JSON, or a number of thousands of digits
        value, found = None, str(error)
    else:
        found = f"a JSON {type(value).__name__}"
    if isinstance(value, dict):
        return value
    raise UserError("checkpoint.json", file=path, expected=expected, found=found)


def _open(path: Path) -> io.BufferedReader:
    """The file, which is not empty."""
    try:
        file = open_regular(path)
    except IsADirectoryError:
        raise UserError("checkpoint.not_a_file", file=path, kind="a folder") from None
    except NotAFileError:
        raise UserError("checkpoint.not_a_file", file=path, kind="a device or a pipe") from None
    except (OSError, ValueError) as error:
        raise UserError("checkpoint.no_file", file=path, reason=reason_of(error)) from None
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise UserError("checkpoint.empty", file=path)
    return file


def _entry(value: object) -> Entry | None:
    """The entry if its parts have the right JSON types and sizes that an array can have."""
    if not isinstance(value, dict):
        return None
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _counts(shape) or not _counts(offsets):
        return None
    if len(shape) > RANK_LIMIT or len(offsets) != 2:
        return None
    # A zero hides sizes from the comparison with the bytes; no array has the shape [0, 2**62, 4].
    if 0 in shape and math.prod(size or 1 for size in shape) >= 2**60:
        return None
    return Entry(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: object) -> TypeGuard[list[int]]:
    """Whether the value is a list of integers of 0 or more (`True` is no integer here)."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _repeated(names: Iterable[str]) -> str:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise ValueError("no name is repeated")
