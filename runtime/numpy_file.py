"""Reads the arrays of .npz and .npy files: numbers alone, each header held against the bytes there
are.

NumPy's own loader makes an array of the size that a header states before it sees the bytes, unpacks
whatever a zip archive declares, and advises to unpickle what it does not know.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.ir.files import open_regular
from supertile.runtime.zip_file import ZipArchive, broken_file

RANK_LIMIT = 8


def read_npz(file: str, limit: int, code: str) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name, at most `limit` bytes unpacked: no objects."""
    archive = ZipArchive(file, limit, code)
    names = [name for name in archive.names() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _array(archive, name) for name in names}


def read_npy(file: str, limit: int, code: str) -> NDArray[Any]:
    """The array of an .npy file of at most `limit` bytes: numbers alone, no objects."""
    with open_regular(file) as stream:
        raw = stream.read(limit)
    return _array_of(raw, "it", lambda reason: broken_file(file, reason, code))


def _array(archive: ZipArchive, name: str) -> NDArray[Any]:
    return _array_of(archive.read(name), f"{name:.100}", archive.broken)


def _array_of(raw: bytes, name: str, broken: Callable[[str], UserError]) -> NDArray[Any]:
    """One array; its header is held against the bytes that there are before any is made."""
    stream = io.BytesIO(raw)
    formats = np.lib.format
    headers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    try:
        shape, by_column, dtype = headers[formats.read_magic(stream)](stream)
    except Exception as error:
        # Whatever NumPy and the tokenizer raise on such bytes, it is the file that is wrong.
        first = (str(error).splitlines() or ["it ends early"])[0]
        raise broken(f"{name} has no header of an array: {first}") from None
    if dtype.kind not in "biufU" or dtype.hasobject:
        raise broken(f"{name} holds {'Python objects' if dtype.hasobject else dtype}, not numbers")
    count = math.prod(shape)
    data = memoryview(raw)[stream.tell() :]
    wrong = min(shape, default=0) < 0 or len(shape) > RANK_LIMIT
    if wrong or count * dtype.itemsize != len(data):
        raise broken(f"{name}: {len(data)} bytes for {dtype} {list(shape)[:RANK_LIMIT]}")
    flat = np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if by_column else "C")
