"""Changes of text: words and lines lost, doubled, moved; odd numbers; sections in another order."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from fuzzing.changes import odd

TOKEN = re.compile(r"\d[\w.+-]*|\w+|\s+|.", re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
SECTION = re.compile(r"\n(?=\[|\w[^\n]*\n)")
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"), ("<", ">"))
DEEP = (3, 40, 400, 3000)
SIZE_LIMIT = 2_000_000  # characters


def changed(text: str, random: Random) -> str:
    """The text with one to three changes."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        text = random.choice(CHANGES)(text, random)[:SIZE_LIMIT]
    return text


def _token(text: str, random: Random) -> str:
    """One word, in the neighbourhood of a place: long texts are not cut into words as a whole."""
    start = random.randrange(len(text) + 1)
    found = TOKEN.search(text, start)
    if found is None:
        return text + odd.text(random)
    old = found[0]
    new = random.choice(
        [
            "", old * 2, old[::-1], f"{odd.number(random)}", odd.text(random), f"-{old}", f"{old}.",
            f" {old} ", _some_token(text, random), old + _some_token(text, random),
        ]
    )  # fmt: skip
    return text[: found.start()] + new + text[found.end() :]


def _some_token(text: str, random: Random) -> str:
    found = TOKEN.search(text, random.randrange(len(text) + 1))
    return found[0] if found else ""


def _number(text: str, random: Random) -> str:
    start = random.randrange(len(text) + 1)
    found = NUMBER.search(text, start) or NUMBER.search(text)
    if found is None:
        return _token(text, random)
    number = float(found[0][:300])
    near = [number * random.choice(odd.FACTORS), odd.number(random), number + 1, number - 1]
    new = random.choice(near)
    whole = "." not in found[0] and new == new and abs(new) < 2**70
    return text[: found.start()] + str(int(new) if whole else new) + text[found.end() :]


def _lines(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True)
    if not lines:
        return "\n"
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = lines[at].replace("\n", " ")
        case _:
            lines[at] = " " * random.choice([1, 2, 4]) + lines[at]
    return "".join(lines)


def _sections(text: str, random: Random) -> str:
    parts = SECTION.split(text)
    match random.randrange(3):
        case 0:
            random.shuffle(parts)
        case 1:
            del parts[random.randrange(len(parts))]
        case _:
            parts.append(random.choice(parts))
    return "\n".join(parts)


def _cut(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    return random.choice([text[:at], text[at:], text[:at] + text[at + random.randint(1, 80) :]])


def _deep(text: str, random: Random) -> str:
    opening, closing = random.choice(BRACKETS)
    depth, at = random.choice(DEEP), random.randrange(len(text) + 1)
    end = closing * random.choice([depth, 0, 1])
    return text[:at] + opening * depth + end + text[at:]


def _long(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    piece = random.choice([" ", "x", "9", "\n", "#", ",", "é", _some_token(text, random)])
    return text[:at] + piece * random.choice([10, 300, 20_000]) + text[at:]


CHANGES: tuple[Callable[[str, Random], str], ...] = (
    _token, _token, _token, _number, _number, _lines, _lines, _sections, _cut, _deep, _long,
)  # fmt: skip
