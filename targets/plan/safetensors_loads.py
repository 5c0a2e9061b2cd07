"""Reads the arrays of a safetensors file of expert counts: what TensorRT-LLM records, or arrays by
the names that .npz files have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.runtime.numerics import bf16_from_bits
from supertile.runtime.safetensors_file import SafetensorsFile
from supertile.runtime.zip_file import broken_file

BROKEN = "loads.broken"
NUMBERS = ("F32", "F16", "BF16", "I64", "I32", "I8", "U8")
"""Formats that counts may have."""


def read_safetensors(file: str) -> dict[str, NDArray[Any]]:
    """The arrays by name; `loads.broken` for every defect."""
    try:
        opened = SafetensorsFile(Path(file))
    except UserError as error:
        raise broken_file(
            file, f"{error.message}; {error.found}".removesuffix("; "), BROKEN
        ) from None
    return {name: _array(opened, name, file) for name in opened.names()}


def _array(opened: SafetensorsFile, name: str, file: str) -> NDArray[Any]:
    dtype = opened.entry(name).dtype
    if dtype not in NUMBERS:
        raise broken_file(
            file, f"{name:.100} is {dtype:.20}, not one of {', '.join(NUMBERS)}", BROKEN
        )
    stored = opened.read(name)
    return bf16_from_bits(stored) if dtype == "BF16" else stored
