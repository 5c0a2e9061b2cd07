"""Zip archives from elsewhere: their entries, and the bytes of each within a limit for all."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError

ENTRY_LIMIT = 100_000
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises on wrong bytes; RuntimeError: encrypted, ValueError: impossible offsets."""


class ZipArchive:
    """An archive of at most `limit` bytes, unpacked; every defect is `loads.broken`."""

    def __init__(self, file: str, limit: int) -> None:
        self.file = file
        self.left = limit
        try:
            self.archive = zipfile.ZipFile(file)
        except DAMAGE as error:
            raise self.broken(str(error)) from None
        entries = self.archive.infolist()
        self._entries = {entry.filename: entry for entry in entries}
        if len(entries) > ENTRY_LIMIT or len(self._entries) < len(entries):
            raise self.broken("it has too many entries, or two of one name")

    def names(self) -> Collection[str]:
        return self._entries.keys()

    def is_packed(self, name: str) -> bool:
        return self._entries[name].compress_type != zipfile.ZIP_STORED

    def read(self, name: str) -> bytes:
        """The bytes of an entry; all reads together stay below the limit of the archive."""
        if name not in self._entries:
            raise self.broken(f"it has no entry {name:.100}")
        entry = self._entries[name]
        self.left -= entry.file_size
        if self.left < 0:
            raise self.broken(f"the entry {name:.100} is too large")
        try:
            return self.archive.read(entry)
        except (*DAMAGE, zlib.error) as error:
            raise self.broken(f"{name:.100}: {error}") from None

    def broken(self, reason: str) -> UserError:
        return UserError("loads.broken", file=self.file, reason=(reason or "it ends early")[:200])


def read_npz(file: str, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name: numbers alone, no objects."""
    archive = ZipArchive(file, limit)
    names = [name for name in archive.names() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _array(archive, name) for name in names}


def _array(archive: ZipArchive, name: str) -> NDArray[Any]:
    """One array; its header is held against the bytes that there are before any is made."""
    stream = io.BytesIO(archive.read(name))
    formats = np.lib.format
    headers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    try:
        shape, by_column, dtype = headers[formats.read_magic(stream)](stream)
    except Exception as error:
        # Whatever NumPy and the tokenizer raise on such bytes, it is the file that is wrong.
        raise archive.broken(f"{name:.100} has no header of an array: {error}") from None
    if dtype.kind not in "biufU" or dtype.hasobject:
        raise archive.broken(f"{name:.100} holds {dtype}, not numbers")
    count = math.prod(shape)
    data = stream.getbuffer()[stream.tell() :]
    if min(shape, default=0) < 0 or len(shape) > 8 or count * dtype.itemsize != len(data):
        raise archive.broken(f"{name:.100}: {len(data)} bytes for {dtype} {list(shape)[:8]}")
    flat = np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if by_column else "C")
