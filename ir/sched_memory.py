"""How many bytes a tensor takes where a program runs: in a device, or in the NumPy executor."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from supertile.ir.types import MxAttr, f8e8m0, i1, i32, i64
from supertile.ir.work import bytes_of

Tensor = TensorType[Attribute]

SCALE_ALIGNMENT = 4
"""Block scales lie behind the codes, from a multiple of so many bytes on."""

# The executor holds floats in float32, the codes of block-scaled tensors in a byte each.
RUNTIME_BYTES: dict[Attribute, int] = {i64: 8, i32: 4, i1: 1}


def device_bytes(kind: Tensor, shape: Sequence[int]) -> int:
    """Bytes in the formats that the type declares."""
    size = bytes_of(kind, tuple(shape))
    assert isinstance(size, int)
    return size


def runtime_bytes(kind: Tensor, shape: Sequence[int]) -> int:
    """Bytes as the NumPy executor holds a value of this shape."""
    if not isinstance(kind.encoding, MxAttr):
        return math.prod(shape) * RUNTIME_BYTES.get(kind.element_type, 4)
    scale = 1 if kind.encoding.scale == f8e8m0 else 4
    return scales_at(shape) + math.prod(scale_shape(kind.encoding, shape)) * scale


def scales_at(shape: Sequence[int]) -> int:
    """Where the scales begin behind the codes of a block-scaled value."""
    return -(-math.prod(shape) // SCALE_ALIGNMENT) * SCALE_ALIGNMENT


def scale_shape(encoding: MxAttr, shape: Sequence[int]) -> list[int]:
    """One scale for each block of the last axes; the last block may be partial."""
    block = encoding.sizes
    lead = len(shape) - len(block)
    return [*shape[:lead], *(-(-s // b) for s, b in zip(shape[lead:], block, strict=True))]
