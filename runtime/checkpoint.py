"""A checkpoint: the safetensors files of one model, as a table from names to tensors.

Opening reads headers alone. `check` compares them with what a model declares before any weight is
touched; `tensor` hands out one weight, widened to float32 or with its codes and scales as stored.

The declared format is a floor. A checkpoint may hold it or a wider one (FP4 experts released as
FP8 or BF16, say), but never a narrower one: that would change the model without a word.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError, nearest
from supertile.runtime.numerics import Scaled, bf16_from_bits
from supertile.runtime.safetensors_file import Entry, SafetensorsFile, read_object
from supertile.runtime.tensor_names import OWN, Dialect, Stored

# Declared element: the stored dtypes that hold it, exactly or wider.
HOLDS: dict[str, tuple[str, ...]] = {
    "f32": ("F32",),
    "bf16": ("BF16", "F32", "F16"),
    "f16": ("F16", "F32"),
    "i64": ("I64",),
    "i32": ("I32", "I64"),
    "f8e4m3": ("F8_E4M3", "BF16", "F16", "F32"),
    "f4e2m1": ("I8", "U8", "F8_E4M3", "BF16", "F16", "F32"),
}

# Stored dtypes that need scales, and the element of their codes. I8 and U8 hold two FP4 codes.
CODES = {"F8_E4M3": "f8e4m3", "I8": "f4e2m1", "U8": "f4e2m1"}

FP8_BLOCK = (128, 128)
"""The blocks of FP8 weights in all releases, also where FP4 with other blocks is declared."""

_SCALES = ("F8_E8M0", "F32")
_FLOATS = ("F32", "F16", "BF16", "F8_E4M3")
_INTEGERS = ("I64", "I32")
_CANDIDATE_LIMIT = 1000  # names compared for a suggestion: about 50 ms


@dataclass(frozen=True)
class Format:
    """What a model declares of a weight's storage: an element of `HOLDS`, and blocks of scales.

    `block` counts logical elements along the last axes, as (128, 128) or (1, 32); 8- and 4-bit
    elements need one, all others have none.
    """

    element: str
    block: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.element not in HOLDS:
            raise ValueError(f"no element {self.element!r}")
        if (self.element in CODES.values()) != (self.block is not None):
            raise ValueError(f"{self.element} with blocks {self.block}")

    def __str__(self) -> str:
        if self.block is None:
            return self.element
        return f"{self.element} with a scale per {' x '.join(map(str, self.block))}"


class _Place(NamedTuple):
    """Where the bytes of a tensor are; `scales` and `block` for codes alone."""

    file: SafetensorsFile
    entry: Entry
    stored: Stored
    scales: str = ""
    block: tuple[int, ...] = ()


class _Problem(NamedTuple):
    """A `UserError` to be: `check` may find thousands and raises the first alone."""

    code: str
    values: dict[str, Any]


class Checkpoint:
    """The tensors of a folder, or of one safetensors file.

    A folder holds `model.safetensors`, or `model.safetensors.index.json` and its shards, or one
    safetensors file of any name. With an index, only the names that it lists exist.
    """

    def __init__(self, folder: Path, dialects: Sequence[Dialect] = ()) -> None:
        """`dialects`: the names that tensors may have besides those of the model file."""
        self.folder = folder
        self.dialects = (OWN, *dialects)
        self.dialect = OWN
        self._files = _open(folder)

    def names(self) -> Collection[str]:
        """All stored tensors, scales included."""
        return self._files.keys()

    def has(self, name: str) -> bool:
        """Whether the tensor of this name of the model file is stored."""
        return self.dialect.stored(name).name in self._files

    def tensor(self, name: str, shape: tuple[int, ...], declared: Format) -> NDArray[Any] | Scaled:
        """One weight of a logical shape: float32, int64, int32, or codes with their scales.

        Arrays have the declared shape; F32 and integers are read-only. `Scaled`
        keeps the stored shape, since its blocks run across it: where [G, O, K] is declared and
        [G * O, K] is stored, call `dequantize().reshape(shape)`.

        Raises `checkpoint.missing`, `.shape`, `.dtype`, `.narrower`, `.no_scales`, `.not_finite`.
        """
        place = self._place(name, shape, declared)
        if isinstance(place, _Problem):
            raise self._error(place)
        stored = place.file.read_finite(place.stored.name, place.stored.item)
        if place.stored.half is not None:
            rows = stored.shape[0] // 2
            stored = stored[place.stored.half * rows :][:rows]
        if place.scales:
            scales = self._files[place.scales].read_finite(place.scales)
            element = CODES[place.entry.dtype]
            packed = element == "f4e2m1"
            return Scaled(stored.view(np.uint8), scales, element, place.block, packed)
        if place.entry.dtype == "BF16":
            return bf16_from_bits(stored).reshape(shape)
        if place.entry.dtype == "F16":
            return stored.astype(np.float32).reshape(shape)
        return stored.reshape(shape)

    def stack(
        self, pattern: str, count: int, shape: tuple[int, ...], declared: Format
    ) -> list[NDArray[Any] | Scaled]:
        """The tensors `pattern.format(e=0)` to `e=count - 1`, each of `shape`: experts, say."""
        return [self.tensor(pattern.format(e=e), shape, declared) for e in range(count)]

    def check(self, required: Iterable[tuple[str, tuple[int, ...], Format]]) -> None:
        """Raises for the first tensor that is missing or does not fit, and counts the others.

        From the headers alone: 72,000 weights and their scales take half a second. The names are
        those of the first dialect in which all are there, or else of the one with the most.
        """
        required = list(required)
        self.dialect = self._dialect_of([name for name, _, _ in required])
        places = (self._place(*wanted) for wanted in required)
        problems = [place for place in places if isinstance(place, _Problem)]
        if not problems:
            return
        missing = sum(problem.code == "checkpoint.missing" for problem in problems[1:])
        unfit = len(problems) - 1 - missing
        others = f"; of the others, {missing} are missing and {unfit} do not fit"
        raise self._error(problems[0], others if len(problems) > 1 else "")

    def stored_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which must be one of `names()`, as its file has it."""
        return self._files[name].entry(name).shape

    def digests(self) -> dict[str, str]:
        """By stored name a digest of what the header says of a tensor, and of some of its bytes."""
        return {name: _digest(name, file) for name, file in self._files.items()}

    def _dialect_of(self, names: Sequence[str]) -> Dialect:
        if len(self.dialects) == 1:
            return OWN
        missing: dict[str, list[str]] = {}
        for dialect in self.dialects:
            missing[dialect.title] = [
                name for name in names if dialect.stored(name).name not in self._files
            ]
            if not missing[dialect.title]:
                return dialect
        best = min(self.dialects, key=lambda dialect: len(missing[dialect.title]))
        if 2 * len(missing[best.title]) > len(names):
            firsts = ", ".join(
                f"{dialect.stored(missing[dialect.title][0]).name} ({dialect.title})"
                for dialect in self.dialects
            )
            raise UserError("checkpoint.other_names", file=self.folder, missing=firsts)
        return best

    def _place(self, name: str, shape: tuple[int, ...], declared: Format) -> _Place | _Problem:
        """Finds a tensor and compares its header entry with what is declared."""
        stored = self.dialect.stored(name)
        file = self._files.get(stored.name)
        if file is None:
            values = {"file": self.folder, "declared": declared, "shape": list(shape)}
            return _Problem("checkpoint.missing", {"name": stored.name, "own": name, **values})
        entry = file.entry(stored.name)
        if stored.item is not None:
            return _place_item(file, entry, stored, shape, declared)
        name = stored.name
        if entry.dtype not in HOLDS[declared.element]:
            return _wrong_dtype(name, file, HOLDS[declared.element])
        shapes = (shape, _flat(shape))
        logical = next((s for s in shapes if _packed(s, entry.dtype) == entry.shape), None)
        if logical is None:
            return _wrong_shape(name, file, _packed(shape, entry.dtype))
        if entry.dtype not in CODES:
            return _Place(file, entry, stored)
        return self._place_scales(name, logical, declared)

    def _place_scales(
        self, name: str, logical: tuple[int, ...], declared: Format
    ) -> _Place | _Problem:
        """Finds the scales of codes: `.scale` in the V4 release, `.weight_scale_inv` in V3's."""
        file = self._files[name]
        entry = file.entry(name)
        blocks = [declared.block or ()]
        if CODES[entry.dtype] != declared.element:
            blocks.insert(0, FP8_BLOCK)
        shapes = [_scale_shape(logical, block) for block in blocks]
        candidates = (name.removesuffix(".weight") + ".scale", name + "_scale_inv")
        found = next((scales for scales in candidates if scales in self._files), "")
        if not found:
            values = {"name": name, "file": file.path, "dtype": entry.dtype}
            first, second = candidates
            values |= {"first": first, "second": second, "shape": list(shapes[0])}
            return _Problem("checkpoint.no_scales", values)
        scales = self._files[found].entry(found)
        if scales.dtype not in _SCALES:
            return _wrong_dtype(found, self._files[found], _SCALES)
        if scales.shape not in shapes:
            return _wrong_shape(found, self._files[found], shapes[0])
        return _Place(file, entry, Stored(name), found, blocks[shapes.index(scales.shape)])

    def _error(self, problem: _Problem, others: str = "") -> UserError:
        values = {"others": others, **problem.values}
        if problem.code == "checkpoint.missing":
            own = values.pop("own")
            values["suggestion"] = self._in_other_dialect(own) or self._suggest(values["name"])
        return UserError(problem.code, **values)

    def _in_other_dialect(self, name: str) -> str:
        for dialect in self.dialects:
            stored = dialect.stored(name).name
            if stored in self._files:
                return f"it has {stored}, as {dialect.title} names it: names of one dialect only"
        return ""

    def _suggest(self, name: str) -> str:
        """The nearest stored name among those that share the longest dotted prefix."""
        parts = name.split(".")
        for kept in reversed(range(len(parts))):
            prefix = "".join(f"{part}." for part in parts[:kept])
            siblings = (
                stored
                for stored in self._files
                if stored.startswith(prefix) and stored.count(".") == len(parts) - 1
            )
            candidates = list(islice(siblings, _CANDIDATE_LIMIT))
            if candidates:
                return nearest(name, candidates)
        return ""


