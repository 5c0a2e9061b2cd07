"""Writing files whole: to a temporary name beside the target, then renamed over it.

Whoever reads the target, or interrupts the writer, finds the old content or the new one and never
a part. What the file system refuses is the user's to repair, so it is a `UserError`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path

from supertile.ir.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, replacing the file; missing folders are made."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, replacing the file; missing folders are made."""
    try:
        # A link keeps pointing at its file, whose content changes.
        _write(Path(os.path.realpath(path)), data)
    except OSError as error:
        raise _refusal(path, error) from None


def _write(target: Path, data: bytes) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and not target.is_file():
        # A device or a pipe, such as /dev/stdout, is written in place: no name can replace it.
        target.write_bytes(data)
        return
    # The name of the target may be as long as names can be, so that of the temporary is its own.
    temporary = target.parent / f".supertile-{os.getpid()}-{secrets.token_hex(6)}.tmp"
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _refusal(path: str | Path, error: OSError) -> UserError:
    if isinstance(error, IsADirectoryError):
        return UserError("command.is_folder", file=path)
    if error.errno in FULL:
        return UserError("command.full", file=path, reason=error.strerror)
    return UserError("command.unwritable", file=path, reason=error.strerror or str(error))
