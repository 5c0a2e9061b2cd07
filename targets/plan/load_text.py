"""The text of made-up loads: `zipf:0.6,seed=3,drift=0.2,windows=8`.

uniform | zipf:S | lognormal:SIGMA     the law of an expert's load, in each layer
seed=N      which experts are the loaded ones; 0
windows=N   windows of time; 1
drift=SIGMA how far the logarithm of a load wanders from window to window; 0
tokens=S    layers that choose by token id: Zipf's law over the vocabulary; without it, as all
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from supertile.ir.errors import Spot, UserError, nearest

OPTION = "--loads"
LAWS = ("uniform", "zipf", "lognormal")
SEED_LIMIT = 2**32
WINDOW_LIMIT = 256
EXPONENT_LIMIT = 8.0  # beyond it one expert has all tokens
NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
WHOLE = re.compile(r"[0-9]{1,10}")
PART = re.compile(r"\s*([^,:=\s]*)\s*([:=]?)\s*([^,]*?)\s*(?=,|$)")


@dataclass(frozen=True)
class LoadsText:
    """What the text of made-up loads says."""

    law: str
    value: float = 0.0
    """Zipf's exponent, or the standard deviation of the logarithm; 0 with `uniform`."""
    seed: int = 0
    windows: int = 1
    drift: float = 0.0
    tokens: float | None = None

    def __str__(self) -> str:
        """The text that is read as this."""
        parts = [self.law if self.law == "uniform" else f"{self.law}:{self.value!r}"]
        parts += [f"seed={self.seed}", f"windows={self.windows}", f"drift={self.drift!r}"]
        return ",".join(parts if self.tokens is None else [*parts, f"tokens={self.tokens!r}"])


class Key(NamedTuple):
    """What a key takes: how it is read (None where it is wrong), and in words."""

    read: Callable[[str], Any]
    expected: str


def _exponent(text: str) -> float | None:
    value = float(text) if NUMBER.fullmatch(text) else -1.0
    return value if 0 <= value <= EXPONENT_LIMIT else None


def _whole(low: int, high: int) -> Key:
    def read(text: str) -> int | None:
        value = int(text) if WHOLE.fullmatch(text) else -1
        return value if low <= value <= high else None

    return Key(read, f"a whole number from {low} to {high}")


EXPONENT = Key(_exponent, f"a number from 0 to {EXPONENT_LIMIT:g}")
KEYS = {
    "seed": _whole(0, SEED_LIMIT - 1),
    "windows": _whole(1, WINDOW_LIMIT),
    "drift": EXPONENT,
    "tokens": EXPONENT,
}


def is_loads_text(text: str) -> bool:
    """Whether it begins with the name of a law, so that it names no file."""
    return re.match(r"\s*(\w*)", text)[1] in LAWS  # type: ignore[index]


def parse_loads_text(text: str) -> LoadsText:
    """What the text says. Errors: `loads.law`, `.no_value`, `.key`, `.key_twice`, `.key_value`."""
    parts = _parts(text)
    law, sign, value = (part.strip() for part in parts[0].groups())
    if law not in LAWS:
        known, hint = (
            ", ".join((LAWS[0], *(f"{law}:VALUE" for law in LAWS[1:]))),
            nearest(law, LAWS),
        )
        raise _error("loads.law", text, parts[0].start(1), expected=known, found=law, hint=hint)
    given: dict[str, Any] = {"law": law}
    if law != "uniform":
        if sign != ":" or not value:
            raise _error(
                "loads.no_value", text, parts[0].end(1), law=law, expected=EXPONENT.expected
            )
        given["value"] = _value(text, parts[0], law, EXPONENT)
    elif sign or value:
        raise _error("loads.law_value", text, parts[0].start(2 if sign else 3), law=law)
    for part in parts[1:]:
        key = part[1]
        if key not in KEYS or part[2] != "=":
            known, hint = ", ".join(f"{key}=" for key in KEYS), nearest(key, KEYS)
            found = part[0].strip()[:60] or "nothing"
            raise _error("loads.key", text, part.start(1), expected=known, found=found, hint=hint)
        if key in given:
            raise _error("loads.key_twice", text, part.start(1), key=key)
        given[key] = _value(text, part, key, KEYS[key])
    return LoadsText(**given)


def _parts(text: str) -> list[re.Match[str]]:
    """What stands between commas: a name, a sign and a value each."""
    parts = []
    position = 0
    while position <= len(text):
        match = PART.match(text, position)
        if match is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            found = text[start:].partition(",")[0][:60]
            known = "NAME:VALUE, then KEY=VALUE with commas between"
            raise _error("loads.key", text, start, expected=known, found=found, hint="")
        parts.append(match)
        position = match.end() + 1
    return parts


def _value(text: str, part: re.Match[str], key: str, kind: Key) -> Any:
    value = kind.read(part[3])
    if value is None:
        told = {"key": key, "expected": kind.expected, "found": part[3][:60] or "nothing"}
        raise _error("loads.key_value", text, part.start(3), **told)
    return value


def _error(code: str, text: str, offset: int, **values: Any) -> UserError:
    """The error with a caret below the offset; line ends are shown as blanks."""
    return UserError(code, Spot(OPTION, 1, offset + 1, re.sub(r"\s", " ", text)), **values)
