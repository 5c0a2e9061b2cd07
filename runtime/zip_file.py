"""Zip archives from elsewhere: their entries, and the bytes of each within a limit for all."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection

from supertile.ir.errors import UserError

ENTRY_LIMIT = 100_000
DAMAGE = (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)
"""What `zipfile` raises on wrong bytes; RuntimeError: encrypted, ValueError: impossible offsets."""
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Of an entry. What unpacks the others takes no bound."""


class ZipArchive:
    """An archive of at most `limit` bytes, unpacked; every defect is `code`, with file and reason.

    What an entry unpacks to is judged by the size that it declares, and no more is ever unpacked.
    """

    def __init__(self, file: str, limit: int, code: str) -> None:
        self.file = file
        self.left = limit
        self.code = code
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
        if entry.file_size > self.left:
            raise self.broken(
                f"the entry {name:.100} is too large: {entry.file_size:,} bytes unpacked"
            )
        if entry.compress_type not in PACKINGS:
            raise self.broken(f"the entry {name:.100} is packed in a way that is not read")
        self.left -= entry.file_size
        try:
            with self.archive.open(entry) as stream:
                data = stream.read(entry.file_size)
        except (*DAMAGE, zlib.error) as error:
            raise self.broken(f"{name:.100}: {error}") from None
        if len(data) < entry.file_size:
            raise self.broken(f"{name:.100}: {len(data)} bytes of {entry.file_size}")
        return data

    def broken(self, reason: str) -> UserError:
        return broken_file(self.file, reason, self.code)


def broken_file(file: str, reason: str, code: str) -> UserError:
    """An error with the text of `code`, for a file of arrays."""
    return UserError(code, file=file, reason=(reason or "it ends early")[:200])
