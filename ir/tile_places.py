"""Which tiles need a place in on-chip memory, in which space, how large, and which may share one.

What the matrix engine makes lies in the accumulator's space, what all other arithmetic makes in the
vector space; what is loaded or filled says itself where it lies. These definitions say what needs
bytes. Who gets which is the work of the pass `assign-memory`, and `tile_check` checks it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import (
    ArrayAttr,
    DictionaryAttr,
    IntegerAttr,
    ModuleOp,
    StringAttr,
    TensorType,
    i64,
)
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import graph, tile
from supertile.ir.op import shape_of
from supertile.ir.tile_attributes import DEVICE
from supertile.ir.tile_count import is_matrix
from supertile.ir.types import ELEMENT_BITS, is_scaled, type_of
from supertile.ir.work import bytes_of

ALIGNMENT = 32
"""Bytes that places are multiples of: what the vector engines and copies of all machines need."""
TILE_SPACES = "supertile.tile_spaces"
"""Attribute of the module: where operands of products, accumulators and other tiles lie."""
CAPACITIES = "supertile.tile_memory"
"""Attribute of the module: bytes of each on-chip space, as far as they are limited."""

ELEMENTWISE: Collection[type[Operation]] = dict.fromkeys((
    graph.Cast, graph.Select, graph.Negate, graph.Exp, graph.Sqrt, graph.Rsqrt, graph.Sigmoid,
    graph.Softplus, graph.Silu, graph.Relu, graph.Gelu, graph.Tanh, graph.Add, graph.Subtract,
    graph.Multiply, graph.Divide, graph.Minimum, graph.Maximum, graph.Clamp, graph.Dequantize,
))  # fmt: skip
"""For `type(op) in ELEMENTWISE`, since `isinstance` asks each of these classes in turn."""


@dataclass(frozen=True)
class TileSpaces:
    """Where tiles of each use lie on a machine."""

    operand: str = "cache"
    """Both operands of a product."""
    accumulator: str = "cache"
    vector: str = "cache"
    """Everything else."""


def tile_spaces(module: ModuleOp) -> TileSpaces:
    """The spaces that the module names."""
    held = module.attributes.get(TILE_SPACES)
    if not isinstance(held, ArrayAttr):
        return TileSpaces()
    return TileSpaces(*[name.data for name in held if isinstance(name, StringAttr)])


def capacities(module: ModuleOp) -> dict[str, int]:
    """Space -> bytes, of the spaces that the module limits."""
    return _numbers(module.attributes.get(CAPACITIES))


def peaks(kernel: tile.Kernel) -> dict[str, int]:
    """Space -> bytes that the tiles of the kernel take, once they have places."""
    return _numbers(kernel.peaks)


def _numbers(held: object) -> dict[str, int]:
    if not isinstance(held, DictionaryAttr):
        return {}
    return {
        name: number.value.data
        for name, number in held.data.items()
        if isinstance(number, IntegerAttr)
    }


def by_space(numbers: dict[str, int]) -> DictionaryAttr:
    """The attribute that holds bytes of spaces."""
    return DictionaryAttr({key: IntegerAttr(numbers[key], i64) for key in sorted(numbers)})


# ---- the tiles of a kernel ---------------------------------------------------------------------


def placed_values(kernel: tile.Kernel) -> list[SSAValue]:
    """The tiles that lie in on-chip memory, in the order of the text."""
    return [value for value in _values(kernel.body.block) if is_placed(value)]


def _values(block: Block) -> Iterator[SSAValue]:
    """The values of a block; those of an op before the arguments of its body."""
    for op in block.ops:
        yield from op.results
        for region in op.regions:
            yield from region.block.args
            yield from _values(region.block)


def is_placed(value: SSAValue) -> bool:
    """Whether a value is a tile with bytes of on-chip memory: no index, reference or constant."""
    if not isinstance(value.type, TensorType):
        return False
    owner = base_of(value).owner
    if isinstance(owner, tile.Load | tile.Gather | tile.Fill):
        return owner.space.data != DEVICE
    return not isinstance(owner, graph.Constant)


def tile_bytes(value: SSAValue) -> int:
    """Bytes of a tile with its scales, in the format of its type, up to a multiple."""
    size = bytes_of(type_of(value), shape_of(value))
    assert isinstance(size, int), "tiles have static shapes"
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT


# ---- tiles that share bytes --------------------------------------------------------------------


def is_view(op: Operation) -> bool:
    """Whether the result is the bytes of the operand, seen otherwise.

    A reshape is; so is part of a tile, or a tile with other axes first, that only products read:
    engines for products read their operands with strides.
    """
    if type(op) is graph.Reshape:
        return True
    if type(op) not in (graph.Slice, graph.Transpose):
        return False
    uses = [use.operation for use in op.results[0].uses]
    return bool(uses) and all(isinstance(use, tile.Mma | graph.Einsum) for use in uses)


def base_of(value: SSAValue) -> SSAValue:
    """The tile whose bytes these are."""
    while isinstance(value.owner, Operation) and is_view(value.owner):
        value = value.owner.operands[0]
    return value


def in_place_operands(op: Operation) -> Sequence[SSAValue]:
    """The operands whose place the result may take if they end there, element by element."""
    if isinstance(op, tile.Mma):
        read = (base_of(op.x), base_of(op.w))
        return [] if base_of(op.accumulator) in read else [op.accumulator]
    if isinstance(op, tile.Mask):
        return [op.scores]
    if type(op) not in ELEMENTWISE or is_scaled(type_of(op.results[0])):
        return []
    return [value for value in op.operands if _covers(value, op.results[0])]


def _covers(operand: SSAValue, result: SSAValue) -> bool:
    """Whether each element of the result fits where the same element of the operand was."""
    old, new = type_of(operand), type_of(result)
    return (
        old.get_shape() == new.get_shape()
        and not is_scaled(old)
        and ELEMENT_BITS[new.element_type] <= ELEMENT_BITS[old.element_type]
    )


# ---- spaces ------------------------------------------------------------------------------------


Carried = tuple[tile.Loop, int]
"""What a loop carries, by number."""


def space_of(value: SSAValue, spaces: TileSpaces, around: frozenset[Carried] = frozenset()) -> str:
    """The space in which a tile lies. What a loop carries lies where its steps make it.

    `around` are carried values that wait for this answer: what all steps only hand on lies where it
    was before the loop.
    """
    value = base_of(value)
    carried = carried_by(value)
    if carried is not None:
        return _carried_space(carried, spaces, around)
    match value.owner:
        case tile.Load() | tile.Gather() | tile.Fill() as op:
            return op.space.data
        case tile.Mma():
            return spaces.accumulator
        case graph.Einsum() as op if is_matrix(op):
            return spaces.accumulator
        case _:
            return spaces.vector


def carried_by(value: SSAValue) -> Carried | None:
    """The loop that carries a value, or gives it back, and which one it is there."""
    if isinstance(value, BlockArgument):
        loop = value.block.parent_op()
        return (loop, value.index - 1) if isinstance(loop, tile.Loop) else None
    if isinstance(value, OpResult) and isinstance(value.op, tile.Loop):
        return value.op, value.index
    return None


def _carried_space(carried: Carried, spaces: TileSpaces, around: frozenset[Carried]) -> str:
    loop, number = carried
    last = loop.body.block.last_op
    assert last is not None
    made = loop.carried[number] if carried in around else last.operands[number]
    return space_of(made, spaces, around | {carried})
