"""Builds one tile kernel: its references, grids and loops, loads and stores, graph ops on tiles.

with builder.grid([(ref, 0, rows)]) as (row,):
    x = builder.load(builder.ref(value), [(0, row)], [rows, 64])
    builder.store(builder.compute(op, {op.x: x}), builder.ref(result), [(0, row)])
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    IndexType,
    StringAttr,
    TensorType,
    i32,
    i64,
)
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from supertile.ir import graph, tile
from supertile.ir.locations import file_line, name_of, place_of
from supertile.ir.op import attribute_of, segments, shape_of
from supertile.ir.tile_places import TileSpaces as TileSpaces
from supertile.ir.types import DYNAMIC, MxAttr, tensor, type_of
from supertile.passes.tiling import Spaces, Unit

Place = Sequence[tuple[int, SSAValue]]
"""(axis, start) of each axis on which a tile does not have everything."""


class KernelBuilder:
    """The kernel of one unit. Values of the unit are known by the references that hold them."""

    def __init__(self, unit: Unit, spaces: Spaces, where: TileSpaces, symbol: str) -> None:
        self.unit = unit
        self.spaces = spaces
        self.where = where
        self.symbol = symbol
        self.inputs = unit.inputs()
        self.results = unit.results
        kinds = [value.type for value in (*self.inputs, *self.results)]
        self.body = Block(arg_types=[tile.RefType(type_of_kind(kind)) for kind in kinds])
        self.block = self.body
        self.reuses = [-1] * len(self.results)
        self.extents: dict[int, list[tile.ExtentAttr]] = {}
        self._refs: dict[SSAValue, list[SSAValue]] = {}
        for value, argument in zip((*self.inputs, *self.results), self.body.args, strict=True):
            self._refs.setdefault(value, []).append(argument)

    # ---- references --------------------------------------------------------------------------

    def ref(self, value: SSAValue) -> SSAValue:
        """The reference that holds a value of the unit, or one from outside."""
        return self._refs[value][0]

    def has_ref(self, value: SSAValue) -> bool:
        return value in self._refs

    def targets(self, value: SSAValue) -> list[SSAValue]:
        """The references into which a value is stored: a result may be asked for twice."""
        return self._refs[value]

    def workspace(self, value: SSAValue, extents: Sequence[tile.ExtentAttr]) -> None:
        """Scratch for a value that goes from one phase to another, unless it is a result."""
        if value in self._refs:
            self._note_extents(value, extents)
            return
        self._refs[value] = [self.scratch(type_of(value), extents)]

    def scratch(self, kind: TensorType[Attribute], extents: Sequence[tile.ExtentAttr]) -> SSAValue:
        """Device memory for what is no value of the unit, such as row numbers."""
        op = tile.Alloc.create(
            properties={"extents": ArrayAttr(list(extents))}, result_types=[tile.RefType(kind)]
        )
        self.body.add_op(op)
        return op.results[0]

    def _note_extents(self, value: SSAValue, extents: Sequence[tile.ExtentAttr]) -> None:
        for number, result in enumerate(self.results):
            if result is value and self.reuses[number] < 0:
                self.extents[number] = list(extents)

    def reuse(self, value: SSAValue, operand: SSAValue) -> None:
        """`value` is `operand`, changed in place: a state."""
        argument = self.inputs.index(operand)
        for number, result in enumerate(self.results):
            if result is value:
                self.reuses[number] = argument
        self._refs[value] = self._refs[operand]

    def row_extent(self, space: str) -> tile.ExtentAttr:
        """The number of rows of a row space, from an operand that has it or a multiple of it."""
        for number, value in enumerate(self.inputs):
            if self.spaces.get(value) == space and space:
                return tile.ExtentAttr.of("size", number)
        base, star, factor = space.rpartition("*")
        if star:
            kind, argument, axis, times, _ = self.row_extent(base).fields()
            return tile.ExtentAttr.of(kind, argument, axis, times * int(factor))
        if space.startswith("windows"):
            position = self.inputs.index(self._position())
            return tile.ExtentAttr.of("windows", position, int(space.removeprefix("windows")))
        for number, value in enumerate(self.inputs):
            base, star, factor = self.spaces.get(value, "").rpartition("*")
            if star and base == space:
                return tile.ExtentAttr.of("parts", number, int(factor))
        raise ValueError(f"no operand of {self.unit.kind} has the rows {space!r}")

    def _position(self) -> SSAValue:
        """The positions of the tokens of the call, which tell how many windows they complete."""
        pool = next(op for op in self.unit.ops if isinstance(op, graph.PoolWindows))
        return pool.position

    # ---- structure -----------------------------------------------------------------------------

    @contextmanager
    def grid(
        self, dimensions: Sequence[tuple[SSAValue, int, int] | tuple[SSAValue, int, int, int]]
    ) -> Iterator[list[SSAValue]]:
        """Dimensions (reference, axis, step) or (reference, axis, step, ragged): the indices."""
        ragged = [dimension[3] if len(dimension) > 3 else 0 for dimension in dimensions]
        block = Block(arg_types=[IndexType()] * sum(3 if kind else 1 for kind in ragged))
        op = tile.Grid.create(
            operands=[dimension[0] for dimension in dimensions],
            properties={
                "axes": _integers([dimension[1] for dimension in dimensions]),
                "steps": _integers([dimension[2] for dimension in dimensions]),
                "ragged": _integers(ragged),
            },
            regions=[Region([block])],
        )
        self.block.add_op(op)
        outer, self.block = self.block, block
        yield list(block.args)
        self.block.add_op(tile.End.create())
        self.block = outer

    @contextmanager
    def loop(
        self, ref: SSAValue, axis: int, step: int, carried: Sequence[SSAValue] = ()
    ) -> Iterator[LoopBody]:
        """A loop along an axis; set `next` of what is given to the values carried on."""
        kinds = [value.type for value in carried]
        block = Block(arg_types=[IndexType(), *kinds])
        op = tile.Loop.create(
            operands=[ref, *carried],
            properties={
                "axis": attribute_of(axis),
                "step": attribute_of(step),
                "stages": attribute_of(1),
            },
            result_types=kinds,
            regions=[Region([block])],
        )
        self.block.add_op(op)
        outer, self.block = self.block, block
        body = LoopBody(block.args[0], list(block.args[1:]), list(block.args[1:]), list(op.results))
        yield body
        self.block.add_op(tile.End.create(operands=body.next))
        self.block = outer

    def add(self, op: Operation) -> SSAValue:
        """Put an op at the end of the block that is being filled; its first result."""
        self.block.add_op(op)
        return op.results[0]

    # ---- movement ------------------------------------------------------------------------------

    def load(
        self,
        ref: SSAValue,
        place: Place,
        shape: Sequence[int],
        select: Sequence[SSAValue] = (),
        limit: SSAValue | None = None,
        space: str | None = None,
        pad: float = 0.0,
    ) -> SSAValue:
        """A tile of a reference; axes are counted behind the selected ones."""
        groups = [[ref], list(select), [start for _, start in place], _optional(limit)]
        return self.add(
            tile.Load.create(
                operands=[value for group in groups for value in group],
                properties={
                    "axes": _integers([axis for axis, _ in place]),
                    "pad": attribute_of(float(pad)),
                    "space": attribute_of(space or self.where.vector),
                    "operandSegmentSizes": segments(groups),
                },
                result_types=[tile_type(ref_type(ref), shape)],
            )
        )

    def gather(
        self,
        ref: SSAValue,
        rows: SSAValue,
        shape: Sequence[int],
        select: Sequence[SSAValue] = (),
        place: Place = (),
        space: str | None = None,
        pad: float = 0.0,
        owner: SSAValue | None = None,
    ) -> SSAValue:
        """Rows of a reference by number; `place` counts axes behind that of the rows."""
        starts = [start for _, start in place]
        groups = [[ref], list(select), [rows], _optional(owner), starts]
        return self.add(
            tile.Gather.create(
                operands=[value for group in groups for value in group],
                properties={
                    "axes": _integers([axis for axis, _ in place]),
                    "pad": attribute_of(float(pad)),
                    "space": attribute_of(space or self.where.vector),
                    "operandSegmentSizes": segments(groups),
                },
                result_types=[tile_type(ref_type(ref), shape)],
            )
        )

    def store(
        self,
        value: SSAValue,
        ref: SSAValue,
        place: Place,
        select: Sequence[SSAValue] = (),
        limit: SSAValue | None = None,
    ) -> None:
        groups = [[value], [ref], list(select), [start for _, start in place], _optional(limit)]
        self.block.add_op(
            tile.Store.create(
                operands=[item for group in groups for item in group],
                properties={
                    "axes": _integers([axis for axis, _ in place]),
                    "operandSegmentSizes": segments(groups),
                },
            )
        )

    def scatter(
        self,
        value: SSAValue,
        ref: SSAValue,
        rows: SSAValue,
        select: Sequence[SSAValue] = (),
        place: Place = (),
        owner: SSAValue | None = None,
    ) -> None:
        starts = [start for _, start in place]
        groups = [[value], [ref], list(select), [rows], _optional(owner), starts]
        self.block.add_op(
            tile.Scatter.create(
                operands=[item for group in groups for item in group],
                properties={
                    "axes": _integers([axis for axis, _ in place]),
                    "operandSegmentSizes": segments(groups),
                },
            )
        )

    # ---- arithmetic ----------------------------------------------------------------------------

    def fill(self, value: float, shape: Sequence[int], element: Attribute, space: str) -> SSAValue:
        return self.add(
            tile.Fill.create(
                properties={"value": attribute_of(float(value)), "space": attribute_of(space)},
                result_types=[tensor(list(shape), element)],
            )
        )

    def mma(self, x: SSAValue, w: SSAValue, accumulator: SSAValue) -> SSAValue:
        return self.add(
            tile.Mma.create(operands=[x, w, accumulator], result_types=[accumulator.type])
        )

    def mask(self, scores: SSAValue, index: SSAValue) -> SSAValue:
        """Scores [m, h, n] without the keys whose index [m, n] is -1."""
        return self._mask([[scores], [index], [], []])

    def mask_beyond(self, scores: SSAValue, start: SSAValue, count: SSAValue) -> SSAValue:
        """Scores [m, h, n] of keys start, start + 1, ... without those from count [m] on."""
        return self._mask([[scores], [], [start], [count]])

    def _mask(self, groups: list[list[SSAValue]]) -> SSAValue:
        return self.add(
            tile.Mask.create(
                operands=[value for group in groups for value in group],
                properties={"operandSegmentSizes": segments(groups)},
                result_types=[groups[0][0].type],
            )
        )

    def rescale(self, start: SSAValue, factor: int, divisor: int = 1, offset: int = 0) -> SSAValue:
        """Where a tile begins on an axis of other units."""
        if factor == divisor and not offset:
            return start
        return self.add(
            tile.Rescale.create(
                operands=[start],
                properties={
                    "factor": attribute_of(factor),
                    "divisor": attribute_of(divisor),
                    "offset": attribute_of(offset),
                },
                result_types=[IndexType()],
            )
        )

    def constant(self, value: float) -> SSAValue:
        """A number that every block has."""
        return self.add(graph.create(graph.Constant, [], value=float(value)))

    def locate(
        self,
        formula: str,
        inputs: Sequence[SSAValue],
        shape: Sequence[int],
        parameters: Sequence[int] = (),
    ) -> SSAValue:
        """Row numbers by a formula of `runtime/tile_locate.py`."""
        properties: dict[str, Attribute] = {"formula": attribute_of(formula)}
        if parameters:
            properties["parameters_"] = _integers(parameters)
        return self.add(
            tile.Locate.create(
                operands=list(inputs),
                properties=properties,
                result_types=[tensor(list(shape), i32)],
            )
        )

    def op(
        self,
        kind: type[graph.GraphOp],
        groups: list[SSAValue | list[SSAValue]],
        /,
        element: Attribute | None = None,
        **properties: Any,
    ) -> SSAValue:
        """A graph op on tiles, its result types inferred; see `graph.create`."""
        return self.add(graph.create(kind, groups, element, **properties))

    def compute(
        self, op: Operation, tiles: Mapping[SSAValue, SSAValue], kinds: Sequence[Attribute]
    ) -> list[SSAValue]:
        """An op of the unit on tiles of its operands, with results of these types."""
        properties = dict(op.properties)
        if isinstance(op, graph.Reshape):
            properties["shape"] = _integers(list(kinds[0].get_shape()))  # type: ignore[attr-defined]
        made = type(op).create(
            operands=[tiles[value] for value in op.operands],
            properties=properties,
            result_types=list(kinds),
        )
        made.location = op.location
        self.block.add_op(made)
        return list(made.results)

    # ---- the end -------------------------------------------------------------------------------

    def finish(self) -> tile.Kernel:
        self.body.add_op(tile.End.create())
        own = [n for n, reused in enumerate(self.reuses) if reused < 0]
        kernel = tile.Kernel.create(
            properties={
                "sym_name": attribute_of(self.symbol),
                "kind": attribute_of(self.unit.kind),
                "inputs": attribute_of(len(self.inputs)),
                "reuses": _integers(self.reuses),
                "extents": ArrayAttr([e for n in own for e in self.extents.get(n, [])]),
            },
            regions=[Region([self.body])],
        )
        kernel.location = self.unit.op.location
        return kernel

    def launch(self) -> tile.Launch:
        """The launch that takes the place of the unit."""
        made = tile.Launch.create(
            operands=self.inputs,
            properties={
                "kernel": attribute_of(self.symbol),
                "values": ArrayAttr([StringAttr(value_label(value)) for value in self.results]),
            },
            result_types=[value.type for value in self.unit.op.results],
        )
        made.location = self._result_location()
        return made

    def _result_location(self) -> Any:
        """Where the first result comes from: a launch bears the name of that value, or none."""
        first = self.results[0]
        if isinstance(first, OpResult) and first.index == 0:
            return first.op.location
        return file_line(self.unit.op.location) or self.unit.op.location


def value_label(value: SSAValue) -> str:
    """`attn.q graph.rope`; an argument or a result behind the first has none."""
    if not isinstance(value, OpResult) or value.index:
        return ""
    return f"{name_of(value.op.location) or place_of(value.op.location)} {value.op.name}"


@dataclass
class LoopBody:
    """The inside of a loop, and its results behind it."""

    start: SSAValue
    carried: list[SSAValue]
    next: list[SSAValue]
    results: list[SSAValue]


def type_of_kind(kind: Attribute) -> TensorType[Attribute]:
    assert isinstance(kind, TensorType), f"a kernel works on tensors, got {kind}"
    return kind


def ref_type(ref: SSAValue) -> TensorType[Attribute]:
    assert isinstance(ref.type, tile.RefType)
    return ref.type.tensor


def tile_type(kind: TensorType[Attribute], shape: Sequence[int]) -> TensorType[Attribute]:
    """The type of a tile of a tensor: scale blocks are no larger than the tile."""
    if not isinstance(kind.encoding, MxAttr):
        return tensor(list(shape), kind.element_type)
    block = kind.encoding.sizes
    if len(block) > len(shape):
        block = block[len(block) - len(shape) :]
    lead = len(shape) - len(block)
    sizes = [min(b, size) for b, size in zip(block, shape[lead:], strict=True)]
    return tensor(list(shape), kind.element_type, MxAttr.of(sizes, kind.encoding.scale))


def row_type(value: SSAValue, rows: int, columns: int | None = None) -> TensorType[Attribute]:
    """The type of a tile of `rows` rows of a value, and of `columns` of a last axis that is cut."""
    shape = [rows, *shape_of(value)[1:]]
    if columns is not None:
        shape[-1] = columns
    assert DYNAMIC not in shape, f"a tile of {list(shape_of(value))} has no static shape"
    return tile_type(type_of(value), shape)


def _optional(value: SSAValue | None) -> list[SSAValue]:
    return [] if value is None else [value]


def _integers(numbers: Sequence[int]) -> DenseArrayBase[Any]:
    return DenseArrayBase.from_list(i64, list(numbers))
