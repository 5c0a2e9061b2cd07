"""The units that a machine file may use, and the number formats that it may name.

Every figure is held in SI units: bytes, bytes a second, operations a second, seconds, hertz. A
multiply-add counts as two operations. `KB` is 1000 bytes and `KiB` 1024.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

DECIMAL = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}

# Dimension -> unit -> how many SI units one of it is.
UNITS: dict[str, dict[str, float]] = {
    "bytes": {f"{prefix}B": size for prefix, size in {**DECIMAL, **BINARY}.items()},
    "bandwidth": {
        **{f"{prefix}B/s": size for prefix, size in {**DECIMAL, **BINARY}.items()},
        **{f"{prefix}bit/s": size / 8 for prefix, size in DECIMAL.items()},
    },
    "rate": {
        **{f"{prefix}FLOP/s": size for prefix, size in DECIMAL.items()},
        **{f"{prefix}OP/s": size for prefix, size in DECIMAL.items()},
    },
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "frequency": {f"{prefix}Hz": DECIMAL[prefix] for prefix in ("", "K", "M", "G")},
    "count": {"count": 1.0},
    "fraction": {"fraction": 1.0},
}
LIMITS: dict[str, tuple[float, float]] = {
    "bytes": (1.0, 1e18),
    "bandwidth": (1e3, 1e18),
    "rate": (1e3, 1e24),
    "time": (1e-12, 1e3),
    "frequency": (1e3, 1e15),
    "count": (1.0, 2.0**31),
    "fraction": (1e-6, 1.0),
}
"""Dimension -> the least and the most, in SI units, that a machine can have: far from any real one,
and near enough that no formula over- or underflows."""
SI_UNITS = {
    "bytes": "B",
    "bandwidth": "B/s",
    "rate": "OP/s",
    "time": "s",
    "frequency": "Hz",
    "count": "",
    "fraction": "",
}
DIMENSION_OF: dict[str, str] = {
    unit: dimension for dimension, units in UNITS.items() for unit in units
}
EXAMPLES = {
    "bytes": "GB",
    "bandwidth": "GB/s",
    "rate": "TFLOP/s",
    "time": "us",
    "frequency": "GHz",
    "count": "count",
    "fraction": "fraction",
}
"""The unit that an error shows for each dimension."""


def scale_of(unit: str) -> float:
    """How many SI units one `unit` is."""
    return UNITS[DIMENSION_OF[unit]][unit]


def parse_bytes(text: str) -> float | None:
    """`1.5GB`, `512 MiB`: a size of 1 byte or more; None where the text is none."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([KMGTP]i?B|B)", text)
    if match is None or match[2] not in UNITS["bytes"]:
        return None
    size = float(match[1]) * UNITS["bytes"][match[2]]
    return size if size >= 1 else None


@dataclass(frozen=True)
class Format:
    """A number format: its bits in memory, and the name under which memory holds it."""

    bits: int
    stored_as: str


# tf32 is what an engine makes of f32 on the way in: memory never holds it.
FORMATS: dict[str, Format] = {
    "f32": Format(32, "f32"),
    "tf32": Format(32, "f32"),
    "bf16": Format(16, "bf16"),
    "f16": Format(16, "f16"),
    "f8e4m3": Format(8, "f8e4m3"),
    "hif8": Format(8, "hif8"),
    "i8": Format(8, "i8"),
    "f4e2m1": Format(4, "f4e2m1"),
    "i4": Format(4, "i4"),
}
STORED = tuple(name for name, kind in FORMATS.items() if kind.stored_as == name)
