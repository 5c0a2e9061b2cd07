"""Writes files as torch.save does, byte by byte and without torch, and ones it never writes."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = {
    "<f8": "DoubleStorage",
    "<f4": "FloatStorage",
    "<f2": "HalfStorage",
    "<i8": "LongStorage",
    "<i4": "IntStorage",
    "<i2": "ShortStorage",
    "|i1": "CharStorage",
    "|u1": "ByteStorage",
    "|b1": "BoolStorage",
}


class TorchWriter:
    """`pickle` (protocol 2) of a value, and the bytes of its tensors in `data`."""

    def __init__(self, order: str = "little") -> None:
        self.order = order
        self.data: list[bytes] = []
        self.puts = 0

    def pickle(self, value: object) -> bytes:
        return b"\x80\x02" + self.value(value) + b"."

    def value(self, value: object) -> bytes:
        match value:
            case bool():
                return b"\x88" if value else b"\x89"
            case None:
                return b"N"
            case int():
                return b"J" + struct.pack("<i", value)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                raw = value.encode()
                return b"X" + struct.pack("<I", len(raw)) + raw + self.put()
            case tuple():
                return b"(" + b"".join(map(self.value, value)) + b"t"
            case list():
                return b"]" + self.put() + b"(" + b"".join(map(self.value, value)) + b"e"
            case dict():
                items = [self.value(item) for pair in value.items() for item in pair]
                return b"}" + self.put() + b"(" + b"".join(items) + b"u"
            case np.ndarray():
                return self.tensor(value)
        raise TypeError(type(value))

    def put(self) -> bytes:
        self.puts += 1
        return b"q" + bytes([self.puts % 256])

    def tensor(self, array: np.ndarray[Any, Any]) -> bytes:
        kind = CLASSES[array.dtype.newbyteorder("<").str]
        stored = np.ascontiguousarray(array).astype(
            array.dtype.newbyteorder("<" if self.order == "little" else ">")
        )
        self.data.append(stored.tobytes())
        strides = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        return self.rebuilt(kind, len(self.data) - 1, array.size, 0, array.shape, strides)

    def rebuilt(
        self, kind: str, key: int, size: int, offset: int, shape: Any, strides: Any
    ) -> bytes:
        """_rebuild_tensor_v2((storage, offset, shape, strides, False, OrderedDict()))"""
        name = b"ctorch\n" + kind.encode() + b"\n"
        storage = b"(" + self.value("storage") + name + self.value(str(key)) + self.value("cpu")
        storage += self.value(size) + b"tQ"
        hooks = b"ccollections\nOrderedDict\n)R"
        sizes = self.value(tuple(shape)) + self.value(tuple(strides))
        arguments = b"(" + storage + self.value(offset) + sizes + b"\x89" + hooks + b"t"
        return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def write_torch(path: Path, value: object, order: str = "little") -> Path:
    """A file with what torch.save writes for dicts, lists, tuples, numbers, words and tensors."""
    writer = TorchWriter(order)
    return write_pickle(path, writer.pickle(value), writer.data, order)


def write_pickle(
    path: Path,
    pickle: bytes,
    data: list[bytes] | None = None,
    order: str = "little",
    packing: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("archive/data.pkl", pickle)
        archive.writestr("archive/byteorder", order)
        for key, raw in enumerate(data or []):
            archive.writestr(f"archive/data/{key}", raw)
        archive.writestr("archive/version", "3\n")
    return path
