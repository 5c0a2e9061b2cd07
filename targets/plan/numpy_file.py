"""Reads the arrays of an .npz file: numbers alone, each header held against the bytes there are."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.targets.plan.zip_file import ZipArchive


def read_npz(file: str, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name: numbers alone, no objects."""
    archive = ZipArchive(file, limit)
    names = [name for name in archive.names() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _array(archive, name) for name in names}


def _array(archive: ZipArchive, name: str) -> NDArray[Any]:
    """One array; its header is held against the bytes that there are before any is made."""
    stream = io.BytesIO(archive.read(name))
    formats = np.lib.format
    headers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    try:
        shape, by_column, dtype = headers[formats.read_magic(stream)](stream)
    except Exception as error:
        # Whatever NumPy and the tokenizer raise on such bytes, it is the file that is wrong.
        raise archive.broken(f"{name:.100} has no header of an array: {error}") from None
    if dtype.kind not in "biufU" or dtype.hasobject:
        raise archive.broken(f"{name:.100} holds {dtype}, not numbers")
    count = math.prod(shape)
    data = stream.getbuffer()[stream.tell() :]
    if min(shape, default=0) < 0 or len(shape) > 8 or count * dtype.itemsize != len(data):
        raise archive.broken(f"{name:.100}: {len(data)} bytes for {dtype} {list(shape)[:8]}")
    flat = np.frombuffer(data, dtype, count) if count else np.zeros(0, dtype)
    return flat.reshape(shape, order="F" if by_column else "C")
