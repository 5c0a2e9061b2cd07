"""What users are told about IR text."""

from supertile.ir.error_texts.text import Text

IR_TEXTS: dict[str, Text] = {
    "ir.version": Text(
        "{file} is no IR text of this version",
        expected="the first line {expected!r}",
        found="{found!r:.100}",
        suggestion="write the text again with this version of Supertile",
    ),
    "ir.syntax": Text("{message:.300}", suggestion="{suggestion}"),
    "ir.undefined": Text(
        "the value {name:.100} is used but never defined",
        expected="a function argument, or the result of an op above",
        suggestion="{suggestion}",
    ),
    "ir.invalid": Text("{op} does not hold what it must: {message:.300}"),
    "ir.too_large": Text(
        "{file} is too large",
        expected="at most {limit} characters of IR text",
        found="{size}",
    ),
    "ir.too_deep": Text(
        "{file} is nested too deeply",
        expected="at most {limit} regions within each other, and attributes nested as sparingly",
    ),
}
