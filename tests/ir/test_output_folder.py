"""A folder of outputs holds the files of one run, whenever the writer is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from supertile.ir import output_folder
from supertile.ir.files import TEMPORARY, remove_leftovers, temporary_in
from supertile.ir.output_folder import OutputFolder

NAMES = ("a.json", "b.html", "c.mlir")
OLD, NEW = dict.fromkeys(NAMES, "old"), dict.fromkeys(NAMES, "new")
OTHERS = {"mine.txt": "mine", "ir/00-frontend.mlir": "module"}


def write(folder: Path, texts: dict[str, str], **options: object) -> None:
    with OutputFolder(folder, **options) as output:  # type: ignore[arg-type]
        for name, text in texts.items():
            output.write(name, text)


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]


def add_others(folder: Path) -> None:
    for name, text in OTHERS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def refuse(*_: object) -> None:
    raise OSError("folders cannot be exchanged here")


@pytest.fixture(params=["exchanged", "file by file"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file by file":
        monkeypatch.setattr(output_folder, "_exchange", refuse)
    return str(request.param)


def test_folders_are_made_and_files_replaced(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "a" / "out"
    write(folder, OLD)
    add_others(folder)
    (folder / "a.json").chmod(0o640)
    write(folder, NEW)
    assert contents(folder) == NEW | OTHERS
    assert (folder / "a.json").stat().st_mode & 0o777 == 0o640
    assert temporaries(tmp_path) == []


def test_stale_files_go(tmp_path: Path, way: str) -> None:
    write(tmp_path / "out", OLD | {"01-cse.mlir": "old"})
    write(tmp_path / "out", NEW, is_stale=lambda name: name.startswith("0"))
    assert contents(tmp_path / "out") == NEW


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_leaves_the_folder_as_it_was(
    tmp_path: Path, error: type[BaseException]
) -> None:
    write(tmp_path / "out", OLD)
    with pytest.raises(error), OutputFolder(tmp_path / "out") as output:
        output.write("a.json", "new")
        raise error
    assert contents(tmp_path / "out") == OLD
    assert temporaries(tmp_path) == []


def test_the_current_folder_stays_the_folder_that_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", OLD)
    number = (tmp_path / "out").stat().st_ino
    (tmp_path / "out" / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "out" / "inside")
    for folder in (Path(".."), tmp_path / "out"):
        write(folder, NEW)
    assert (tmp_path / "out").stat().st_ino == number
    assert contents(tmp_path / "out") == NEW
    assert temporaries(tmp_path) == []


def test_links_come_along_as_links(tmp_path: Path) -> None:
    write(tmp_path / "out", OLD)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "broken").symlink_to("nowhere")
    write(tmp_path / "out", NEW)
    assert (tmp_path / "out" / "folder").readlink() == tmp_path / "elsewhere"
    assert (tmp_path / "out" / "broken").readlink() == Path("nowhere")
    assert contents(tmp_path / "out") == NEW


def test_what_another_process_writes_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", OLD)
    add_others(tmp_path / "out")
    exchange = output_folder._exchange

    def interleaved(first: Path, second: Path) -> None:
        for name in ("mine.txt", "ir/late.mlir", "late/file"):
            (second / name).parent.mkdir(exist_ok=True)
            (second / name).unlink(missing_ok=True)
            (second / name).write_text("late")
        exchange(first, second)

    monkeypatch.setattr(output_folder, "_exchange", interleaved)
    write(tmp_path / "out", NEW)
    late = {"mine.txt": "late", "ir/late.mlir": "late", "late/file": "late"}
    assert contents(tmp_path / "out") == NEW | OTHERS | late


# ---- killed writers ------------------------------------------------------------------------------

KILLED = """
import os, sys
from supertile.ir.output_folder import OutputFolder
left = int(sys.argv[2])
EVENTS = ("os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.copystat",
          "shutil.copymode", "shutil.rmtree", "os.listdir", "os.scandir")
def hook(event, arguments):
    global left
    if event in EVENTS or event == "open" and ".supertile-" in str(arguments[0]):
        left -= 1
        if left < 0:
            os._exit(9)
sys.addaudithook(hook)
with OutputFolder(sys.argv[1]) as output:
    for name in ("a.json", "b.html", "c.mlir"):
        output.write(name, "new")
os._exit(0)
"""


def killed_at(folder: Path, count: int) -> int:
    """The exit code of a writer that is killed before its operation of this number."""
    line = [sys.executable, "-c", KILLED, str(folder), str(count)]
    return subprocess.run(line, check=False).returncode


@pytest.mark.skipif(sys.platform != "linux", reason="folders are exchanged on Linux")
def test_a_writer_that_is_killed_at_any_operation_leaves_a_whole_folder(tmp_path: Path) -> None:
    folder, seen = tmp_path / "out", set()
    for count in range(1000):
        write(folder, OLD)
        add_others(folder)
        code = killed_at(folder, count)
        assert contents(folder) in (OLD | OTHERS, NEW | OTHERS)
        seen.add(contents(folder)["a.json"])
        if code == 0:
            break
    assert (code, seen) == (0, {"old", "new"})
    write(folder, OLD)
    assert temporaries(tmp_path) == []


def test_only_what_dead_processes_left_is_removed(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    alive, elsewhere = temporary_in(tmp_path), ".supertile-00000000-1-0123456789ab.tmp"
    dead = alive.name.replace(f"-{os.getpid()}-", f"-{child.pid}-")
    for name in (alive.name, elsewhere, "mine.tmp"):
        (tmp_path / name).write_text("")
    (tmp_path / dead).mkdir()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, elsewhere, "mine.tmp"}
    os.utime(tmp_path / elsewhere, (0, 0))
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {alive.name, "mine.tmp"}
