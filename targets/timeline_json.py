"""A timeline as JSON text and back, so that an answer can be kept."""

from __future__ import annotations

import collections.abc
import json
from dataclasses import asdict, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from supertile.targets.timeline import Timeline


def timeline_text(timeline: Timeline) -> str:
    return json.dumps(asdict(timeline), separators=(",", ":"))


def timeline_of(text: str) -> Timeline:
    """The timeline of a text. ValueError, KeyError or TypeError for a text of something else."""
    made = _read(Timeline, json.loads(text))
    assert isinstance(made, Timeline)
    return made


def _read(kind: Any, value: Any) -> Any:
    """A value of a type from its JSON form."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise ValueError(f"expected the fields of {kind}")
        return kind(**{name: _read(hints[name], held) for name, held in value.items()})  # type: ignore[operator]
    origin, parts = get_origin(kind), get_args(kind)
    if origin is tuple:
        kinds = [parts[0]] * len(value) if parts[1:] == (Ellipsis,) else parts
        return tuple(_read(part, item) for part, item in zip(kinds, value, strict=True))
    if origin is collections.abc.Mapping:
        return {key: _read(parts[1], item) for key, item in value.items()}
    return value
