"""A model's Hugging Face `config.json`, brought to the one form that model files bind to.

Two dialects describe the same model: the published one (`compress_ratios`, `num_hash_layers`,
`rope_scaling`) and the one that transformers writes (`layer_types`, `mlp_layer_types`,
`rope_parameters`). A file may mix them; where both say the same thing they must agree.
`families` says what each family's keys mean; here the file is read and each key checked.
Wrong input raises `UserError` with a `config.` code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from supertile.frontend.families import FAMILIES
from supertile.frontend.families.common import Rope, Row
from supertile.frontend.families.small import shrink
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.files import read_text
from supertile.ir.json_text import key_spot, parse_json, show_json, spot_at

__all__ = ["Config", "Keys", "Rope", "normalize", "read_config", "shrink", "value_spot"]

T = TypeVar("T")

FILE_LIMIT = 10_000_000  # bytes; published files have some 10,000
SIZE_LIMIT = 2**31


@dataclass(frozen=True)
class Config:
    """One model's configuration, normalised."""

    file: str
    family: str
    """`model_type`"""
    values: Mapping[str, object]
    """Every scalar key of the file, and the normalised ones: int, float, bool or str."""
    ropes: Mapping[str, Rope]
    """deepseek_v4: "sliding" and "compressed"; the others: "main"."""
    layers: tuple[Row, ...]
    """One row a main layer; what a row holds is with its family."""
    draft_layers: tuple[Row, ...]
    """One row a multi-token-prediction layer; deepseek_v4 only."""
    text: str
    """The JSON text, to point at keys."""


def read_config(path: str | Path) -> Config:
    """The configuration in the JSON file at `path`."""
    file = str(path)
    text = read_text(file, "config", FILE_LIMIT)
    return normalize(_parse(file, text), file, text)


def normalize(data: Mapping[str, object], file: str, text: str) -> Config:
    """The configuration in the parsed object `data`, whose JSON text is `text`."""
    keys = Keys(data, file, text)
    family = keys.word("model_type")
    if family not in FAMILIES:
        known, hint = ", ".join(FAMILIES), nearest(family, FAMILIES)
        raise keys.fail("config.family", "model_type", found=family, known=known, hint=hint)
    parts = FAMILIES[family](keys)
    scalars = {key: value for key, value in data.items() if isinstance(value, str | int | float)}
    values = {**scalars, **parts.values}
    return Config(file, family, values, parts.ropes, parts.layers, parts.draft_layers, text)


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
    """The parsed file, read key by key. Dots lead into objects; null counts as absent."""

    data: Mapping[str, object]
    file: str
    text: str

    def get(self, path: str) -> object:
        """The value at `path`; None if any key on the way is absent."""
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
        if not low <= number <= high:
            expected = f"an integer from {low} to {high}" if low < high else str(low)
            raise self.fail("config.range", path, expected=expected, found=show_json(value))
        return number

    def number(self, path: str, default: float | None = None, low: float = 1e-30) -> float:
        """A finite number; above 0 unless `low` says otherwise."""
        value = self._given(path, default, "a number")
        wanted = float if isinstance(value, float) else int
        number = self._typed(path, value, wanted, "a number")
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
        if word not in accepted:
            known, hint = " or ".join(accepted), nearest(word, accepted)
            raise self.fail("config.choice", path, known=known, found=show_json(word), hint=hint)
        return word

    def entries(self, path: str, *counts: int) -> list[object]:
        """The list at `path`, which must have one of the given lengths."""
        found: list[object] = self._typed(path, self._given(path, None, "a list"), list, "a list")
        if len(found) not in counts:
            expected = " or ".join(dict.fromkeys(map(str, counts)))
            raise self.fail("config.length", path, expected=expected, found=len(found))
        return found

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
        part, whole = self.integer(key), self.integer(other)
        if whole % part:
            raise self.fail("config.divide", key, other=other, whole=whole, found=part)

    def within(
        self, key: str, other: str, part: int | None = None, limit: int | None = None
    ) -> None:
        """That `key` is no larger than `other`; numbers derived from them may stand for them."""
        part = self.integer(key) if part is None else part
        limit = self.integer(other) if limit is None else limit
        if part > limit:
            raise self.fail("config.above", key, other=other, limit=limit, found=part)

    def even(self, key: str, channels: int) -> None:
        if channels < 2 or channels % 2:
            raise self.fail("config.odd", key, found=channels)

    def fail(self, code: str, path: str, **values: object) -> UserError:
        """The error about the key at `path`, placed there or at what should hold it."""
        steps = path.partition("[")[0].split(".")
        places = [".".join(steps[:count]) for count in range(len(steps), 0, -1)]
        spots = [key_spot(self.file, self.text, place) for place in places]
        spot = next(filter(None, spots), Spot(self.file, 1, 1))
        return UserError(code, spot, key=path, **values)

    def _given(self, path: str, default: T | None, expected: str) -> object:
        value = self.get(path)
        if value is None and default is None:
            raise self.fail("config.missing", path, expected=expected)
        return default if value is None else value

    def _typed(self, path: str, value: object, kind: type[T], expected: str) -> T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._mistyped(path, expected, value)
        return value

    def _mistyped(self, path: str, expected: str, value: object) -> UserError:
        return self.fail("config.type", path, expected=expected, found=show_json(value))
