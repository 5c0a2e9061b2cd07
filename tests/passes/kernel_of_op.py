"""Helpers for tests of lowerings: functions of few ops, their kernels, runs of these with NumPy."""

from contextlib import contextmanager
from unittest.mock import patch

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, StringAttr
from xdsl.ir import Block, Region

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, i32, tensor
from supertile.passes.kernel_builder import KernelBuilder, TileSpaces
from supertile.passes.lower_to_tile import LOWERINGS
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import row_spaces, units_of
from supertile.runtime import tile_ops
from supertile.runtime.tile_execute import KernelPlan

INDEX = tensor([DYNAMIC], i32)
"""The type of sequences, positions and lengths."""


def argument(kind, *axes):
    """(type, attributes) of an argument; its first axis is "T" where it has the rows of a call."""
    sizes = ArrayAttr([StringAttr(axis) for axis in axes])
    return kind, DictionaryAttr({"graph.sizes": sizes})


CALL = [argument(INDEX, "T"), argument(INDEX, "T"), argument(INDEX, "B")]
"""sequence, position, length."""


def function_of(arguments, body):
    """A function; `body` gets its arguments and gives its ops and results."""
    block = Block(arg_types=[kind for kind, _ in arguments])
    ops, results = body(*block.args)
    block.add_ops([*ops, func.ReturnOp(*results)])
    kinds = [kind for kind, _ in arguments], [value.type for value in results]
    function = func.FuncOp("f", kinds, Region([block]))
    function.arg_attrs = ArrayAttr([attributes for _, attributes in arguments])
    return function


def kernels_of(function, sizes):
    """What runs the kernel of each unit of a function; all phases have the same sizes."""
    spaces = row_spaces(function)
    return [_kernel(unit, spaces, sizes) for unit in units_of(function, spaces)]


def _kernel(unit, spaces, sizes):
    builder = KernelBuilder(unit, spaces, TileSpaces(), "k")
    for phase in unit.phases:
        LOWERINGS[phase.kind](builder, phase, sizes)
    kernel = builder.finish()
    kernel.verify()
    return KernelPlan(kernel)


def kernel_of(op, arguments, sizes, /, **properties):
    """What runs the kernel of one op, on its operands in order."""

    def body(*values):
        made = graph.create(op, list(values), **properties)
        return [made], made.results

    (kernel,) = kernels_of(function_of(arguments, body), sizes)
    return kernel


@contextmanager
def blocks_backwards():
    """The blocks of each grid run from the last to the first: their order must not matter."""
    blocks_of = tile_ops.blocks_of
    with patch.object(tile_ops, "blocks_of", lambda *grid: blocks_of(*grid)[::-1]):
        yield


def sizes_of(rows, columns=1):
    return PhaseSizes(rows, columns)
