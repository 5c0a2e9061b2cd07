"""Which ops on weights can be cut along their first axis."""

from __future__ import annotations

from typing import Any

import pytest
from xdsl.dialects.builtin import f32
from xdsl.ir import Block

from supertile.ir import graph
from supertile.ir.op import attribute_of
from supertile.ir.types import tensor
from supertile.passes.tile_rows import _acts_on_rows


def acts(kind: Any, shapes: list[list[int]], result: list[int], **properties: Any) -> bool:
    block = Block(arg_types=[tensor(shape, f32) for shape in shapes])
    held = {name: attribute_of(value) for name, value in properties.items()}
    op = kind.create(operands=block.args, properties=held, result_types=[tensor(result, f32)])
    return _acts_on_rows(op)


@pytest.mark.parametrize(
    ("kind", "shapes", "result", "properties", "expected"),
    [
        (graph.Exp, [[4, 8]], [4, 8], {}, True),
        (graph.Add, [[4, 8], [4, 8]], [4, 8], {}, True),
        (graph.Add, [[4, 8], [1, 8]], [4, 8], {}, False),
        (graph.Slice, [[4, 8]], [4, 2], {"axis": 1, "start": 0, "size": 2}, True),
        (graph.Slice, [[4, 8]], [4, 8], {"axis": 0, "start": 0, "size": 4}, False),
        (graph.Concat, [[4, 8], [4, 8]], [4, 16], {"axis": 1}, True),
        (graph.ReduceSum, [[4]], [], {"axis": 0}, False),
        (graph.Reshape, [[4, 8]], [4, 2, 4], {"shape": (4, 2, 4)}, False),
    ],
)
def test_rows_are_by_themselves(
    kind: Any, shapes: Any, result: Any, properties: Any, expected: bool
) -> None:
    assert acts(kind, shapes, result, **properties) is expected
