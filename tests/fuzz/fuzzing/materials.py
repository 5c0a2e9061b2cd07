"""Good inputs in the forms that readers take, each of which can be drawn with faults in it."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np

from fuzzing.changes import raw, texts, trees
from fuzzing.changes.arrays import Arrays, changed as changed_arrays

RAW_SHARE = 0.15
"""Of the draws whose bytes are changed, whatever they mean."""


class Material(Protocol):
    """A good input."""

    def drawn(self, random: Random) -> bytes:
        """The input with faults in it."""
        ...


@dataclass(frozen=True)
class JsonInput:
    """JSON, changed as a tree, as text, or as bytes."""

    data: bytes

    def drawn(self, random: Random) -> bytes:
        kind = random.random()
        if kind < RAW_SHARE:
            return raw.changed(self.data, random)
        if kind < 0.35:
            return encoded(texts.changed(self.data.decode(), random))
        return trees.json_bytes(trees.changed(json.loads(self.data), random), random)


@dataclass(frozen=True)
class TextInput:
    """Text, changed as text or as bytes."""

    data: bytes

    def drawn(self, random: Random) -> bytes:
        if random.random() < RAW_SHARE:
            return raw.changed(self.data, random)
        return encoded(texts.changed(self.data.decode(), random))


@dataclass(frozen=True)
class ArrayInput:
    """Arrays by name, and how they are written."""

    arrays: Arrays
    write: Callable[[Arrays, Random], bytes]

    def drawn(self, random: Random) -> bytes:
        kept = changed_arrays(self.arrays, random) if random.random() < 0.8 else self.arrays
        data = self.write(kept, random)
        is_raw = kept is self.arrays or random.random() < RAW_SHARE
        return raw.changed(data, random) if is_raw else data


@dataclass(frozen=True)
class SafetensorsInput:
    """A safetensors file, its header changed as a tree, or anything of it as bytes."""

    data: bytes

    def drawn(self, random: Random) -> bytes:
        if random.random() < 2 * RAW_SHARE:
            return raw.changed(self.data, random)
        (length,) = struct.unpack_from("<Q", self.data)
        header, body = json.loads(self.data[8 : 8 + length]), self.data[8 + length :]
        text = trees.json_bytes(trees.changed(header, random), random)
        return struct.pack("<Q", len(text)) + text + body


def encoded(text: str) -> bytes:
    """UTF-8, also of halves of pairs, which are none."""
    return text.encode("utf-8", "surrogatepass")


# ---- how arrays are written --------------------------------------------------------------------


def npz(held: Arrays, random: Random) -> bytes:
    """As `numpy.savez` writes them."""
    stream = io.BytesIO()
    write = np.savez if random.random() < 0.5 else np.savez_compressed
    with np.errstate(all="ignore"):
        write(stream, **held)  # type: ignore[arg-type]
    return stream.getvalue()


def npy(held: Arrays, random: Random) -> bytes:
    """The first array alone, as `numpy.save` writes it."""
    stream = io.BytesIO()
    np.save(stream, next(iter(held.values()), np.ones(0)))
    return stream.getvalue()


def json_lists(held: Arrays, random: Random) -> bytes:
    """As nested lists; what JSON cannot say goes as text."""
    lists = {name: array.tolist() for name, array in held.items()}
    return json.dumps(lists, default=str).encode()
