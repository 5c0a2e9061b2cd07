"""The axes of the arguments of functions and programs: their names and their sizes."""

from __future__ import annotations

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, TensorType
from xdsl.ir import Attribute, BlockArgument

from supertile.ir.formula import symbol
from supertile.ir.op import python_value
from supertile.ir.shapes import Shape
from supertile.ir.types import DYNAMIC


def axes_of(attributes: Attribute | None) -> tuple[str, ...]:
    """The names of the axes of an argument, from its attributes."""
    fields = attributes.data if isinstance(attributes, DictionaryAttr) else {}
    names: tuple[str, ...] = python_value(fields.get("graph.sizes", ArrayAttr([])))
    return names


def argument_shape(argument: BlockArgument, attributes: Attribute | None) -> Shape:
    """The shape of an argument with these attributes, over named sizes; () for what is no tensor.

    A `ValueError` where an axis of open size has no name, or the names are not one for each axis.
    """
    if not isinstance(argument.type, TensorType):
        return ()
    sizes, names = argument.type.get_shape(), axes_of(attributes)
    if (names or DYNAMIC in sizes) and len(names) != len(sizes):
        raise ValueError(
            f"argument {argument.index} needs graph.sizes, a name for each of {list(sizes)}"
        )
    return tuple(
        symbol(names[axis]) if size == DYNAMIC else size for axis, size in enumerate(sizes)
    )
