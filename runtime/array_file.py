"""Arrays by name from a file that a user made: `.npz`, or safetensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.ir.files import open_regular, reason_of
from supertile.runtime import numpy_file
from supertile.runtime.safetensors_file import SafetensorsFile

Arrays = dict[str, NDArray[Any]]

NUMBERS = ("F32", "I64", "I32")
"""Of a safetensors file: what NumPy has as numbers, not as bits."""
SIZE_LIMIT, PACKED_LIMIT = 1 << 30, 64
"""Bytes that an `.npz` may unpack to: the first number, or so many times its size on disk. Numbers
of a model hardly pack at all; a file of megabytes that says it holds many gigabytes is a trap."""
ZIP_START, NPY_START = b"PK", b"\x93NUM"


def read_numpy(path: str, limit: int, code: str) -> NDArray[Any] | Arrays:
    """The array of an `.npy` file, or those of an `.npz` file by name, told by how it begins.

    `UserError(code)` with `file` and `reason` where it is neither, holds objects or more than
    `limit` bytes.
    """
    start = _start(path, code)
    if start.startswith(ZIP_START):
        return numpy_file.read_npz(path, limit, code)
    if start == NPY_START:
        return numpy_file.read_npy(path, limit, code)
    reason = "it has neither the format .npy nor .npz, or holds Python objects"
    raise UserError(code, file=path, reason=reason if start else "it is empty")


def read_npz(path: str, code: str) -> Arrays:
    """Every array of the file, at least one; `UserError(code)` with `file` and `reason`."""
    if not os.path.isfile(path):
        is_there = os.path.exists(path)
        reason = "it is a folder" if os.path.isdir(path) else "it is a device or a pipe"
        reason = reason if is_there else "there is no such file"
        raise UserError(code, file=path[:300], reason=reason)
    limit = max(SIZE_LIMIT, PACKED_LIMIT * os.path.getsize(path))
    arrays = read_numpy(path, limit, code)
    if not isinstance(arrays, dict):
        raise UserError(code, file=path, reason="it holds one array without a name")
    if not arrays:
        raise UserError(code, file=path, reason="it holds no arrays")
    return arrays


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


def _start(path: str, code: str) -> bytes:
    try:
        with open_regular(path) as stream:
            return stream.read(len(NPY_START))
    except (OSError, ValueError) as error:
        raise UserError(code, file=path[:300], reason=reason_of(error)) from None