def _digest(name: str, file: SafetensorsFile) -> str:
    entry = file.entry(name)
    head = f"{entry.dtype} {entry.shape} {entry.end - entry.begin} "
    return hashlib.sha256(head.encode() + file.sample(name)).hexdigest()[:16]


def _place_item(
    file: SafetensorsFile, entry: Entry, stored: Stored, shape: tuple[int, ...], declared: Format
) -> _Place | _Problem:
    """A matrix that is an item, or half of one, of a stored tensor without scales."""
    dtypes = tuple(dtype for dtype in HOLDS[declared.element] if dtype not in CODES)
    if entry.dtype not in dtypes:
        return _wrong_dtype(stored.name, file, dtypes)
    assert stored.item is not None
    rows = shape[0] if stored.half is None else 2 * shape[0]
    items = max(stored.item + 1, entry.shape[0] if entry.shape else 0)
    if entry.shape != (items, rows, *shape[1:]):
        return _wrong_shape(stored.name, file, (items, rows, *shape[1:]))
    return _Place(file, entry, stored)


def _open(folder: Path) -> dict[str, SafetensorsFile]:
    """The file of every tensor name."""
    # os.path rather than Path: it answers False where the system refuses to look.
    if not os.path.isdir(folder):
        return _alone(folder)
    if os.path.exists(folder / "model.safetensors"):
        return _alone(folder / "model.safetensors")
    if os.path.exists(folder / "model.safetensors.index.json"):
        return _indexed(folder / "model.safetensors.index.json")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return _alone(found[0])
    if found:
        raise UserError("checkpoint.many_files", file=folder, count=len(found))
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    if pickles:
        raise UserError("checkpoint.pickle", file=pickles[0])
    raise UserError("checkpoint.no_weights", file=folder)


