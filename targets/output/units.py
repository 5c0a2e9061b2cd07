"""Numbers as people read them: three digits, and the unit that keeps them between 1 and 1000."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

LARGE = ("", "k", "M", "G", "T", "P", "E")
SMALL = ("s", "ms", "µs", "ns")
NOT_APPLICABLE = "not applicable"


def seconds_text(seconds: float) -> str:
    """0.00123 -> "1.23 ms"."""
    if not math.isfinite(seconds):
        return str(seconds)
    for power, unit in enumerate(SMALL):
        scaled = seconds * 1000**power
        if abs(scaled) >= 0.9995 or unit == SMALL[-1]:
            return f"{_digits(scaled)} {unit}"
    raise AssertionError("the last unit always returns")


def scaled_text(value: float, unit: str) -> str:
    """1.5e9, "B" -> "1.5 GB"; powers of 1000."""
    if not math.isfinite(value):
        return f"{value} {unit}".rstrip()
    power = 0
    while abs(value) >= 999.5 and power < len(LARGE) - 1:
        value, power = value / 1000, power + 1
    return f"{_digits(value)} {LARGE[power]}{unit}".rstrip()


def bytes_text(value: float) -> str:
    return scaled_text(value, "B")


def share_text(share: float) -> str:
    """0.1234 -> "12.3 %"; what is there but small is not shown as nothing."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def number_text(value: float) -> str:
    """Up to six digits, thousands apart: 28414.25 -> "28,414.2"."""
    if isinstance(value, int) or not math.isfinite(value):
        return f"{value:,}"
    if abs(value) >= 100_000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if abs(value) >= 1000 else _digits(value, 4)


def _digits(value: float, digits: int = 3) -> str:
    """`digits` significant digits, without trailing zeros and without an exponent."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - Decimal(value).adjusted())
    text = f"{value:.{min(decimals, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


# ---- fields of the summary ---------------------------------------------------------------------


def label_text(key: str) -> str:
    """The name of a summary field without the unit of a time: "step_ms" -> "step"."""
    for suffix in ("_ms", "_us", "_seconds"):
        key = key.removesuffix(suffix)
    return key.replace("_", " ")


def value_text(key: str, value: object) -> str:
    """A value of the summary, with the unit that the end of its key names."""
    if value is None:
        return NOT_APPLICABLE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        parts = (f"{label_text(str(part))} {part_text(key, part, v)}" for part, v in value.items())
        return ", ".join(parts) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(key, part) for part in value) or "none"
    if isinstance(value, int | float):
        return _measured(key, value)
    return str(value)


def part_text(key: str, part: object, value: object) -> str:
    """A part of the value of a field, with the unit that its own name ends in, or the whole's.

    The whole is what stands before "_by_": memory_bytes_by_purpose has weights, caches, ...
    """
    own = any(str(part).endswith(suffix) for suffix in ("_ms", "_us", "_seconds", "_bytes"))
    return value_text(str(part) if own else key.partition("_by_")[0], value)


def _measured(key: str, value: float) -> str:
    if key.endswith(("_bytes", "_bytes_per_device")):
        return bytes_text(value)
    for suffix, unit in (("_ms", "ms"), ("_us", "µs"), ("_seconds", "s")):
        if key.endswith(suffix):
            return f"{number_text(value)} {unit}"
    return number_text(value)
