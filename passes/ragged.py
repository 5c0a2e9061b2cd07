"""Sizes that become known at run time only, in all that follows from values with such sizes."""

from __future__ import annotations

from collections.abc import Iterable

from xdsl.ir import Operation, SSAValue
from xdsl.rewriter import Rewriter

from supertile.ir import graph
from supertile.ir.op import attribute_of, properties_of, shape_of
from supertile.ir.shapes import NEXT_RUN_TIME_SIZE, symbolic_shapes
from supertile.ir.types import DYNAMIC, tensor, type_of


def make_ragged(ops: Iterable[Operation]) -> None:
    """Give the results of these ops, in order, the sizes that follow from run-time sizes."""
    changed: set[SSAValue] = set()
    for op in ops:
        if not isinstance(op, graph.GraphOp):
            continue
        if isinstance(op, graph.Reshape) and op.x in changed:
            _open_reshape(op)
        shapes = symbolic_shapes([shape_of(value) for value in op.operands], op, lambda _: DYNAMIC)
        for value, shape in zip(list(op.results), shapes, strict=True):
            resize(value, shape)
        changed.update(value for value in op.results if DYNAMIC in shape_of(value))


def resize(value: SSAValue, shape: tuple[int, ...]) -> None:
    kind = type_of(value)
    if tuple(kind.get_shape()) != shape:
        resized = tensor(shape, kind.element_type, kind.encoding)
        Rewriter.replace_value_with_new_type(value, resized)


def _open_reshape(op: graph.Reshape) -> None:
    """The rows lead both shapes; the entry that stood for their number becomes -1."""
    entries = list(properties_of(op)["shape"])
    if NEXT_RUN_TIME_SIZE not in entries:
        op.properties["shape"] = attribute_of([NEXT_RUN_TIME_SIZE, *entries[1:]])
