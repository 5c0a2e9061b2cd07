"""Changes of bytes: flips, cuts, other encodings, parts of another file."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

ENCODINGS = ("utf-16", "utf-32", "latin-1", "utf-8-sig", "utf-7")
PIECES = (b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xc3", b"\r\n", b"\x1a", b"PK\x03\x04")


def changed(data: bytes, random: Random) -> bytes:
    """The bytes with one to three changes."""
    for _ in range(random.choice([1, 1, 2, 3])):
        data = random.choice(CHANGES)(data, random)
    return data


def _flip(data: bytes, random: Random) -> bytes:
    held = bytearray(data or b"\0")
    for _ in range(random.choice([1, 1, 2, 8])):
        held[_place(held, random)] ^= 1 << random.randrange(8)
    return bytes(held)


def _set(data: bytes, random: Random) -> bytes:
    held = bytearray(data or b"\0")
    held[_place(held, random)] = random.choice([0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)])
    return bytes(held)


def _place(data: bytes | bytearray, random: Random) -> int:
    """Headers are at the front, and tables of contents at the end."""
    near = min(len(data), random.choice([16, 64, 512, len(data)]))
    at = random.randrange(near)
    return at if random.random() < 0.7 else len(data) - 1 - at


def _cut(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return random.choice(
        [data[:at], data[at:], data[:at] + data[at + random.randint(1, 16) :], b""]
    )


def _insert(data: bytes, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    piece = random.choice([*PIECES, bytes(random.randint(1, 64)), data[at : at + 64]])
    return data[:at] + piece * random.choice([1, 1, 50]) + data[at:]


def _encode(data: bytes, random: Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return text.encode(random.choice(ENCODINGS), "replace")


CHANGES: tuple[Callable[[bytes, Random], bytes], ...] = (_flip, _flip, _set, _cut, _insert, _encode)
