"""Faults in sources: where they are put, which are drawn, and that tests notice one."""

from __future__ import annotations

import dataclasses

import pytest
from fuzzing.mutants.run import KILLED, SURVIVED, Baseline, verdict
from fuzzing.mutants.sites import mutants_of
from fuzzing.mutants.table import ROOT, draw, equivalent, sources

TEXT = '''
"""Not in 1 + 1."""
LIMIT: Annotated[int, 7] = 4

def f(x, y=2.5):
    """Nor here: 1 + 1."""
    if x < y:
        raise ValueError(x + 1)
    return max(x, 0) if y and not x else -math.ceil(x)
'''


def test_faults_are_put_into_what_computes() -> None:
    assert [one.name for one in mutants_of("f.py", TEXT)] == [
        "module: 4 -> 5",
        "module: 4 -> 3",
        "f: 2.5 -> 5.0",
        "f: x < y -> x <= y",
        "f: max(x, 0) if y and not x else -math.ceil(x) -> "
        "-math.ceil(x) if y and (not x) else max(x, 0)",
        "f: y and not x -> y or not x",
        "f: not x -> x",
        "f: max(x, 0) -> min(x, 0)",
        "f: 0 -> 1",
        "f: 0 -> -1",
        "f: -math.ceil(x) -> math.ceil(x)",
        "f: math.ceil(x) -> math.floor(x)",
    ]


def test_a_mutant_differs_in_one_place() -> None:
    (found,) = [one for one in mutants_of("f.py", TEXT) if one.after == "x <= y"]
    assert found.text == TEXT.replace("x < y", "(x <= y)") and found.line == 7


def test_a_draw_outlives_changes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    source = dataclasses.replace(sources(200)[0], count=4)
    names = [one.name for one in draw(source, 3)]
    assert len(names) == 4 and names == [one.name for one in draw(source, 3)]
    other = [one.name for one in draw(dataclasses.replace(source, count=5), 3)]
    assert set(names) < set(other)


def test_the_table_names_files_that_are_there() -> None:
    for source in sources(200):
        for name in (source.file, *source.tests):
            assert (ROOT / name).is_file(), name
        assert len(draw(source, 1)) == source.count, f"{source.file} has too few places"


def test_every_mutant_that_is_called_equivalent_is_one_that_can_be_drawn() -> None:
    for (file, name), why in equivalent().items():
        names = {one.name for one in mutants_of(file, (ROOT / file).read_text())}
        assert name in names and len(why) > 20, f"{file}: {name}"


def test_a_fault_is_noticed_and_a_harmless_change_is_not() -> None:
    source = next(one for one in sources(200) if one.file == "targets/machine_units.py")
    source = dataclasses.replace(source, tests=("tests/targets/test_machine_units.py",))
    limit = Baseline().limit(source.tests)
    (mutant,) = [
        one
        for one in mutants_of(source.file, (ROOT / source.file).read_text())
        if one.function == "parse_bytes" and one.after == "size > 1"
    ]
    assert verdict(source, mutant, limit)[0] == KILLED
    harmless = dataclasses.replace(mutant, after=mutant.before)
    assert verdict(source, harmless, limit) == (SURVIVED, "")
