"""Shipped machine files with one thing wrong: a note or an error, and never silence or a bug.

A figure is a thousand times too large or too small, its unit is another, a table is dropped,
given twice, or is of another type.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from supertile.cli.main import main
from supertile.ir.errors import UserError
from supertile.targets.machine import Machine, load_machine, machine_names
from supertile.targets.machine_notes import machine_notes
from supertile.targets.machine_reads import unread_figures
from supertile.targets.machine_units import DIMENSION_OF, UNITS, scale_of

CONFIG = Path(__file__).parents[1] / "data" / "qwen3_moe" / "config.json"
NAMES = machine_names()
FACTORS = ("1000", "0.001")
COUNTS = ("count", "fraction")


@cache
def shipped(name: str) -> tuple[Machine, str]:
    """A shipped machine, and its text under another name."""
    machine = load_machine(name)
    text = Path(machine.file).read_text()
    return machine, text.replace(f'name = "{name}"', f'name = "{name}-mine"', 1)


@cache
def read_figures(name: str) -> list[str]:
    """The known figures that some formula reads."""
    machine, _ = shipped(name)
    unread = {*unread_figures(machine)}
    known = (path for path, figure in machine.figures() if figure.value is not None)
    return [path for path in known if path not in unread]


def with_line(name: str, path: str, pattern: str, new: str) -> str:
    """The text with a part of one figure's line changed."""
    machine, text = shipped(name)
    lines = text.split("\n")
    at = machine.spots[path].line - 1
    start = machine.spots[path].column - 1
    changed, count = re.subn(pattern, new, lines[at][start:], count=1)
    assert count == 1, lines[at]
    lines[at] = lines[at][:start] + changed
    return "\n".join(lines)


def complaints(folder: Path, name: str, text: str) -> list[str]:
    """The error of the file, or notes that the shipped file would not have."""
    before = _before(folder / "mine.toml", name)
    found = _told(folder / "mine.toml", text)
    return [note for note in found if note not in before and "no formula reads" not in note]


@cache
def _before(file: Path, name: str) -> list[str]:
    return _told(file, shipped(name)[1])


def _told(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    try:
        return machine_notes(load_machine(file))
    except UserError as error:
        return [error.render()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("perturbed")


@st.composite
def figures(draw: st.DrawFn) -> tuple[str, str]:
    """A shipped machine, and a figure of it that a formula reads."""
    name = draw(st.sampled_from(NAMES))
    return name, draw(st.sampled_from(read_figures(name)))


@given(figures(), st.sampled_from(FACTORS))
@settings(max_examples=12)
def test_a_figure_off_by_a_thousand_is_told(
    folder: Path, figure: tuple[str, str], factor: str
) -> None:
    name, path = figure
    value = shipped(name)[0].figure(path).written
    assert value is not None
    number = float(f"{value * float(factor):.9g}")
    told = complaints(
        folder, name, with_line(name, path, r"value = [\d.e+-]+", f"value = {number!r}")
    )
    assert told, f"{path} of {name} x {factor}"


@given(figures(), st.data())
@settings(max_examples=12)
def test_a_figure_in_another_unit_is_told(
    folder: Path, figure: tuple[str, str], data: st.DataObject
) -> None:
    """A unit of another quantity, or of the same a hundred times as large or as small."""
    name, path = figure
    unit = shipped(name)[0].figure(path).unit
    size = scale_of(unit)
    other = data.draw(st.sampled_from(sorted(DIMENSION_OF)))
    same = other in UNITS[DIMENSION_OF[unit]]
    if same and 1 / 100 < scale_of(other) / size < 100:
        return
    told = complaints(folder, name, with_line(name, path, r'unit = "[^"]*"', f'unit = "{other}"'))
    assert told, f"{path} of {name} in {other}"


OPTIONAL = re.compile(r"protocols|scale_out|mufu|memories\.(l0|ub|smem|tmem|registers)")
"""Tables of parts that a machine may well be without: costs take the next best."""
TABLE = re.compile(r"^\[[\w.-]+\]\n(?:(?!\[).*\n?)*", re.MULTILINE)


@given(st.sampled_from(NAMES), st.data(), st.sampled_from(("drop", "twice", "retype", "rename")))
@settings(max_examples=12)
def test_a_changed_table_is_read_or_refused_with_its_place(
    folder: Path, name: str, data: st.DataObject, change: str
) -> None:
    _, text = shipped(name)
    table = data.draw(st.sampled_from([*TABLE.finditer(text)]))
    header, _, body = table[0].partition("\n")
    new = {
        "drop": "",
        "twice": table[0] + table[0],
        "retype": f"[{header}]\n{body}",
        "rename": header.replace("]", "x]") + f"\n{body}",
    }[change]
    told = complaints(folder, name, text[: table.start()] + new + text[table.end() :])
    assert told or change == "rename" or OPTIONAL.search(header)
    if told and "error:" in told[0]:
        assert re.match(r".*mine.toml:\d+:\d+: error: ", told[0])


COSTED = ("memories.hbm.read", "memories.ub.capacity", "domains.supernode.bandwidth")


@pytest.mark.parametrize("path", COSTED)
def test_a_step_on_a_perturbed_machine_has_an_answer_or_one_paragraph(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "ascend-910c"
    value = shipped(name)[0].figure(path).written
    assert value is not None
    file = tmp_path / "mine.toml"
    number = repr(value / 1000 if path.endswith(("fraction", "capacity")) else value * 1000)
    file.write_text(with_line(name, path, r"value = [\d.e+-]+", f"value = {number}"))
    model = ["qwen3_moe", "--config", str(CONFIG), "--target", str(file), "--no-cache"]
    code = main(["compile", *model, "--deploy", "phase=decode ep=4 tp=2 batch=2 context=64"])
    output, told = capsys.readouterr()
    assert code in (0, 1)
    assert f"`{path}`" in told
    if code == 1:
        assert output == "" and told.count("error: ") == 1
