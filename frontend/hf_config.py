"""A model's Hugging Face `config.json`: the file as it stands, and each key checked as it is read.

What the keys mean is said by the model file (`settle`), and for dialects that compute by a function
of `families`. Wrong input raises `UserError` with a `config.` code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Literal, TypeVar

from supertile.frontend.config_formats import refuse_descriptions
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.files import read_text
from supertile.ir.json_text import first_spot, key_spot, parse_json, show_json, spot_at

T = TypeVar("T")

FILE_LIMIT = 10_000_000  # bytes; published files have some 10,000
SIZE_LIMIT = 2**31


@dataclass(frozen=True)
class Config:
    """One model's configuration, as its file states it."""

    file: str
    family: str
    """`model_type`"""
    data: Mapping[str, object]
    """The object of the file"""
    text: str
    """The JSON text, to point at keys."""
    small: Literal["", "whole", "split"] = ""
    """Read with tiny sizes; "split": such that two ranks share them without cutting a block."""

    @cached_property
    def values(self) -> Mapping[str, object]:
        """Every scalar key of the file: int, float, bool or str."""
        scalars = (str, int, float)
        return {key: value for key, value in self.data.items() if isinstance(value, scalars)}


def read_config(path: str | Path) -> Config:
    """The configuration in the JSON file at `path`."""
    file = str(path)
    text = read_text(file, "config", FILE_LIMIT)
    config = normalize(_parse(file, text), file, text)
    refuse_descriptions(Path(file))
    return config


def normalize(data: Mapping[str, object], file: str, text: str) -> Config:
    """The configuration in the parsed object `data`, whose JSON text is `text`."""
    keys = Keys(data, file, text)
    family = keys.word("model_type")
    if keys.missing:
        raise keys.incomplete()
    return Config(file, family, data, text)


def shrink(config: Config, is_split: bool = False) -> Config:
    """The same family with tiny sizes and one layer of each kind, in order of first appearance.

    No size grows. If all layers are alike there are two of them, so that one follows another. With
    `is_split` two ranks can share the sizes without cutting a block of codes.
    """
    return replace(config, small="split" if is_split else "whole")


def value_spot(config: Config, key: str) -> Spot | None:
    """Where `key` stands in the configuration's text; dots lead into objects."""
    return key_spot(config.file, config.text, key)


def _parse(file: str, text: str) -> dict[str, object]:
    """The object that the JSON text holds."""
    data = parse_json(file, text, "config")
    if not isinstance(data, dict):
        raise UserError("config.object", spot_at(file, text, 0), found=show_json(data))
    return data


# ---- reading with checks


