"""Imports: one set of names from several files."""

from __future__ import annotations

from pathlib import Path

import pytest
from snippets import BASE, config, put

from supertile.frontend.build import build_model, build_program
from supertile.frontend.program import Program, load_program
from supertile.ir.errors import UserError

NORM = """\
block norm(x, width: int) -> y
  weight gain: bf16[width] "weight"
  return rms_norm(x, gain, eps)
"""
MAIN = put(BASE).replace(NORM, "")


def load(folder: Path, files: dict[str, str]) -> Program:
    """The program of the first file."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return load_program(folder / next(iter(files)))


def code(folder: Path, files: dict[str, str]) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, files)
    return caught.value.code.removeprefix("language.")


def test_imports_are_relative_to_the_file_that_has_them(tmp_path: Path) -> None:
    files = {
        "main.st": MAIN + 'import "parts/all.st"\n',
        "parts/all.st": 'import "../norms/rms.st"\n',
        "norms/rms.st": NORM,
    }
    program = load(tmp_path, files)
    assert set(program.blocks) == {"norm", "decoder"}
    text = str(build_program(program, config()))
    assert text == str(build_model(tmp_path / "main.st", config()))


def test_a_file_reached_twice_counts_once(tmp_path: Path) -> None:
    files = {
        "main.st": MAIN + 'import "left.st"\nimport "right.st"\nimport "left.st"\n',
        "left.st": 'import "norm.st"\n',
        "right.st": 'import "norm.st"\n',
        "norm.st": NORM,
    }
    assert "norm" in load(tmp_path, files).blocks


def test_a_model_may_be_imported_for_its_blocks(tmp_path: Path) -> None:
    other = 'model Other for "other"\n' + NORM
    program = load(tmp_path, {"main.st": MAIN + 'import "other.st"\n', "other.st": other})
    assert program.model is not None and program.model.name == "Base"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"main.st": 'import "main.st"'}, "import_cycle"),
        ({"main.st": 'import "a.st"', "a.st": 'import "main.st"'}, "import_cycle"),
        ({"main.st": 'import "absent.st"'}, "import_missing"),
        ({"main.st": 'import "folder"', "folder/a.st": NORM}, "import_missing"),
        ({"main.st": f'import "{"x" * 5000}"'}, "import_missing"),
        ({"main.st": 'import "\0"'}, "import_missing"),
        ({"main.st": 'import ""'}, "import_missing"),
        ({"main.st": 'import "../secret.st"'}, "import_outside"),
        ({"main.st": 'import "../absent.st"'}, "import_outside"),
        ({"main.st": 'import "/etc/passwd"'}, "import_outside"),
        ({"main.st": 'import "notes.txt"', "notes.txt": "password"}, "import_outside"),
        ({"main.st": 'import "a/b.st"', "a/b.st": 'import "../../secret.st"'}, "import_outside"),
        ({"main.st": MAIN + NORM + 'import "a.st"', "a.st": NORM}, "defined_twice"),
        ({"main.st": MAIN + 'import "a.st"', "a.st": "block norm(x) -> y\n  return"}, "syntax"),
        ({"main.st": NORM}, "no_model"),
        ({"main.st": 'model M for "m"\n' + NORM}, "no_entry"),
    ],
)  # fmt: skip
def test_refused(tmp_path: Path, files: dict[str, str], expected: str) -> None:
    assert code(tmp_path, files) == expected


def test_a_clash_names_the_other_file(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, {"main.st": NORM + 'import "a.st"', "a.st": "\n" + NORM})
    assert caught.value.found == "an earlier definition, line 1 of main.st"
    assert caught.value.spot is not None and caught.value.spot.line == 2


def test_errors_name_the_file_they_are_in(tmp_path: Path) -> None:
    files = {"main.st": MAIN + 'import "a.st"', "a.st": NORM.replace("rms_norm", "rms")}
    with pytest.raises(UserError) as caught:
        build_program(load(tmp_path, files), config())
    assert caught.value.spot is not None and caught.value.spot.file.endswith("a.st")


def test_a_link_that_leads_out_of_the_folder_is_no_import(tmp_path: Path) -> None:
    (tmp_path / "secret.st").write_text("password\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "part.st").symlink_to(tmp_path / "secret.st")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "model", {"main.st": 'import "part.st"'})
    assert caught.value.code == "language.import_outside"
    assert "password" not in str(caught.value)
