"""Records and pins named values while a session runs.

Rows over tokens are put together to [B, S, ...] over all calls, rows over windows of r tokens to
[B, windows, ...]; other values keep the last call. What has rows can be pinned the same way: rows
that a pin does not have are computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from supertile.ir.errors import UserError, nearest
from supertile.ir.hints import slips_of
from supertile.ir.work import function_shapes
from supertile.runtime.numerics import Scaled
from supertile.runtime.pins import Rule, checked
from supertile.runtime.plan import Step

LAYER = re.compile(r"(?<=\.)[0-9]+(?=\.)")
"""The number of a layer in the name of a value."""
WINDOWS = "windows"  # as leading_sizes names them, followed by their tokens
SHARE = "share"  # followed by the ranks that have a part each: together the tokens

KINDS = {"f": "fiu", "i": "iu", "b": "b"}
"""Of a value: what a pin may hold instead. Floats hold integers; integers hold no floats."""


class _Rows(NamedTuple):
    """The rows of a value of one call: row i is row `at[i]` of sequence `sequence[i]`."""

    sequence: NDArray[Any]
    at: NDArray[Any]
    held: NDArray[Any]


@dataclass
class Coverage:
    """How many of the rows that a run computed a pin took the place of."""

    what: str
    """What a row is: a position, or a window."""
    pinned: int = 0
    total: int = 0

    def text(self) -> str:
        plural = "" if self.total == 1 else "s"
        part = "all" if self.pinned == self.total else f"{self.pinned} of"
        return f"{part} {self.total} {self.what}{plural}"


@dataclass
class Recorder:
    """What `--trace` collects and `--pin` replaces."""

    patterns: tuple[str, ...] = ()
    pins: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    domains: dict[Any, str] = field(default_factory=dict)
    """op -> the name of the leading size of its first result; found when needed."""
    rows: dict[str, list[_Rows]] = field(default_factory=dict)
    last: dict[str, NDArray[Any]] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)
    """Every name that came by, in order."""
    sequence: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    position: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    length: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    rules: Mapping[str, Rule] = field(default_factory=dict)
    """What pins of choices may be, by the name of the value."""
    coverage: dict[str, Coverage] = field(default_factory=dict)
    """By the name of each pin that was used: how many rows of the value it took the place of."""

    def check(self, names: Iterable[Iterable[str]]) -> None:
        """Raise unless every pin is for one of these names: lists, one for each entry."""
        if not self.pins:
            return
        known = dict.fromkeys(name for some in names for name in some)
        for pin in self.pins:
            if pin not in known:
                raise UserError("run.pin_unused", name=pin, hint=value_hint(pin, [*known]))

    def begin(self, sequence: NDArray[Any], position: NDArray[Any], length: NDArray[Any]) -> None:
        """The tokens of the next call."""
        self.sequence, self.position, self.length = sequence, position, length

    def wants(self, name: str) -> bool:
        """Whether `watch` does anything with the value of this name."""
        return name in self.pins or any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def watch(self, name: str, value: Any, step: Step) -> Any:
        """Called for every named value; returns the value that the program goes on with."""
        self.seen.setdefault(name)
        if name in self.pins:
            value = self._pinned(name, value, step)
        if any(fnmatchcase(name, pattern) for pattern in self.patterns):
            self._record(name, value, step)
        return value

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything recorded, in the order of the names; absent rows are NaN or -1."""
        result = dict(self.last)
        for name, parts in self.rows.items():
            result[name] = _assembled(parts, len(self.length))
        return dict(sorted(result.items()))

    def _pinned(self, name: str, value: Any, step: Step) -> NDArray[Any]:
        pin, places = self.pins[name], self.places(step)
        if places is None or isinstance(value, Scaled):
            raise UserError("run.pin_rows", name=name)
        if pin.ndim < 2 or pin.shape[2:] != value.shape[1:]:
            wanted = ["sequences", "rows", *value.shape[1:]]
            raise UserError("run.pin_shape", name=name, wanted=wanted, found=list(pin.shape))
        if pin.dtype.kind not in KINDS[value.dtype.kind]:
            raise UserError("run.pin_dtype", name=name, wanted=value.dtype, found=pin.dtype)
        sequence, at = places
        known = np.flatnonzero((sequence < pin.shape[0]) & (at < pin.shape[1]))
        pinned_places = sequence[known], at[known]
        result = np.array(value)
        result[known] = checked(
            name, pin[pinned_places], result[known], pinned_places, self.rules.get(name)
        )
        is_window = self._domain(step.op).startswith(WINDOWS)
        covered = self.coverage.setdefault(name, Coverage("window" if is_window else "position"))
        covered.pinned += len(known)
        covered.total += len(sequence)
        return result

    def _record(self, name: str, value: Any, step: Step) -> None:
        held = value.dequantize() if isinstance(value, Scaled) else np.array(value)
        places = self.places(step)
        if places is None:
            self.last[name] = held
        else:
            self.rows.setdefault(name, []).append(_Rows(*places, held))

    def places(self, step: Step) -> tuple[NDArray[Any], NDArray[Any]] | None:
        """Sequence and number of each row; None for what has no rows over tokens or windows."""
        domain = self._domain(step.op)
        if domain == "T" or domain.startswith(SHARE):
            return self.sequence, self.position
        if domain.startswith(WINDOWS):
            return self._windows(int(domain.removeprefix(WINDOWS).removeprefix(":")))
        return None

    def _domain(self, op: Operation) -> str:
        if op not in self.domains:
            function = op.parent_op()
            while function is not None and not isinstance(function, func.FuncOp):
                function = function.parent_op()
            assert function is not None, "steps come from functions"
            self.domains = {**self.domains, op: "", **_function_sizes(function)}
        return self.domains[op]

    def _windows(self, ratio: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sequence and number of the windows that the call completes."""
        complete = (self.position + 1) % ratio == 0
        return self.sequence[complete], self.position[complete] // ratio


def value_hint(name: str, known: Sequence[str], otherwise: str = "") -> str:
    """What a name or pattern of values may mean: a slip, or one with the same last word anywhere
    in the program, and what stands beside it there; else `otherwise`."""
    slip = nearest(name, known)
    if slip:
        return slip
    last = name.rpartition(".")[2].strip("*")
    words = dict.fromkeys(other.rpartition(".")[2] for other in known)
    meant = [last] if last in words else slips_of(last, words)
    layer = LAYER.findall(name)
    like = [
        at
        for at, other in enumerate(known)
        if other.rpartition(".")[2] in meant[:1] and (not layer or LAYER.findall(other) == layer)
    ]
    if not like:
        return otherwise
    (at, part) = like[0], known[like[0]].rpartition(".")[0]
    neighbours = [*known[max(at - 1, 0) : at], *known[at + 1 : at + 2]]
    beside = [other for other in neighbours if other.rpartition(".")[0] == part]
    first, *rest = (LAYER.sub("*", text) if "*" in name else text for text in (known[at], *beside))
    return f"a name like it is {first}" + (f", beside {' and '.join(rest)}" if rest else "")


def _assembled(parts: list[_Rows], batch: int) -> NDArray[Any]:
    count = max((int(part.at.max()) + 1 for part in parts if len(part.at)), default=0)
    inner = np.max([part.held.shape[1:] for part in parts], axis=0).astype(int)
    kind = parts[0].held.dtype
    fill: Any = {"f": np.nan, "i": -1}.get(kind.kind, 0)
    result: NDArray[Any] = np.full((batch, count, *inner), fill, kind)
    for part in parts:
        where: Any = tuple(slice(0, size) for size in part.held.shape[1:])
        result[(part.sequence, part.at, *where)] = part.held
    return result


def leading_sizes(module: ModuleOp) -> dict[Any, str]:
    """op -> the name of the leading size of its first result: T, windows4, ..."""
    domains: dict[Any, str] = {}
    for function in module.ops:
        if isinstance(function, func.FuncOp):
            domains |= _function_sizes(function)
    return domains


def _function_sizes(function: func.FuncOp) -> dict[Any, str]:
    return {
        value.op: str(shape[0])
        for value, shape in function_shapes(function).items()
        if shape and hasattr(value, "op") and value.op.results[0] is value
    }
