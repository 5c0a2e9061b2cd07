"""Suggestions for a wrong name: a known name that is the same but for a slip of the keyboard.

    nearest("fuse-atention", passes)    # did you mean fuse-attention?
    nearest("gb200", machines)          # did you mean gb200-nvl72?
    nearest("h20", machines)            # nothing: h200 is another machine

A hint that leads astray is worse than none. Numbers tell things apart: h100 and h200, v3 and v3.2,
910b and 910c, bf16 and f16 differ in one character and are different things. So a known name is
near only if no digit differs, nor a letter beside one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

ALIKE = 0.6
"""Of `difflib`'s ratio: what looks less alike is not compared further."""
CANDIDATES = 5
SLIPS = 2
"""Letters that may differ: two that are swapped count as two."""
SHORT = 4
"""Of names of four letters one may differ, of shorter ones none: `etp` is no slip of `ep`."""
NUMBER = re.compile(r"[a-z]{0,2}[0-9]+[a-z]{0,2}")
"""A number and the letters beside it, which tell things apart too: b200, 910b, tf32, 8b."""
SEPARATORS = "-_./ "


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean X?` for the known name that `name` is a slip or a part of, else `otherwise`."""
    names = list(known)
    slips = slips_of(name, names)
    longer = [other for other in names if _is_part(name, other) or _is_short(name, other)]
    chosen = slips or (longer if len(longer) == 1 else [])
    return f"did you mean {chosen[0]}?" if chosen else otherwise


def slips_of(name: str, known: Iterable[str]) -> list[str]:
    """The known names that `name` is a slip of, the most alike first."""
    alike = _alike(name, list(known))
    return [other for other in alike if _is_slip(name.lower(), other.lower())]


def _alike(name: str, known: list[str]) -> list[str]:
    """The known names that look most like it, compared without case."""
    small: dict[str, str] = {}
    for other in known:
        small.setdefault(other.lower(), other)
    found = difflib.get_close_matches(name.lower(), small, n=CANDIDATES, cutoff=ALIKE)
    return [small[other] for other in found]


def _is_slip(name: str, other: str) -> bool:
    """Whether they differ in few letters, one at a place, and none of a number."""
    changes = _changes(name, other)
    here = {at for lost, _ in changes for at in lost}
    there = {at for _, added in changes for at in added}
    if here & _numbered(name) or there & _numbered(other):
        return False
    if any(lost and added and len(lost) + len(added) > 2 for lost, added in changes):
        return False  # a word for another one
    if _is_of_hands(name, other):
        return True
    shortest = min(len(name), len(other))
    count = sum(max(len(lost), len(added)) for lost, added in changes)
    return count <= (SLIPS if shortest > SHORT else shortest // SHORT)


def _is_of_hands(name: str, other: str) -> bool:
    """Whether neighbours are swapped, letters doubled, or an s ends it: in short names too."""
    swapped = [name[:at] + name[at + 1] + name[at] + name[at + 2 :] for at in range(len(name) - 1)]
    single = [re.sub(r"([a-z])\1", r"\1", text) for text in (name, other)]
    plural = name.removesuffix("s") == other.removesuffix("s")
    return other in swapped or single[0] == single[1] or plural


def _changes(name: str, other: str) -> list[tuple[list[int], list[int]]]:
    """Where letters stand that `other` lacks, and those that it has instead, place by place."""
    blocks = difflib.SequenceMatcher(None, name, other, autojunk=False).get_opcodes()
    return [
        (_letters(name, first, last), _letters(other, start, end))
        for tag, first, last, start, end in blocks
        if tag != "equal"
    ]


def _letters(text: str, start: int, end: int) -> list[int]:
    """Places in a part of a text, but for separators, which are often wrong and never matter."""
    return [at for at in range(start, end) if text[at] not in SEPARATORS]


def _numbered(text: str) -> set[int]:
    return {at for match in NUMBER.finditer(text) for at in range(match.start(), match.end())}


def _is_part(name: str, other: str) -> bool:
    """Whether the words of `name` are words of `other`, one behind the other."""
    words, longer = _words(name), _words(other)
    ends = range(len(words), len(longer) + 1)
    return bool(words) and any(longer[end - len(words) : end] == words for end in ends)


def _is_short(name: str, other: str) -> bool:
    """Whether `name` is `other` with letters left out, but no number: `ctx`, `fuse-attn`."""
    small, whole = name.lower(), other.lower()
    if small[:1] != whole[:1] or difflib.SequenceMatcher(None, small, whole).ratio() < ALIKE:
        return False
    changes = _changes(small, whole)
    added = {at for _, letters in changes for at in letters}
    return not any(lost for lost, _ in changes) and not added & _numbered(whole)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())
