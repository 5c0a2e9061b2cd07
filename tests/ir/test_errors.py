"""What an error shows of an input: one paragraph, whatever the input holds."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from supertile.ir.errors import MESSAGE_LIMIT, Spot, UserError


def test_line_ends_in_an_input_end_no_paragraph() -> None:
    error = UserError("command.unknown", name="a\n\nerror: b", known="x\ty", hint="\x1b[2J")
    assert error.render() == (
        "error: there is no command a\\n\\nerror: b\n  expected: one of x\\ty\n  try: \\x1b[2J"
    )


@given(st.text(), st.text(), st.text())
def test_a_paragraph_has_a_line_for_each_part(name: str, known: str, hint: str) -> None:
    lines = UserError("command.unknown", name=name, known=known, hint=hint).render().splitlines()
    assert 2 <= len(lines) <= 3 and all(line.isprintable() for line in lines)


@pytest.mark.parametrize("letter", ["\0", "\t", "\r", "\x1b", "\u2028", "\ud800", "\u200b"])
def test_the_caret_stands_below_the_column(letter: str) -> None:
    error = UserError("engine.syntax", Spot("f", 1, 4, f"ab{letter}X"), reason="none")
    _, line, caret, _ = error.render().split("\n")
    assert line[caret.index("^")] == "X"


def test_a_name_of_any_length_is_shortened() -> None:
    assert (
        len(UserError("command.unknown", name="x" * 9999, known="", hint="").message)
        <= MESSAGE_LIMIT
    )
