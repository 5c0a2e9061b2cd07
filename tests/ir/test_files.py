"""Files are written whole or not at all, and what the file system refuses is told plainly."""

import errno
import os
from pathlib import Path

import pytest

from supertile.ir import files
from supertile.ir.errors import UserError
from supertile.ir.files import open_regular, write_bytes, write_text


def left(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_folders_are_made_and_files_replaced(tmp_path):
    target = tmp_path / "a" / "b" / "c.txt"
    write_text(target, "first")
    write_text(target, "sécond\n")
    assert target.read_bytes() == "sécond\n".encode()
    assert left(target.parent) == ["c.txt"]


def test_the_mode_of_a_file_and_the_target_of_a_link_stay(tmp_path):
    target, link = tmp_path / "real", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_text(link, "new")
    assert (link.is_symlink(), target.read_text()) == (True, "new")
    assert target.stat().st_mode & 0o777 == 0o640


def test_devices_are_written_in_place():
    write_bytes("/dev/null", b"gone")
    assert Path("/dev/null").is_char_device()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space")])
def test_what_was_there_stays_whole(tmp_path, monkeypatch, error):
    target = tmp_path / "out"
    write_text(target, "old")

    def refuse(*_):
        raise error

    monkeypatch.setattr(files.Path, "replace", refuse)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected) as caught:
        write_text(target, "new")
    assert target.read_text() == "old"
    assert left(tmp_path) == ["out"]
    if expected is UserError:
        assert caught.value.code == "command.full"


def test_refusals(tmp_path):
    (tmp_path / "file").write_text("")
    cases = {tmp_path: "command.is_folder", tmp_path / "file" / "x": "command.unwritable"}
    cases[tmp_path / ("n" * 300)] = "command.unwritable"
    for target, code in cases.items():
        with pytest.raises(UserError) as caught:
            write_text(target, "text")
        assert caught.value.code == code
        assert str(target) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError) as caught:
        write_text(tmp_path / "out", "text")
    assert caught.value.code == "command.unwritable"


# ---- pipes and devices ---------------------------------------------------------------------------


def test_a_pipe_is_no_file_to_read_and_nobody_waits_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="not a file"):
            open_regular(path)
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_pipe_that_nobody_reads_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="nobody reads"):
        write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo()


def test_a_pipe_with_a_reader_is_written_in_place(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "pipe", "text")
    assert os.read(reader, 10) == b"text"
    os.close(reader)