def _alone(path: Path) -> dict[str, SafetensorsFile]:
    file = SafetensorsFile(path)
    return dict.fromkeys(file.names(), file)


def _indexed(index: Path) -> dict[str, SafetensorsFile]:
    """The files that an index names, each of which must hold what the index promises of it."""
    weight_map = _weight_map(index)
    shards = {shard: _shard(index, shard) for shard in dict.fromkeys(weight_map.values())}
    for name, shard in weight_map.items():
        if name not in shards[shard].names():
            raise UserError("checkpoint.broken_promise", file=index, name=name, shard=shard)
    return {name: shards[shard] for name, shard in weight_map.items()}


def _weight_map(index: Path) -> dict[str, str]:
    """The index's table from tensor names to shards, all of which are plain file names."""
    content = read_object(index, "a checkpoint index")
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict):
        found = "no such key" if weight_map is None else f"a {type(weight_map).__name__}"
        raise UserError("checkpoint.weight_map", file=index, found=found)
    for name, shard in weight_map.items():
        if not isinstance(shard, str):
            found = f"a {type(shard).__name__} for {name!r:.200}"
            raise UserError("checkpoint.weight_map", file=index, found=found)
    for shard in set(weight_map.values()):
        if not _is_plain(shard):
            raise UserError("checkpoint.shard_name", file=index, shard=shard)
    return weight_map


