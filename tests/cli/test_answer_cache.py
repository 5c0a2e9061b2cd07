"""Answers are kept under all that they follow from, and nothing broken comes back."""

from pathlib import Path

import pytest
from pytest import MonkeyPatch

from supertile.cli import answer_cache
from supertile.cli.answer_cache import cache_folder, key_of, load, save
from supertile.cli.compile_output import Result
from supertile.targets.timeline import MemoryUse, Timeline

TIMELINE = Timeline(
    model="m",
    config="c",
    machine="x",
    device_unit="die",
    deployment="phase=decode",
    phase="decode",
    ranks=1,
    programs=(),
    order=(("p", 2),),
    memory=MemoryUse((("weights", 1.0),), 2.0),
    figures=(),
    summary={"step_ms": 1.5},
    definitions={"step_ms": "Milliseconds."},
)
ANSWER = Result("module", "plan", ["a line"], ["a table"], TIMELINE)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def kept_file(key: str) -> Path:
    return cache_folder() / f"{key}.json"


def test_an_answer_comes_back_as_it_was() -> None:
    save("k", ANSWER)
    assert load("k") == ANSWER


def test_what_was_not_asked_is_not_kept() -> None:
    assert load("k") is None


@pytest.mark.parametrize("damage", [lambda t: t[:-1], lambda t: "x" + t, lambda t: "", str.upper])
def test_a_damaged_answer_counts_as_none(damage) -> None:  # type: ignore[no-untyped-def]
    save("k", ANSWER)
    kept_file("k").write_text(damage(kept_file("k").read_text()))
    assert load("k") is None


def test_a_folder_that_cannot_be_written_to_is_done_without(folder: Path) -> None:
    (folder / "supertile").write_text("a file where a folder should be")
    save("k", ANSWER)
    assert load("k") is None


def test_the_oldest_answers_go_first(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "KEPT", 2)
    for key in "abc":
        save(key, ANSWER)
    assert len(list(cache_folder().glob("*.json"))) == 2
    assert load("c") is not None


def test_the_key_follows_from_texts_files_and_supertile(tmp_path: Path) -> None:
    file = tmp_path / "machine.toml"
    file.write_text("one")
    first = key_of(["a", "b"], [file])
    assert first == key_of(["a", "b"], [file])
    assert first != key_of(["ab"], [file])
    file.write_text("two")
    assert first != key_of(["a", "b"], [file])
