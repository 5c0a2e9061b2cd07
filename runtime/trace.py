"""Records and pins named values while a session runs.

Rows over tokens are put together to [B, S, ...] over all calls, rows over windows of r tokens to
[B, windows, ...]; other values keep the last call. Selections can be pinned the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from supertile.ir.work import function_shapes
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import Step


@dataclass
class Recorder:
    """What `--trace` collects and `--pin` replaces."""

    patterns: tuple[str, ...] = ()
    pins: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    domains: Mapping[Any, str] = field(default_factory=dict)
    """op -> the name of the leading size of its first result."""
    rows: dict[str, list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]] = field(
        default_factory=dict
    )
    last: dict[str, NDArray[Any]] = field(default_factory=dict)
    pinned: set[str] = field(default_factory=set)
    seen: dict[str, None] = field(default_factory=dict)
    """Every name that came by, in order."""
    sequence: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    position: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))
    length: NDArray[Any] = field(default_factory=lambda: np.zeros(0, np.int32))

    def begin(self, sequence: NDArray[Any], length: NDArray[Any]) -> None:
        """The tokens of the next call."""
        self.sequence, self.length = sequence, length
        counts = np.bincount(sequence, minlength=len(length))
        offset = np.arange(len(sequence)) - (np.cumsum(counts) - counts)[sequence]
        self.position = length[sequence] + offset

    def watch(self, name: str, value: Any, step: Step) -> Any:
        """Called for every named value; returns the value that the program goes on with."""
        self.seen.setdefault(name)
        if name in self.pins:
            value = self._pinned(name, value)
        if any(fnmatchcase(name, pattern) for pattern in self.patterns):
            self._record(name, value, self.domains.get(step.op, ""))
        return value

    def _pinned(self, name: str, value: Any) -> Any:
        pin = self.pins[name]
        self.pinned.add(name)
        known = (self.sequence < pin.shape[0]) & (self.position < pin.shape[1])
        if pin.shape[2:] != value.shape[1:]:
            raise ValueError(f"pin {name} has rows {pin.shape[2:]}, the value {value.shape[1:]}")
        result = np.array(value)
        rows = np.flatnonzero(known)
        result[rows] = pin[self.sequence[rows], self.position[rows]]
        return result

    def _record(self, name: str, value: Any, domain: str) -> None:
        held = value.dequantize() if isinstance(value, Scaled) else np.array(value)
        if domain == "T":
            self.rows.setdefault(name, []).append((self.sequence, self.position, held))
        elif domain.startswith("windows"):
            sequence, number = self._windows(int(domain.removeprefix("windows")))
            self.rows.setdefault(name, []).append((sequence, number, held))
        else:
            self.last[name] = held

    def _windows(self, ratio: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sequence and number of the windows that the call completes."""
        counts = np.bincount(self.sequence, minlength=len(self.length))
        first, last = self.length // ratio, (self.length + counts) // ratio
        sequence = np.repeat(np.arange(len(counts)), last - first)
        numbers = [np.arange(a, b) for a, b in zip(first, last, strict=True)]
        return sequence, np.concatenate(numbers) if numbers else np.zeros(0, np.int64)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything recorded, in the order of the names; absent rows are NaN or -1."""
        result = dict(self.last)
        for name, parts in self.rows.items():
            result[name] = _assembled(parts, len(self.length))
        return dict(sorted(result.items()))


def _assembled(
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], batch: int
) -> NDArray[Any]:
    rows = max((int(at.max()) + 1 for _, at, _ in parts if len(at)), default=0)
    width = max((held.shape[1:] for _, _, held in parts), default=())
    kind = parts[0][2].dtype
    fill: Any = np.nan if kind.kind == "f" else -1 if kind.kind == "i" else 0
    inner = tuple(max(held.shape[1:][i] for _, _, held in parts) for i in range(len(width)))
    result = np.full((batch, rows, *inner), fill, kind)
    for sequence, at, held in parts:
        where = tuple(slice(0, size) for size in held.shape[1:])
        result[(sequence, at, *where)] = held
    return result


def leading_sizes(module: ModuleOp) -> dict[Any, str]:
    """op -> the name of the leading size of its first result: T, windows4, ..."""
    domains: dict[Any, str] = {}
    for function in module.ops:
        if not isinstance(function, func.FuncOp):
            continue
        for value, shape in function_shapes(function).items():
            if shape and hasattr(value, "op") and value.op.results[0] is value:
                domains[value.op] = str(shape[0])
    return domains
