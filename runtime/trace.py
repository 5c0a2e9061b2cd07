"""Records and pins named values while a session runs.

Rows over tokens are put together to [B, S, ...] over all calls, rows over windows of r tokens to
[B, windows, ...]; other values keep the last call. What has rows can be pinned the same way: rows
that a pin does not have are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from supertile.ir.errors import UserError, nearest
from supertile.ir.work import function_shapes
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import Step

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
class Recorder:
    """What `--trace` collects and `--pin` replaces."""

    patterns: tuple[str, ...] = ()
    pins: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    domains: dict[Any, str] = field(default_factory=dict)
    """op -> the name of the leading size of its first result; found when needed."""
    rows: dict[str, list[_Rows]] = field(default_factory=dict)
    last: dict[str, NDArray[Any]] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    seen: dict[str, None] = field(default_factory=dict)
    """Every name that came by, in order."""
    sequence: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    position: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    length: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))

    def check(self, names: Iterable[Iterable[str]]) -> None:
        """Raise unless every pin is for one of these names: lists, one for each entry."""
        if not self.pins:
            return
        known = {name for some in names for name in some}
        for pin in self.pins:
            if pin not in known:
                raise UserError("run.pin_unused", name=pin, hint=nearest(pin, known))

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
        self.pinned.add(name)
        sequence, at = places
        known = np.flatnonzero((sequence < pin.shape[0]) & (at < pin.shape[1]))
        result = np.array(value)
        result[known] = pin[sequence[known], at[known]]
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
