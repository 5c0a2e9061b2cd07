"""What users are told about serving engines and the files that describe them."""

from __future__ import annotations

from supertile.ir.error_texts.text import Text

ENGINE_TEXTS: dict[str, Text] = {
    "engine.unknown": Text(
        "no serving engine is known as {found:.60}",
        expected="one of {known}",
        suggestion="{hint}",
    ),
    "engine.syntax": Text("this is not TOML", found="{reason}"),
    "engine.missing": Text("the engine file lacks `{key}`", expected="`{key}` in this table"),
    "engine.unknown_key": Text(
        "`{key}` is no key of an engine file", expected="one of {known}", suggestion="{hint}"
    ),
    "engine.slots": Text(
        "{engine} has as many slots on each rank",
        expected="the same number of slots on all ranks",
        found="{found}",
        suggestion="slots=N/rank in the deployment",
    ),
    "engine.value": Text("`{key}` is wrong", expected="{expected}", found="{found}"),
}
