"""Bytes of tensors by hand: in the formats of their types, and as NumPy holds them."""

from __future__ import annotations

import pytest
from xdsl.dialects.builtin import f32

from supertile.ir.graph import scaled_type
from supertile.ir.sched_memory import device_bytes, runtime_bytes, scale_shape, scales_at
from supertile.ir.types import (
    DYNAMIC,
    MxAttr,
    bf16,
    f4e2m1,
    f8e4m3,
    i1,
    i32,
    i64,
    tensor,
)

# element, bytes of 3 x 5 of them in a device, and in NumPy
ELEMENTS = [(f32, 60, 60), (bf16, 30, 60), (i64, 120, 120), (i32, 60, 60), (i1, 15, 15)]


@pytest.mark.parametrize(("element", "device", "runtime"), ELEMENTS)
def test_plain_tensors(element: object, device: int, runtime: int) -> None:
    kind = tensor([DYNAMIC, 5], element)
    assert device_bytes(kind, [3, 5]) == device
    assert runtime_bytes(kind, [3, 5]) == runtime


def test_scales_lie_behind_the_codes_from_a_multiple_of_four() -> None:
    assert [scales_at([1, n]) for n in (1, 4, 5, 63, 64)] == [4, 4, 8, 64, 64]
    kind = scaled_type([DYNAMIC, 63], f8e4m3, (32,))
    assert runtime_bytes(kind, [1, 63]) == 64 + 2
    assert runtime_bytes(scaled_type([DYNAMIC, 64], f4e2m1, (32,)), [3, 64]) == 3 * 64 + 3 * 2


def test_scales_of_four_bytes() -> None:
    kind = tensor([DYNAMIC, 256], f8e4m3, MxAttr.of((128,), f32))
    assert runtime_bytes(kind, [2, 256]) == 2 * 256 + 2 * 2 * 4


def test_a_scale_for_each_block_of_the_last_axes() -> None:
    encoding = scaled_type([256, 300], f8e4m3, (128, 128)).encoding
    assert isinstance(encoding, MxAttr)
    assert scale_shape(encoding, [7, 256, 300]) == [7, 2, 3]
    with pytest.raises(ValueError, match="zip"):
        scale_shape(encoding, [300])
