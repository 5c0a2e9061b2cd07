"""Shapes of what a launch gives and of what a kernel refers to, over named sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import tile
from supertile.ir.shapes import Shape, Size
from supertile.ir.types import DYNAMIC

Fresh = Callable[[str], Size]


def kernels_of(op: Operation | None) -> dict[str, tile.Kernel]:
    """The kernels of the module that an op is in, by name."""
    while op is not None and not isinstance(op, ModuleOp):
        op = op.parent_op()
    held = () if op is None else op.ops
    return {one.sym_name.data: one for one in held if isinstance(one, tile.Kernel)}


def extent_size(extent: tile.ExtentAttr, arguments: Sequence[Shape], fresh: Fresh) -> Size:
    """A run-time size as a formula; what only data tells gets the name that the graph op gave."""
    kind, argument, axis, factor, offset = extent.fields()
    if kind == "size":
        size: Size = factor * arguments[argument][axis] + offset
        return size
    if kind == "most":
        return fresh(f"seen{offset}")
    if kind == "parts":
        return factor * (arguments[argument][0] * Fraction(1, axis)) + offset
    return factor * fresh(f"windows{axis}") + offset


def ref_shapes(
    kernel: tile.Kernel, operands: Sequence[Shape], fresh: Fresh
) -> dict[SSAValue, Shape]:
    """The shape of every reference of a kernel that is launched on operands of these shapes."""
    sizes = iter(kernel.extents)
    shapes: list[Shape] = list(operands)
    for ref, reused in zip(kernel.results_, kernel.reuses.get_values(), strict=True):
        own = reused < 0
        shapes.append(_shape(ref, sizes, operands, fresh) if own else operands[reused])
    held: dict[SSAValue, Shape] = dict(zip(kernel.body.block.args, shapes, strict=True))
    for op in kernel.body.block.ops:
        if isinstance(op, tile.Alloc):
            held[op.result] = _shape(op.result, iter(op.extents), shapes, fresh)
    return held


def launch_shapes(kernel: tile.Kernel, operands: Sequence[Shape], fresh: Fresh) -> list[Shape]:
    """The shapes of the results of a launch of the kernel."""
    shapes = ref_shapes(kernel, operands, fresh)
    return [shapes[ref] for ref in kernel.results_]


def _shape(
    ref: SSAValue, sizes: Iterator[tile.ExtentAttr], arguments: Sequence[Shape], fresh: Fresh
) -> Shape:
    kind = ref.type
    assert isinstance(kind, tile.RefType)
    tensor: TensorType[Attribute] = kind.tensor
    return tuple(
        extent_size(next(sizes), arguments, fresh) if size == DYNAMIC else size
        for size in tensor.get_shape()
    )