def _is_plain(shard: str) -> bool:
    """Whether this is the name of a file in the folder itself, on every operating system."""
    if shard in ("", "..") or "\\" in shard or ":" in shard:
        return False
    return shard.isprintable() and Path(shard).name == shard


def _shard(index: Path, shard: str) -> SafetensorsFile:
    path = index.parent / shard
    if not os.path.exists(path):
        raise UserError("checkpoint.no_shard", file=index, shard=shard)
    return SafetensorsFile(path)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The two-dimensional form, for tensors stored without their grouping axes."""
    return (math.prod(shape[:-1]), shape[-1]) if shape else shape


def _packed(shape: tuple[int, ...], dtype: str) -> tuple[int, ...]:
    """The stored form of a logical shape: bytes hold two FP4 codes along the last axis."""
    return (*shape[:-1], -(-shape[-1] // 2)) if shape and CODES.get(dtype) == "f4e2m1" else shape


def _scale_shape(shape: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, ...]:
    """One scale a block, partial blocks included; axes before the block's have one each."""
    whole = (1,) * (len(shape) - len(block)) + block
    return tuple(-(-size // step) for size, step in zip(shape, whole, strict=True))


def _wrong_shape(name: str, file: SafetensorsFile, expected: tuple[int, ...]) -> _Problem:
    found = list(file.entry(name).shape)
    values = {"name": name, "file": file.path, "expected": list(expected), "found": found}
    return _Problem("checkpoint.shape", values)


def _wrong_dtype(name: str, file: SafetensorsFile, expected: tuple[str, ...]) -> _Problem:
    """A float or an integer where a wider one of its kind is needed, or another kind."""
    found = file.entry(name).dtype
    narrower = any(found in kind and expected[0] in kind for kind in (_FLOATS, _INTEGERS))
    code = "checkpoint.narrower" if narrower else "checkpoint.dtype"
    values = {"name": name, "file": file.path, "expected": " or ".join(expected), "found": found}
    return _Problem(code, values)
