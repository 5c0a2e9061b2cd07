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


def kernel_of(launch: tile.Launch) -> tile.Kernel:
    """The kernel of a launch, in the same module."""
    root: Operation = launch
    while not isinstance(root, ModuleOp):
        parent = root.parent_op()
        assert parent is not None, "a launch is in a module"
        root = parent
    kernels = (op for op in root.ops if isinstance(op, tile.Kernel))
    return next(kernel for kernel in kernels if kernel.sym_name.data == launch.kernel.data)


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
    held = dict(zip(kernel.body.block.args, shapes, strict=True))
    for op in kernel.body.block.ops:
        if isinstance(op, tile.Alloc):
            held[op.result] = _shape(op.result, iter(op.extents), shapes, fresh)
    return held


def launch_shapes(launch: tile.Launch, operands: Sequence[Shape], fresh: Fresh) -> list[Shape]:
    """The shapes of the results of a launch."""
    kernel = kernel_of(launch)
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
