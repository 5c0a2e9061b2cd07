"""Engines by name, and what their files may say: each broken file is one change from SGLang's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from supertile.ir.errors import UserError
from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.engines.reader import FACTS, read_engine
from supertile.targets.engines.setting import node_count
from supertile.targets.engines.splits import SPLITS
from supertile.targets.machine import load_machine
from supertile.targets.machine_types import EVIDENCE

ROOT = Path(__file__).parents[3]
SGLANG = (ROOT / "targets" / "engines" / "sglang.toml").read_text(encoding="utf-8")


def failure(tmp_path: Path, text: str) -> UserError:
    file = tmp_path / "engine.toml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_engine(file)
    return caught.value


def test_the_engines() -> None:
    assert engine_names() == ("sglang", "trtllm", "vllm", "vllm-ascend")
    assert engine_named("tensorrt-llm") is engine_named("trtllm")
    assert engine_named("sglang").title == "SGLang 0.5.23"
    with pytest.raises(UserError, match="no serving engine is known as sg-lang") as caught:
        engine_named("sg-lang")
    assert caught.value.suggestion == "did you mean sglang?"


@pytest.mark.parametrize("name", engine_names())
def test_every_fact_has_a_source_or_a_reason(name: str) -> None:
    engine = engine_named(name)
    assert engine.file.version and engine.full_slots
    for fact in FACTS:
        found = engine.fact(fact)
        if found.value is None:
            assert found.note and found.evidence == "unknown"
        else:
            assert found.source.split()[0] in engine.file.sources and found.evidence in EVIDENCE
    assert engine.fact("split.rule").value in SPLITS


def test_what_differs_between_engines() -> None:
    assert engine_named("vllm").redundant_limit == 1023
    assert engine_named("sglang").redundant_limit is None
    assert [name for name in engine_names() if engine_named(name).draft_rows] == ["trtllm"]
    assert engine_named("trtllm").suffixes == (".yaml", ".yml", ".json")
    assert engine_named("sglang").fact("memory.reserve").value == 10 * 2**30


WRONG = {
    'value = "nearest"': ('value = "nearby"', "`split.rule.value` is wrong", "one of even"),
    'source = "SGL eplb/expert': ('source = "SG eplb/expert', "`split.rule.source`", "[sources]"),
    'evidence = "vendor", note = "--ep': ('evidence = "read", note = "--ep', "evidence`", "one of"),
    "value = true": ("value = 1", "`file.full_slots.value`", "true or false"),
    'unit = "GiB"': ('unit = "GHz"', "`memory.reserve.unit`", "one of B,"),
    "value = 64": ("value = -64", "`memory.page.value`", "a number above 0"),
    'value = [".json"]': ('value = ".json"', "`file.suffixes.value`", "a list of texts"),
    'version = "0.5.23"': ("version = 5", "`version`", "a text"),
    "rows = {": ("row = {", "`file.row` is no key of an engine file", "one of suffixes, rows"),
    "[split]": ("[splits]", "`splits` is no key of an engine file", "one of name, title"),
    'reason = "follows': ('because = "follows', "`memory.used.because`", "one of value, reason"),
    'title = "SGLang"\n': ("", "the engine file lacks `title`", ""),
    'name = "sglang"': ('name = "sglang', "this is not TOML", ""),
}


@pytest.mark.parametrize("right", WRONG)
def test_wrong_files(tmp_path: Path, right: str) -> None:
    wrong, message, expected = WRONG[right]
    assert right in SGLANG
    found = failure(tmp_path, SGLANG.replace(right, wrong, 1))
    assert message in found.render() and expected in found.expected and found.spot is not None


def test_wheels_hold_the_files() -> None:
    """A wheel takes what the table of package data names, an editable install takes all."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = ROOT / tool["package-dir"]["supertile.targets.engines"]
    packed = {
        path
        for glob in tool["package-data"]["supertile.targets.engines"]
        for path in folder.glob(glob)
    }
    assert {path.stem for path in packed} == set(engine_names())


def test_nodes_that_ranks_fill() -> None:
    h100 = load_machine("h100")
    assert [node_count(h100, ranks) for ranks in (4, 8, 12, 32)] == [1, 1, 1, 4]
    assert node_count(load_machine("ascend-910c"), 384) == 24
    assert node_count(load_machine("gb200-nvl72"), 32) == 1
