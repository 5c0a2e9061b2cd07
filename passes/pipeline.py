"""The list of all passes in their order, the text form of pipelines, and loading by name.

    specialize{tokens=1 batch=8},canonicalize,cse

Options are separated by spaces or commas; values are integers, floats, true, false, none, words
or quoted texts; the items of a list value are separated by commas. `-` and `_` are equal in names
of options. The pass `fuse-norm` is the class of that name in `fuse_norm.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.ir.errors import Spot, UserError, nearest

if TYPE_CHECKING:
    from supertile.passes.rewriting import Pass

# (phase, pass), in the order in which they run. A phase is the level that its passes leave.
PIPELINE: tuple[tuple[str, str], ...] = (
    ("graph", "specialize"),
    ("graph", "canonicalize"),
    ("graph", "cse"),
    ("placed", "shard-attention"),
    ("placed", "legalize-formats"),
    ("placed", "plan-experts"),
    ("placed", "place-comm"),
    ("fused", "fuse-norm"),
    ("fused", "fuse-residual"),
    ("fused", "fuse-attention"),
    ("fused", "fuse-moe"),
    ("tiled", "choose-tiles"),
    ("tiled", "lower-to-tile"),
    ("tiled", "pipeline-loops"),
    ("tiled", "assign-memory"),
    ("scheduled", "overlap-comm"),
    ("scheduled", "build-schedule"),
)

Extra = Mapping[str, "type[Pass]"]
NONE: Extra = {}


# ---- passes by name ----------------------------------------------------------------------------


def pass_names() -> list[str]:
    """The names of the passes that exist, in the order of the pipeline."""
    return [name for _, name in PIPELINE if pass_file(name).exists()]


def phase_of(name: str) -> str | None:
    """The phase that a pass belongs to; None for one that is not in the pipeline."""
    return next((phase for phase, known in PIPELINE if known == name), None)


def pass_file(name: str) -> Path:
    """The file that bears the name of the pass."""
    return Path(__file__).with_name(name.replace("-", "_") + ".py")


def load_pass(name: str) -> type[Pass]:
    """The class of a pass, imported only now: a command pays for the passes that it runs."""
    module = importlib.import_module(f"supertile.passes.{pass_file(name).stem}")
    found: type[Pass] = next(
        value
        for value in vars(module).values()
        if getattr(value, "__module__", None) == module.__name__
        and getattr(value, "name", None) == name
    )
    return found


# ---- text to passes ----------------------------------------------------------------------------

SPACE = re.compile(r"\s*")
NAME = re.compile(r"[A-Za-z][\w-]*")
OPTION = re.compile(r"([A-Za-z_][\w-]*)\s*=\s*")
VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,{}="]+')


def parse_pipeline(text: str, extra: Extra = NONE) -> list[Pass]:
    """The passes that a pipeline text names; `extra` are passes that are in no file."""
    return _Reader(text, extra).pipeline()


class _Reader:
    """A pipeline text and the position up to which it is read."""

    def __init__(self, text: str, extra: Extra) -> None:
        self.text = text
        self.extra = extra
        self.position = 0

    def pipeline(self) -> list[Pass]:
        self.take(SPACE)
        if self.position == len(self.text):
            return []
        passes = [self.one_pass()]
        while self.take_character(","):
            passes.append(self.one_pass())
        if self.position < len(self.text):
            raise self.error("pass.syntax", expected="a comma, or the end", found=self.rest())
        return passes

    def one_pass(self) -> Pass:
        self.take(SPACE)
        start = self.position
        name = self.take(NAME)
        if not name:
            raise self.error("pass.syntax", expected="the name of a pass", found=self.rest())
        kind = self.find(name, start)
        options = self.options(kind) if self.take_character("{") else {}
        for field in dataclasses.fields(kind):
            if field.name not in options and _default(field) is dataclasses.MISSING:
                expected = type_text(_types(kind)[field.name])
                raise self.error(
                    "pass.option_missing", start, name=name, option=field.name, expected=expected
                )
        return kind(**options)

    def find(self, name: str, start: int) -> type[Pass]:
        if name in self.extra:
            return self.extra[name]
        known = [*pass_names(), *self.extra]
        if name in known:
            return load_pass(name)
        suggestion = nearest(name.replace("_", "-"), known)
        known_text = ", ".join(known)
        raise self.error("pass.unknown", start, name=name, known=known_text, suggestion=suggestion)

    def options(self, kind: type[Pass]) -> dict[str, Any]:
        """What stands between the braces; the opening one is read."""
        found: dict[str, Any] = {}
        while not self.take_character("}"):
            start = self.position
            match = OPTION.match(self.text, start)
            if match is None:
                raise self.error("pass.syntax", expected="option=value, or }", found=self.rest())
            self.position = match.end()
            key = self.option_name(kind, match[1], start)
            if key in found:
                raise self.error("pass.option_twice", start, name=kind.name, option=match[1])
            found[key] = self.value(kind, key)
            self.take_character(",")
        return found

    def option_name(self, kind: type[Pass], written: str, start: int) -> str:
        known = [field.name for field in dataclasses.fields(kind)]
        name = written.replace("-", "_")
        if name in known:
            return name
        raise self.error(
            "pass.unknown_option",
            start,
            name=kind.name,
            option=written,
            known=f"one of {', '.join(known)}" if known else "no options: it has none",
            suggestion=nearest(name, known),
        )

    def value(self, kind: type[Pass], key: str) -> Any:
        start = self.position
        words = [self.take(VALUE)]
        # After a comma comes an item of this list, or the next option.
        while (position := self.next_item()) is not None:
            self.position = position
            words.append(self.take(VALUE))
        expected = _types(kind)[key]
        if "" not in words:
            for candidate in _candidates(words):
                if _is_of(candidate, expected):
                    return candidate
        raise self.error(
            "pass.option_value",
            start,
            name=kind.name,
            option=key,
            expected=type_text(expected),
            found=self.text[start : self.position] or self.rest(),
        )

    def next_item(self) -> int | None:
        match = re.compile(r"\s*,\s*").match(self.text, self.position)
        if match is None or not VALUE.match(self.text, match.end()):
            return None
        return None if OPTION.match(self.text, match.end()) else match.end()

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def take_character(self, character: str) -> bool:
        """Read the character if it is next, and the space around it in any case."""
        self.take(SPACE)
        if not self.text.startswith(character, self.position):
            return False
        self.position += 1
        self.take(SPACE)
        return True

    def rest(self) -> str:
        return repr(self.text[self.position :]) if self.text[self.position :] else "the end"

    def error(self, code: str, position: int | None = None, **values: Any) -> UserError:
        at = self.position if position is None else position
        line = self.text.count("\n", 0, at) + 1
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        spot = Spot("<pipeline>", line, column, self.text.split("\n")[line - 1])
        return UserError(code, spot, **values)


def _candidates(words: list[str]) -> list[Any]:
    """What the words may stand for, best first: a number for a float is also written as 1."""
    items = [_scalar(word) for word in words]
    if len(items) > 1:
        return [tuple(items), tuple(map(_as_float, items))]
    one = items[0]
    plain = [] if words[0].startswith('"') else [words[0]]
    return [one, _as_float(one), (one,), (_as_float(one),), *plain]


def _scalar(word: str) -> Any:
    named = {"true": True, "false": False, "none": None}
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1], flags=re.DOTALL)
    if word in named:
        return named[word]
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", word):
        return float(word)
    return word


def _as_float(value: Any) -> Any:
    return float(value) if type(value) is int else value


# ---- types of options --------------------------------------------------------------------------


def _types(kind: type[Pass]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of an option's type; a bool is no int here."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_is_of(value, part) for part in parts)
    if origin is typing.Literal:
        return value in parts
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, parts[0]) for item in value)
    return value is None if kind is types.NoneType else type(value) is kind


TYPE_TEXTS: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a word or a quoted text",
    types.NoneType: "none",
}


def type_text(kind: Any) -> str:
    """The type of an option in words."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(type_text(part) for part in parts)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin is tuple:
        return f"a list, each {type_text(parts[0])}"
    return TYPE_TEXTS[kind]


# ---- passes to text ----------------------------------------------------------------------------


def pipeline_text(passes: Sequence[Pass]) -> str:
    """The text that `parse_pipeline` reads as these passes; options at their default are not in."""
    return ",".join(map(_pass_text, passes))


def options_of(one: Pass) -> dict[str, Any]:
    """The options of a pass that differ from their default."""
    values = {field: getattr(one, field.name) for field in dataclasses.fields(one)}
    return {field.name: value for field, value in values.items() if value != _default(field)}


def _pass_text(one: Pass) -> str:
    options = " ".join(f"{key}={_value_text(value)}" for key, value in options_of(one).items())
    return f"{one.name}{{{options}}}" if options else one.name


def _value_text(value: Any) -> str:
    match value:
        case tuple():
            return ",".join(map(_value_text, value))
        case bool() | None:
            return str(value).lower()
        case str():
            return value if _is_word(value) else '"' + re.sub(r'([\\"])', r"\\\1", value) + '"'
        case _:
            return repr(value)


def _is_word(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z][\w.-]*", text) is not None and _scalar(text) == text
