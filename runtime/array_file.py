"""Arrays by name from a file that a user made: `.npz`, or safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.runtime.safetensors_file import SafetensorsFile

Arrays = dict[str, NDArray[Any]]

NUMBERS = ("F32", "I64", "I32")
"""Of a safetensors file: what NumPy has as numbers, not as bits."""


def reason_of(error: Exception) -> str:
    """What is wrong with a file that NumPy does not load, in one line.

    NumPy takes all that begins like no format of its own for a pickle, and advises to load it so.
    """
    first = (str(error).splitlines() or [type(error).__name__])[0][:200]
    if "pickle" in first:
        return "it has neither the format .npy nor .npz, or holds Python objects"
    return first


def read_npz(path: str, code: str) -> Arrays:
    """Every array of the file; `UserError(code)` with `file` and `reason` where it is none."""
    if not os.path.isfile(path):
        reason = "it is a folder" if os.path.isdir(path) else "there is no such file"
        raise UserError(code, file=path[:300], reason=reason)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:
        # Whatever NumPy and zipfile raise on such bytes, it is the file that is wrong.
        reason = reason_of(error)
        if Path(path).suffix == ".npy":
            reason = "it holds one array without a name"
        raise UserError(code, file=path, reason=reason) from None


def read_arrays(path: str, code: str) -> Arrays:
    """As `read_npz`, for both kinds of file."""
    if Path(path).suffix != ".safetensors" or not os.path.isfile(path):
        return read_npz(path, code)
    file = SafetensorsFile(Path(path))
    for name in file.names():
        dtype = file.entry(name).dtype
        if dtype not in NUMBERS:
            reason = f"{name} is {dtype}, not one of {', '.join(NUMBERS)}"
            raise UserError(code, file=path, reason=reason)
    return {name: file.read(name) for name in file.names()}
