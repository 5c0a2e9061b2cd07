"""A folder of output files that changes as a whole.

    with OutputFolder("out") as output:
        output.write("summary.json", text)
        output.write("report.html", page)

The files are written into a folder of their own, which takes the place of the target at the end of
the block, in one step of the file system; whatever else was in the target comes along as links to
the same files. Whoever looks, and whenever the writer is killed, the target holds the files of one
run. What a killed writer leaves beside the target is removed by the next one.

A target that must stay the folder that it is (the current one or one around it, a mount), that has
links among the files to write, or that lies where folders cannot be exchanged, is written file by
file: each is whole, and a kill between two of them leaves files of two runs.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from supertile.ir.errors import UserError
from supertile.ir.files import (
    refusal,
    remove,
    remove_leftovers,
    temporary_in,
    write_bytes,
    write_text,
)

BROUGHT_LIMIT = 2_000
"""Entries that come along; a folder with more of them is written file by file."""
AT_CURRENT_FOLDER = -100
RENAME_EXCHANGE = 2


class OutputFolder:
    """Files that a `with` block writes, put into a folder where the block ends without an error.

    The folder is made if it is missing. `is_stale(name)` says which other files in it are of an
    earlier run and go. Raises `command.unwritable`, `.full` and `.is_folder`.
    """

    def __init__(self, folder: str | Path, is_stale: Callable[[str], bool] | None = None) -> None:
        self.folder = Path(folder)
        self.is_stale = is_stale or (lambda name: False)
        self.names: list[str] = []
        self.target = Path(os.path.realpath(folder))
        self.staged = Path()

    def __enter__(self) -> OutputFolder:
        try:
            if self.target.exists() and not self.target.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            self.target.parent.mkdir(parents=True, exist_ok=True)
            for place in {self.target.parent, self.target}:
                remove_leftovers(place)
            self.staged = temporary_in(self.target if self.is_fixed() else self.target.parent)
            self.staged.mkdir()
        except OSError as error:
            raise refusal(self.folder, error) from None
        return self

    def write(self, name: str, text: str) -> None:
        """Write one file, which the folder has once the block ends."""
        if (self.target / name).is_dir():
            raise UserError("command.is_folder", file=self.folder / name)
        try:
            write_text(self.staged / name, text)
        except UserError as error:
            values = {**error.values, "file": self.folder / name}
            raise UserError(error.code, **values) from None
        self.names.append(name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.put()
        except OSError as failure:
            raise refusal(self.folder, failure) from None
        finally:
            shutil.rmtree(self.staged, ignore_errors=True)

    # ---- how the files get into the folder -----------------------------------------------------

    def is_fixed(self) -> bool:
        """Whether the target must stay the folder that it is, or its parent cannot change."""
        if not self.target.exists():
            return False
        around = Path(os.path.realpath(os.getcwd()))
        if around.is_relative_to(self.target) or os.path.ismount(self.target):
            return True
        return not os.access(self.target.parent, os.W_OK | os.X_OK)

    def put(self) -> None:
        """The files take their place: all in one step, or one after the other."""
        if not self.target.exists():
            self.staged.rename(self.target)
            return
        for name in self.names:
            if (self.target / name).exists():
                shutil.copymode(self.target / name, self.staged / name)
        links = [name for name in self.names if (self.target / name).is_symlink()]
        if links or self.staged.parent == self.target or not self.exchange():
            self.put_one_by_one()

    def exchange(self) -> bool:
        """Exchange the folders; False, with the target as it was, where that cannot be done."""
        gone = {*self.names, *filter(self.is_stale, os.listdir(self.target))}
        try:
            brought = _bring(self.target, self.staged, gone)
            shutil.copystat(self.target, self.staged)
            _exchange(self.staged, self.target)
        except OSError:
            for name in set(os.listdir(self.staged)) - set(self.names):
                remove(self.staged / name)
            return False
        _follow(self.staged, self.target, gone, brought)
        return True

    def put_one_by_one(self) -> None:
        for name in self.names:
            if (self.target / name).is_symlink():  # it keeps pointing at its file
                write_bytes(self.target / name, (self.staged / name).read_bytes())
            else:
                os.replace(self.staged / name, self.target / name)
        for name in filter(self.is_stale, os.listdir(self.target)):
            if name not in self.names:
                remove(self.target / name)


def _bring(source: Path, target: Path, gone: set[str]) -> dict[str, int]:
    """Link all of `source` into `target` but for the names that go; the inodes by path."""
    brought: dict[str, int] = {}
    for folder, folders, files in os.walk(source):
        inside = os.path.relpath(folder, source)
        if inside == ".":
            folders[:] = [name for name in folders if name not in gone]
            files = [name for name in files if name not in gone]
        else:
            (target / inside).mkdir()
            shutil.copystat(folder, target / inside)
        # Links to folders are among the folders, and are not entered.
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *linked):
            path = os.path.normpath(os.path.join(inside, name))
            os.link(source / path, target / path, follow_symlinks=False)
            brought[path] = os.lstat(source / path).st_ino
            if len(brought) > BROUGHT_LIMIT:
                raise OSError(errno.EMLINK, "too many files to bring along")
    return brought


def _follow(old: Path, new: Path, gone: set[str], brought: dict[str, int]) -> None:
    """What another process has put into the old folder since it was read goes to the new one."""
    for folder, _, files in os.walk(old):
        inside = os.path.relpath(folder, old)
        for name in files:
            path = os.path.normpath(os.path.join(inside, name))
            if path in gone or brought.get(path) == os.lstat(old / path).st_ino:
                continue
            (new / inside).mkdir(parents=True, exist_ok=True)
            os.replace(old / path, new / path)


def _exchange(first: Path, second: Path) -> None:
    """Exchange two paths in one step: renameat2(2) of Linux; an `OSError` where there is none."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if _is_linux() else None
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    paths = (os.fsencode(first), os.fsencode(second))
    here = AT_CURRENT_FOLDER
    if rename(here, paths[0], here, paths[1], RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _is_linux() -> bool:
    return sys.platform == "linux"