@dataclass(frozen=True)
class Keys:
    """The parsed file, read key by key. Dots lead into objects.

    Null is a value, which `get` gives as None; where a number or a word is needed it is none.
    """

    data: Mapping[str, object]
    file: str
    text: str
    read: set[str] = field(default_factory=set)
    """What was looked up, so that what nobody read can be told."""
    missing: dict[str, str] = field(default_factory=dict)
    """Keys that are needed and absent, and what each must be: they are told together."""

    def checking(self) -> Keys:
        """The same file for checks only: a number that is checked is not thereby followed."""
        return replace(self, read=set())

    def get(self, path: str) -> object:
        """The value at `path`; None if it is null or any key on the way is absent."""
        self.read.add(path)
        steps = path.split(".")
        value: object = self.data
        for count, step in enumerate(steps):
            if not isinstance(value, Mapping):
                raise self._mistyped(".".join(steps[:count]), "an object", value)
            value = value.get(step)
            if value is None:
                return None
        return value

    def integer(
        self, path: str, default: int | None = None, low: int = 1, high: int = SIZE_LIMIT
    ) -> int:
        return self.bounded(path, self._given(path, default, "an integer"), low, high)

    def bounded(self, path: str, value: object, low: int, high: int = SIZE_LIMIT) -> int:
        """`value`, which must be an integer from `low` to `high`."""
        number = self._typed(path, value, int, "an integer")
        if path in self.missing:
            return max(low, number)
        if not low <= number <= high:
            expected = f"an integer from {low} to {high}" if low < high else str(low)
            raise self.fail("config.range", path, expected=expected, found=show_json(value))
        return number

    def number(self, path: str, default: float | None = None, low: float = 1e-30) -> float:
        """A finite number; above 0 unless `low` says otherwise."""
        value = self._given(path, default, "a number")
        wanted = float if isinstance(value, float) else int
        number = self._typed(path, value, wanted, "a number")
        if path in self.missing:
            return max(low, float(number))
        if not low <= number <= 1e30:
            expected = "a number above 0" if low == 1e-30 else f"a number of {low:g} or more"
            raise self.fail("config.range", path, expected=expected, found=show_json(value))
        return float(number)

    def flag(self, path: str, default: bool | None = None) -> bool:
        return self._typed(path, self._given(path, default, "a flag"), bool, "true or false")

    def word(self, path: str, default: str | None = None) -> str:
        return self._typed(path, self._given(path, default, "a string"), str, "a string")

    def choice(self, path: str, accepted: Sequence[str], default: str | None = None) -> str:
        return self.among(path, self._given(path, default, "a string"), accepted)

    def among(self, path: str, value: object, accepted: Sequence[str]) -> str:
        """`value`, which must be one of the accepted strings."""
        word = self._typed(path, value, str, "a string")
        if path in self.missing:
            return accepted[0]
        if word not in accepted:
            known, hint = " or ".join(accepted), nearest(word, accepted)
            raise self.fail("config.choice", path, known=known, found=show_json(word), hint=hint)
        return word

    def entries(self, path: str, *counts: int) -> list[object]:
        """The list at `path`, which must have one of the given lengths."""
        found: list[object] = self._typed(path, self._given(path, None, "a list"), list, "a list")
        if self.missing and len(found) not in counts:  # its length may be what is missing
            return list(islice(cycle(found or [0]), counts[0]))
        if len(found) not in counts:
            expected = " or ".join(dict.fromkeys(map(str, counts)))
            raise self.fail("config.length", path, expected=expected, found=len(found))
        return found

    def whole_numbers(self, path: str) -> tuple[int, ...]:
        """The integers of the list at `path`, of 0 and more."""
        entries = self._typed(path, self._given(path, None, "a list"), list, "a list")
        return tuple(self.bounded(f"{path}[{i}]", entry, 0) for i, entry in enumerate(entries))

    def agreed(self, read: Callable[[str], T], *paths: str, default: T | None = None) -> T:
        """The one value that every present path gives."""
        present = [path for path in paths if self.get(path) is not None]
        if not present and default is not None:
            return default
        first = read(present[0] if present else paths[0])
        for path in present[1:]:
            if read(path) != first:
                raise self.contradiction(present[0], path, first, read(path))
        return first

    def contradiction(
        self, key: str, other: str, first: object, second: object, where: str = ""
    ) -> UserError:
        """The error that two keys disagree; of two tables, about the first entry that differs."""
        if isinstance(first, list) and isinstance(second, list):
            first = {f"layer {index}": entry for index, entry in enumerate(first)}
            second = {f"layer {index}": entry for index, entry in enumerate(second)}
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            name = next(name for name in {**first, **second} if first.get(name) != second.get(name))
            first, second, where = first.get(name), second.get(name), f" on {name}"
        found = {"first": show_json(first), "second": show_json(second)}
        return self.fail("config.contradiction", other, first_key=key, where=where, **found)

    def divides(self, key: str, other: str) -> None:
        checks = self.checking()
        part, whole = checks.integer(key), checks.integer(other)
        if not self.missing and whole % part:
            raise self.fail("config.divide", key, other=other, whole=whole, found=part)

    def within(
        self, key: str, other: str, part: int | None = None, limit: int | None = None
    ) -> None:
        """That `key` is no larger than `other`; numbers derived from them may stand for them."""
        checks = self.checking()
        part = checks.integer(key) if part is None else part
        limit = checks.integer(other) if limit is None else limit
        if not self.missing and part > limit:
            raise self.fail("config.above", key, other=other, limit=limit, found=part)

    def even(self, key: str, channels: int) -> None:
        if self.missing:
            return
        if channels < 2 or channels % 2:
            raise self.fail("config.odd", key, found=channels)

    def fail(self, code: str, path: str, **values: object) -> UserError:
        """The error about the key at `path`, placed there or at what should hold it."""
        steps = path.partition("[")[0].split(".")
        places = [".".join(steps[:count]) for count in range(len(steps), 0, -1)]
        return UserError(code, first_spot(self.file, self.text, *places), key=path, **values)

    def _given(self, path: str, default: T | None, expected: str) -> object:
        value = self.get(path)
        if value is None and default is None:
            self.missing.setdefault(path, expected)
            return STAND_INS[expected]
        return default if value is None else value

    def incomplete(self) -> UserError:
        """The error about all keys that are missing."""
        null = [key for key in self.missing if self._is_null(key)]
        absent = [key for key in self.missing if key not in null]
        parts = [_listing(names, what) for names, what in ((absent, "missing"), (null, "null"))]
        kinds = [f"`{key}` {kind}" for key, kind in self.missing.items()]
        expected = ", ".join(kinds) if len(kinds) > 1 else next(iter(self.missing.values()))
        told = " and ".join(filter(None, parts))
        return self.fail("config.missing", next(iter(self.missing)), keys=told, expected=expected)

    def _is_null(self, path: str) -> bool:
        outer, _, key = path.rpartition(".")
        place = self.get(outer) if outer else self.data
        return isinstance(place, Mapping) and key in place

    def _typed(self, path: str, value: object, kind: type[T], expected: str) -> T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._mistyped(path, expected, value)
        return value

    def _mistyped(self, path: str, expected: str, value: object) -> UserError:
        return self.fail("config.type", path, expected=expected, found=show_json(value))


STAND_INS: dict[str, object] = {
    "an integer": 1, "a number": 1.0, "a flag": True, "a string": "", "a list": [],
}  # fmt: skip
"""What takes the place of a missing key while the others are read."""


def _listing(names: Sequence[str], what: str) -> str:
    """`the keys a, b are missing`; nothing of no names."""
    quoted = ", ".join(f"`{name}`" for name in names)
    if len(names) < 2:
        return quoted and f"the key {quoted} is {what}"
    return f"the keys {quoted} are {what}"
