"""Numbers that may be one value or a sweep: the same arithmetic serves floats and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from supertile.ir.formula import Formula

Value = Any
"""An int or a float, or an array of them: one for each point of a sweep."""


def value_of(size: Formula | Value, values: Mapping[str, Value]) -> Value:
    """A size as a number or an array."""
    return size.evaluate(values) if isinstance(size, Formula) else size


def is_array(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0


def plain(value: Value) -> Value:
    """A NumPy scalar as a Python float; arrays as they are."""
    return value if is_array(value) else float(value)


def ceil_divide(size: Value, step: Value) -> Value:
    """ceil(size / step), exact for whole numbers up to 2^53."""
    return np.ceil(np.true_divide(size, step))


def largest(*terms: Value) -> Value:
    """The largest of the terms, point by point."""
    result = terms[0]
    for term in terms[1:]:
        result = np.maximum(result, term)
    return result


def number_text(value: Value, unit: str = "") -> str:
    """A value for people: 4 digits, an array by its ends, times and bytes in a fitting unit."""
    if is_array(value):
        low, high = float(np.min(value)), float(np.max(value))
        return f"{number_text(low, unit)} to {number_text(high, unit)}"
    scales = SCALES.get(unit, ((1.0, unit),))
    scale, name = next((s for s in scales if abs(value) >= s[0]), scales[-1])
    return f"{float(value) / scale:.4g} {name}".rstrip()


# Unit -> multiples, the largest first.
SCALES: dict[str, tuple[tuple[float, str], ...]] = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")),
    "B": ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B")),
    "B/s": ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1.0, "B/s")),
    "FLOP/s": ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1.0, "FLOP/s")),
}
