"""Zip archives from elsewhere: their entries, and the bytes of each within a limit for all."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection

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
        return broken_file(self.file, reason)


def broken_file(file: str, reason: str) -> UserError:
    """`loads.broken`, for a file of arrays."""
    return UserError("loads.broken", file=file, reason=(reason or "it ends early")[:200])
