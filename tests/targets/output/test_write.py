"""Outputs are written together: a failure leaves what was there."""

import errno
import os
from pathlib import Path

import pytest
from example import example, small

from supertile.ir import files, output_folder
from supertile.ir.errors import UserError
from supertile.targets.output.write import FILES, write_outputs


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def failing(count: int, error: BaseException, original):
    """A function that works `count` times, then raises."""
    calls = iter(range(count))

    def function(*arguments, **options):
        if next(calls, None) is None:
            raise error
        return original(*arguments, **options)

    return function


def test_all_files_are_written_and_replaced(tmp_path):
    folder = tmp_path / "new" / "out"
    paths = write_outputs(small(), folder)
    assert [path.name for path in paths] == list(FILES)
    first = contents(folder)
    assert first.keys() == set(FILES)
    write_outputs(example(), folder)
    second = contents(folder)
    assert second.keys() == first.keys()
    assert all(second[name] != first[name] for name in FILES if name != "summary.json")


def test_same_timeline_same_bytes(tmp_path):
    write_outputs(example(), tmp_path / "a")
    write_outputs(example(), tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "no space")])
def test_a_full_disk_or_an_interrupt_leaves_the_old_files(tmp_path, monkeypatch, count, error):
    write_outputs(small(), tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(files, "_write", failing(count, error, files._write))
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else UserError
    with pytest.raises(expected) as caught:
        write_outputs(example(), tmp_path)
    assert contents(tmp_path) == before
    if expected is UserError:
        assert caught.value.code == "command.full"
        assert caught.value.values["file"].name == list(FILES)[count]


def test_a_refused_exchange_is_the_users_to_repair(tmp_path, monkeypatch):
    write_outputs(small(), tmp_path)
    before = contents(tmp_path)
    refusal = PermissionError(errno.EACCES, "no permission")
    # Neither the folder nor, file by file, the first of its files can be replaced.
    monkeypatch.setattr(output_folder, "_exchange", failing(0, refusal, None))
    monkeypatch.setattr(os, "replace", failing(0, refusal, None))
    with pytest.raises(UserError) as caught:
        write_outputs(example(), tmp_path)
    assert caught.value.code == "command.unwritable"
    assert contents(tmp_path) == before


def test_a_folder_in_the_way_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(UserError) as caught:
        write_outputs(small(), tmp_path)
    assert caught.value.code == "command.is_folder"
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_links_and_modes_stay(tmp_path):
    real, folder = tmp_path / "real.json", tmp_path / "out"
    folder.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    (folder / "summary.json").symlink_to(real)
    write_outputs(small(), folder)
    assert (folder / "summary.json").is_symlink()
    assert "step_ms" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640
