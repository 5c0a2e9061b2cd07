"""docs/plan_files.md says what the code reads and writes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from supertile.ir.errors import LOADS_TEXTS
from supertile.targets.engines.engine import engine_named, engine_names
from supertile.targets.plan import load_tables, plan_reader
from supertile.targets.plan.load_files import SUFFIXES
from supertile.targets.plan.load_text import KEYS, WINDOW_LIMIT, parse_loads_text
from supertile.targets.plan.plan_types import SHARE_PARTS

PAGE = (Path(__file__).parents[3] / "docs" / "plan_files.md").read_text(encoding="utf-8")
TEXTS = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)


def section(title: str) -> str:
    return PAGE.split(f"# {title}\n")[1].split("\n## ")[0]


def keys(part: str) -> set[str]:
    """What stands in the first column of the tables, marked as code."""
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("|")]
    return {key for cell in cells for key in re.findall(r"`(\w[\w.-]*)`", cell)}


@pytest.mark.parametrize("text", TEXTS[1].split() if TEXTS else [])
def test_texts_of_loads_are_read(text):
    assert str(parse_loads_text(text)).startswith(text.partition(",")[0])


def test_every_key_of_made_up_loads_is_told():
    part = section("Loads from a text")
    assert keys(part) == set(KEYS) and f"{WINDOW_LIMIT} at most" in part


def test_every_key_of_a_plan_is_told():
    plan = {*plan_reader.REQUIRED, *plan_reader.OPTIONAL}
    layer = {*plan_reader.LAYER_REQUIRED, *plan_reader.LAYER_OPTIONAL}
    part = section("plan.json")
    assert keys(part) == plan | layer and str(SHARE_PARTS) in part


def test_every_form_of_loads_is_told():
    part = section("Expert loads")
    known = {key for form, _ in load_tables.FORMS for key in form}
    assert not [key for key in known if f"`{key}`" not in part]
    assert {suffix for suffix in SUFFIXES if f"`{suffix}`" in part} == set(SUFFIXES)


def test_every_engine_is_told():
    part = section("Files for engines")
    assert keys(part) == set(engine_names())
    engines = map(engine_named, engine_names())
    for suffix in {suffix for engine in engines for suffix in engine.suffixes} - {".yml"}:
        assert f"`{suffix}`" in part


def test_the_way_to_convert_is_the_one_that_errors_tell():
    told = LOADS_TEXTS["loads.torch_refused"].suggestion.partition(": ")[2]
    assert told in PAGE
