"""Answers are kept under all that they follow from, and nothing broken comes back."""

import argparse
import os
from importlib import metadata
from pathlib import Path

import pytest
from pytest import MonkeyPatch

from supertile.cli import answer_cache, compile
from supertile.cli.answer_cache import cache_folder, cache_key, key_of, load, save
from supertile.cli.compile_output import Result
from supertile.cli.deploy import Goal
from supertile.targets.timeline import MemoryUse, Timeline

DATA = Path(__file__).parents[1] / "data"
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


def test_the_key_follows_from_the_content_of_the_sources_not_from_their_time(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    source = tmp_path / "pass.py"
    source.write_text("x = 1")
    monkeypatch.setattr(answer_cache, "_source_files", lambda: [source])
    first, before = key_of([], []), source.stat()
    source.write_text("x = 2")  # of the same size
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert key_of([], []) != first
    source.write_text("x = 1")
    os.utime(source, ns=(1, 1))
    assert key_of([], []) == first


def test_the_key_follows_from_the_versions_of_what_is_needed(monkeypatch: MonkeyPatch) -> None:
    first = key_of([], [])
    names = {text.split()[0] for text in answer_cache._versions()}
    assert {"python", "numpy", "scipy", "xdsl", "lark", "networkx"} <= names
    monkeypatch.setattr(metadata, "version", lambda name: "0.0.1")
    assert key_of([], []) != first


DEPLOYED = ["llama", "--config", str(DATA / "llama/config.json"), "--target", "h200"]
DEPLOYED += ["--deploy", "phase=decode batch=2 context=64"]


def asked_key(*more: str) -> str | None:
    parser = argparse.ArgumentParser()
    compile.add_options(parser)
    options = parser.parse_args([*DEPLOYED, *more])
    return cache_key(options, Goal.of(options))


def test_every_option_is_in_the_key_but_those_that_no_answer_follows_from() -> None:
    parser = argparse.ArgumentParser()
    compile.add_options(parser)
    plain, options = asked_key(), parser.parse_args(DEPLOYED)
    goal = Goal.of(options)
    for name in vars(parser.parse_args(DEPLOYED)):
        changed = argparse.Namespace(**{**vars(options), name: "something else"})
        if name in ("model", "config", "dump_ir", "stats", "check_numerics", "no_cache"):
            continue  # a file that must exist, and what is never kept
        assert (cache_key(changed, goal) == plain) is (name in ("what", "json"))


def test_the_content_of_a_file_or_folder_that_an_option_names_is_in_the_key(tmp_path: Path) -> None:
    loads = tmp_path / "loads"
    loads.mkdir()
    for place in (loads / "rank0.csv", tmp_path / "loads.csv"):
        keys = []
        for text in ("layer,expert,count\n0,0,1\n", "layer,expert,count\n0,0,2\n"):
            place.write_text(text)
            named = str(loads if place.parent == loads else place)
            keys.append(asked_key("--loads", named))
        assert keys[0] != keys[1]
