"""Reads one safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes.

The safetensors library is not used: its NumPy loader cannot hand out BF16 and F8 tensors, and it
does not say precisely what is wrong with a damaged file.

The file is input from elsewhere. Nothing that its header says is believed before it is checked,
and every defect is a `UserError` that names the file.
"""

from __future__ import annotations

import json
import math
import mmap
import stat
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeGuard

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError

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
    """One safetensors file, mapped into memory; opening it reads the header alone.

    There is nothing to close: the map goes away with this object and the last array read from it.
    A file must not be cut short while it is mapped (the operating system ends the process then).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map = _map(path)
        if len(self._map) < 8:
            self._refuse_start(f"{len(self._map)} bytes")
        length = int.from_bytes(self._map[:8], "little")
        if length > min(HEADER_LIMIT, len(self._map) - 8):
            self._refuse_start(f"a header of {length} bytes in a file of {len(self._map)} bytes")
        self._data = 8 + length
        header = _parse_object(self._map[8 : self._data], path, "a safetensors header")
        header.pop("__metadata__", None)
        self._entries = {name: self._parse(name, value) for name, value in header.items()}
        self._refuse_overlaps()

    def names(self) -> Collection[str]:
        """The tensors of the file, in the header's order."""
        return self._entries.keys()

    def entry(self, name: str) -> Entry:
        """What the header says of `name`, which must be one of `names()`."""
        return self._entries[name]

    def read(self, name: str) -> NDArray[Any]:
        """The tensor as a read-only view of the file: no copy; BF16 as uint16, F8 as uint8.

        Raises `checkpoint.unknown_dtype` for a dtype outside `STORED`.
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
        offset = self._data + entry.begin
        return np.ndarray(entry.shape, STORED[entry.dtype], buffer=self._map, offset=offset)

    def read_finite(self, name: str) -> NDArray[Any]:
        """As `read`, but raises `checkpoint.not_finite` where a float is NaN or infinite."""
        stored = self.read(name)
        is_bad = _NOT_FINITE.get(self._entries[name].dtype)
        if is_bad is None:
            return stored
        bad = is_bad(stored)
        if not bad.any():
            return stored
        raise UserError(
            "checkpoint.not_finite",
            name=name,
            file=self.path,
            count=int(bad.sum()),
            size=bad.size,
            index=[int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)],
        )

    def _refuse_start(self, found: str) -> NoReturn:
        """The start is no safetensors header; pickles, the usual mistake, have their own text."""
        pickled = self._map[:4].startswith(_PICKLE_STARTS)
        if pickled or self.path.suffix in _PICKLE_SUFFIXES:
            raise UserError("checkpoint.pickle", file=self.path)
        raise UserError("checkpoint.header_length", file=self.path, limit=HEADER_LIMIT, found=found)

    def _parse(self, name: str, value: object) -> Entry:
        """The entry of one tensor, checked against its own shape and against the file's size."""
        entry = _entry(value)
        if entry is None:
            raise UserError("checkpoint.entry", file=self.path, name=name, rank=RANK_LIMIT)
        size = len(self._map) - self._data
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
    raw = _map(path)
    if len(raw) > HEADER_LIMIT:
        found = f"{len(raw)} bytes, where {HEADER_LIMIT} are the limit"
        raise UserError("checkpoint.json", file=path, expected=expected, found=found)
    return _parse_object(raw[:], path, expected)


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


def _map(path: Path) -> mmap.mmap:
    """The whole file, read-only. Looks at what it is first: to open a pipe would wait for ever."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UserError("checkpoint.not_a_file", file=path, kind="a folder")
        if not stat.S_ISREG(status.st_mode):
            raise UserError("checkpoint.not_a_file", file=path, kind="a device or a pipe")
        if status.st_size == 0:
            raise UserError("checkpoint.empty", file=path)
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("checkpoint.no_file", file=path, reason=reason) from None


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
