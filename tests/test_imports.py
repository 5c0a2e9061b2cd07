"""Imports run one way, so that a folder can be understood from those below it."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# A folder imports itself and these.
ALLOWED = {
    "ir": set(),
    "frontend": {"ir"},
    "passes": {"ir"},
    "runtime": {"ir"},
    "targets": {"ir", "runtime"},
    "cli": {"ir", "frontend", "passes", "runtime", "targets", "models"},
}


def imported_folders(path: Path) -> set[str]:
    """The folders of the package that a file imports from, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("supertile.")}


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_from_below(folder):
    for path in (ROOT / folder).rglob("*.py"):
        above = imported_folders(path) - ALLOWED[folder] - {folder}
        assert not above, f"{path.relative_to(ROOT)} imports from {above}"


def test_every_folder_of_code_is_installed():
    """An editable install finds the folders below a package by itself, a wheel does not."""
    folders = {
        path.parent.relative_to(ROOT) for top in ALLOWED for path in (ROOT / top).rglob("*.py")
    }
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    wanted = {f"supertile.{folder.as_posix().replace('/', '.')}": folder for folder in folders}
    assert {name: Path(place) for name, place in tool["package-dir"].items()} == wanted | {
        "supertile.models": Path("models")
    }
    assert set(tool["packages"]) == set(tool["package-dir"])


def test_number_formats_stand_alone():
    assert not imported_folders(ROOT / "runtime" / "numerics.py")


def test_code_imports_the_package_never_its_folders():
    for folder in ALLOWED:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    assert node.module.split(".")[0] not in ALLOWED, path
