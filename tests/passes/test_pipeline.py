"""The list of passes, and the text of pipelines: reading, writing, and every kind of mistake."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given, strategies as st

from supertile.ir.errors import UserError
from supertile.ir.levels import LEVELS
from supertile.passes.pipeline import (
    PIPELINE,
    load_pass,
    parse_pipeline,
    pass_file,
    pass_names,
    phase_of,
    pipeline_text,
)
from supertile.passes.rewriting import Equivalence, Pass


@dataclass(frozen=True)
class Every(Pass):
    name = "every-option"
    equivalence: ClassVar[Equivalence] = "exact"

    count: int = 1
    most: int | None = 5
    share: float = 0.5
    dry: bool = False
    word: str = "plain"
    sizes: tuple[int, ...] = (1,)
    mode: Literal["fast", "small"] = "fast"

    def apply(self, ctx, op):
        pass


@dataclass(frozen=True)
class Needy(Pass):
    name = "needy"
    equivalence: ClassVar[Equivalence] = "exact"

    count: int

    def apply(self, ctx, op):
        pass


EXTRA = {"every-option": Every, "needy": Needy}


def read(text: str) -> list[Pass]:
    return parse_pipeline(text, EXTRA)


# ---- the list ----------------------------------------------------------------------------------


def test_every_pass_file_is_in_the_list_and_bears_its_name():
    folder = pass_file("cse").parent
    files = [f for f in sorted(folder.glob("*.py")) if re.search(r"\(Pass\):", f.read_text())]
    assert sorted(file.stem.replace("_", "-") for file in files) == sorted(pass_names())
    listed = [name for _, name in PIPELINE]
    assert len(listed) == len(set(listed))


def test_every_pass_is_on_the_page():
    page = (pass_file("cse").parents[1] / "docs" / "passes.md").read_text()
    assert [name for name in pass_names() if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", pass_names())
def test_every_pass_is_described(name):
    kind = load_pass(name)
    assert kind.name == name
    assert kind.equivalence in ("exact", "reassociate", "requantize", "convert")
    assert "->" in (kind.__doc__ or "")
    first = "\n".join(pass_file(name).read_text().splitlines()[:14])
    assert "->" in first, "the file starts with the IR before and after"


def test_phases_are_levels_in_order():
    order = [list(LEVELS).index(phase) for phase, _ in PIPELINE]
    assert order == sorted(order)
    assert (phase_of("cse"), phase_of("fuse-moe"), phase_of("no-pass")) == ("graph", "fused", None)


def test_names_of_options_do_not_load_passes_that_are_not_named():
    import subprocess
    import sys

    code = "import sys, supertile.passes.pipeline; sys.exit('xdsl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- reading and writing -----------------------------------------------------------------------

SAME = [
    "",
    "canonicalize",
    "canonicalize,cse,canonicalize",
    "specialize{tokens=1 batch=8},cse",
    "every-option{count=-3 most=none share=1e-06 dry=true word=910c sizes=1,2,3 mode=small}",
    'every-option{word="two words, \\"quoted\\" \\\\ {}="}',
    'every-option{word="true"}',
]


@pytest.mark.parametrize("text", SAME)
def test_text_is_printed_back(text):
    assert pipeline_text(read(text)) == text.replace("word=910c", 'word="910c"')


@pytest.mark.parametrize(
    "text",
    [
        "every-option{count=2,most=3,sizes=4,5}",
        "every-option{ count = 2  most=3 , sizes = 4 , 5 }",
        "every-option{most=3,sizes=4,5,count=2}",
        " every-option { count=2 most=3 sizes=4,5, } ",
    ],
)
def test_commas_spaces_and_order_are_free(text):
    assert read(text) == [Every(count=2, most=3, sizes=(4, 5))]


def test_dashes_and_underscores_are_equal_in_options():
    @dataclass(frozen=True)
    class Dashed(Every):
        two_words: int = 0

    assert parse_pipeline("d{two-words=3}", {"d": Dashed})[0].two_words == 3


def test_an_integer_is_a_number():
    assert read("every-option{share=2}") == [Every(share=2.0)]


@given(
    st.builds(
        Every,
        count=st.integers(-(10**12), 10**12),
        most=st.none() | st.integers(0, 9),
        share=st.floats(allow_nan=False, allow_infinity=False),
        dry=st.booleans(),
        word=st.text(st.characters(codec="utf-8"), max_size=8),
        sizes=st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple),
    )
)
def test_every_value_survives(one):
    text = pipeline_text([one, one])
    assert read(text) == [one, one]
    assert pipeline_text(read(text)) == text


@given(st.text('spe,c{}="\\ 1\n', max_size=20) | st.text(max_size=8))
def test_any_text_is_read_or_refused(text):
    try:
        read(text)
    except UserError as error:
        assert error.spot is not None


# ---- mistakes ----------------------------------------------------------------------------------

# text -> code, column of the caret, a part of the paragraph
MISTAKES = {
    "cannonicalize": ("pass.unknown", 1, "did you mean canonicalize?"),
    "cse, specialise{tokens=1}": ("pass.unknown", 6, "did you mean specialize?"),
    "specialize{token=1}": ("pass.unknown_option", 12, "did you mean tokens?"),
    "cse{deep=true}": ("pass.unknown_option", 5, "no options"),
    "specialize{tokens=many}": ("pass.option_value", 19, "expected: an integer or none"),
    "specialize{tokens=1.5}": ("pass.option_value", 19, "found: 1.5"),
    "specialize{tokens=true}": ("pass.option_value", 19, "an integer or none"),
    "specialize{tokens=1,2}": ("pass.option_value", 19, "found: 1,2"),
    "specialize{tokens=}": ("pass.option_value", 19, "an integer or none"),
    "specialize{tokens=1 tokens=2}": ("pass.option_twice", 21, "twice"),
    "every-option{mode=slow}": ("pass.option_value", 19, "one of fast, small"),
    "specialize{tokens}": ("pass.syntax", 12, "option=value"),
    "specialize{tokens=1": ("pass.syntax", 20, "the end"),
    "cse,": ("pass.syntax", 5, "the name of a pass"),
    "cse,,cse": ("pass.syntax", 5, "the name of a pass"),
    "cse cse": ("pass.syntax", 5, "a comma, or the end"),
    "{}": ("pass.syntax", 1, "the name of a pass"),
    "needy": ("pass.option_missing", 1, "an integer"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes(text):
    code, column, part = MISTAKES[text]
    with pytest.raises(UserError) as caught:
        read(text)
    error = caught.value
    assert (error.code, error.spot.column) == (code, column)
    assert part in str(error)
    assert text in str(error), "the pipeline is shown"
