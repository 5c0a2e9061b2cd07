"""Files: texts read with care, and outputs written whole.

An output goes to a temporary name beside the target, which is then renamed over it.

Whoever reads the target, or interrupts the writer, finds the old content or the new one and never
a part. What the file system refuses is the user's to repair, so it is a `UserError`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import platform
import re
import secrets
import shutil
import stat
import time
import zlib
from pathlib import Path

from supertile.ir.errors import UserError

TEMPORARY = re.compile(
    r"\.supertile-(?P<machine>[0-9a-f]{8})-(?P<process>[0-9]{1,9})-[0-9a-f]{12}\.tmp"
)
ABANDONED = 7 * 24 * 3600
"""Seconds after which a temporary file of another machine counts as left behind."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class NotAFileError(OSError):
    """A path leads to a device or a pipe."""


def open_regular(file: str | Path) -> io.BufferedReader:
    """A regular file, opened for reading.

    Raises an `OSError`, for pipes and devices `NotAFileError`: a pipe may never get a writer, and a
    device may never end.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(file, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise NotAFileError(errno.EINVAL, "it is a device or a pipe, not a file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def refuse_special(file: str, area: str) -> None:
    """Raises `area.special_file` for a device or a pipe."""
    # os.path, unlike Path, answers for names that no file can have.
    if os.path.exists(file) and not (os.path.isfile(file) or os.path.isdir(file)):
        raise UserError(f"{area}.special_file", file=file)


def reason_of(error: OSError | ValueError) -> str:
    """Why a file cannot be read or written, in the words of the system where it has some.

    ValueError: a name that no file can have.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def read_text(file: str, area: str, limit: int) -> str:
    """The text of a file that a user names, at most `limit` bytes of UTF-8.

    Raises `area.folder`, `.absent`, `.unreadable`, `.huge`, `.encoding` or `.empty`.
    """
    path = Path(file)
    try:
        if path.is_dir():
            raise UserError(f"{area}.folder", file=file)
        with open_regular(path) as stream:
            raw = stream.read(limit + 1)
    except FileNotFoundError:
        raise UserError(f"{area}.absent", file=file) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{area}.unreadable", file=file, reason=reason_of(error)) from None
    if len(raw) > limit:
        raise UserError(f"{area}.huge", file=file, limit=limit)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{area}.encoding", file=file, position=error.start) from None
    if not text.strip():
        raise UserError(f"{area}.empty", file=file)
    return text


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, replacing the file; missing folders are made."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes, replacing the file; missing folders are made."""
    try:
        _write(Path(path), data)
    except OSError as error:
        raise refusal(path, error) from None


def _write(path: Path, data: bytes) -> None:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if path.exists() and not path.is_file():
        # A device or a pipe, such as /dev/stdout, is written in place: no name can replace it.
        _write_in_place(path, data)
        return
    # A link keeps pointing at its file, whose content changes.
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(target.parent)
    temporary = temporary_in(target.parent)
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


def _write_in_place(target: Path, data: bytes) -> None:
    """Write to what is there; a pipe that nobody reads is an `OSError`, not a wait without end."""
    try:
        descriptor = os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a pipe that nobody reads") from None
        raise
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)


def refusal(path: str | Path, error: OSError) -> UserError:
    """What the user is told where the file system refuses to write at `path`."""
    if isinstance(error, IsADirectoryError):
        return UserError("command.is_folder", file=path)
    if error.errno in FULL:
        return UserError("command.full", file=path, reason=error.strerror)
    return UserError("command.unwritable", file=path, reason=reason_of(error))


# ---- temporary names -----------------------------------------------------------------------------


def temporary_in(folder: Path) -> Path:
    """A new name in a folder that says which process of which machine is to rename it."""
    # The name of the target may be as long as names can be, so this one does not have it inside.
    return folder / f".supertile-{_machine()}-{os.getpid()}-{secrets.token_hex(6)}.tmp"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of processes that have ended without doing so."""
    try:
        names = [name for name in os.listdir(folder) if TEMPORARY.fullmatch(name)]
    except OSError:
        return  # a folder that is not there, or that shows nothing, has none
    for path in (folder / name for name in names):
        with contextlib.suppress(OSError):
            if _is_abandoned(path):
                remove(path)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    match = TEMPORARY.fullmatch(path.name)
    assert match is not None, "only temporary names are asked about"
    if os.name != "posix" or match["machine"] != _machine():
        return time.time() - path.lstat().st_mtime > ABANDONED
    try:
        os.kill(int(match["process"]), 0)  # asks whether it lives, and sends nothing
    except ProcessLookupError:
        return True
    except OSError:
        return False  # it lives, and is another user's
    return False


def _machine() -> str:
    """A short mark of this machine: numbers of processes mean nothing on another one."""
    return f"{zlib.crc32(platform.node().encode()):08x}"
