"""What one launch does, read off the kernel: operations and bytes of a block, steps of its loops.

    work = kernel_work(kernel, operand shapes, operand labels)

Products run on the matrix engine in the wider of the formats of their operands; in attention, in
that of the keys or values. All other arithmetic runs on the vector engine in float32.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

from xdsl.dialects.builtin import IndexType
from xdsl.ir import Attribute, Block as IrBlock, Operation, OpResult, SSAValue

from supertile.ir import graph, tile
from supertile.ir.formula import symbol
from supertile.ir.op import shape_of
from supertile.ir.shapes import Shape
from supertile.ir.tile_shapes import ref_shapes
from supertile.ir.tile_work import Block, Extent, KernelWork, Loop, Phase, Size
from supertile.ir.types import DYNAMIC, ELEMENT_BITS, ELEMENT_NAMES, is_scaled, type_of
from supertile.ir.work import bytes_of, work_of

MATRIX_SIDE = 16
"""A product whose rows, columns or sum are shorter runs on the vector engine."""


def kernel_work(
    kernel: tile.Kernel, operands: Sequence[Shape], labels: Sequence[str]
) -> KernelWork:
    """The work of a kernel on operands of these shapes; see `KernelWork` for labels."""
    shapes = ref_shapes(kernel, operands, symbol)
    counter = _Counter(shapes)
    phases = tuple(counter.phase(op) for op in kernel.body.block.ops if isinstance(op, tile.Grid))
    names: dict[SSAValue, str] = {}
    for argument, label in zip(kernel.body.block.args, labels, strict=False):
        names[argument] = label
    results = zip(kernel.results_, kernel.reuses.get_values(), strict=True)
    for ref, reused in results:
        names[ref] = labels[reused] if reused >= 0 else ""
    return KernelWork(
        kernel.sym_name.data,
        kernel.kind.data,
        phases,
        tuple((names[ref], size) for ref, size in counter.read.items() if ref in names),
        tuple((names[ref], size) for ref, size in counter.written.items() if ref in names),
        counter.flops,
        tuple((names[ref], counter.total(ref)) for ref in counter.read if ref in names),
    )


def _times(around: dict[SSAValue, Extent]) -> Size:
    """How often an op runs in all, remainders counted as the part that they are."""
    product: Size = 1
    for extent in around.values():
        # A formula: its coefficients may be fractions; a part of a step counts as that part.
        product = cast(Size, product * extent.size * Fraction(1, extent.step))
    return product


@dataclass
class _Counter:
    """Counts one kernel; `read` and `written` are the bytes of each reference, once."""

    shapes: dict[SSAValue, Shape]
    read: dict[SSAValue, Size] = field(default_factory=dict)
    written: dict[SSAValue, Size] = field(default_factory=dict)
    flops: Size = 0

    def phase(self, grid: tile.Grid) -> Phase:
        indices = iter(grid.body.block.args)
        extents: list[Extent] = []
        around: dict[SSAValue, Extent] = {}
        dimensions = zip(
            grid.refs,
            grid.axes.get_values(),
            grid.steps.get_values(),
            grid.ragged.get_values(),
            strict=True,
        )
        for ref, axis, step, ragged in dimensions:
            if ragged:
                next(indices)
            start = next(indices)
            extent = (
                self._ragged(grid, start, ref, step) if ragged else self._plain(ref, axis, step)
            )
            if ragged:
                next(indices)
            extents.append(extent)
            around[start] = extent
        return Phase(tuple(extents), self.block(grid.body.block, around))

    def _plain(self, ref: SSAValue, axis: int, step: int) -> Extent:
        return Extent(self.shapes[ref][axis], step)

    def _ragged(self, grid: tile.Grid, start: SSAValue, ref: SSAValue, step: int) -> Extent:
        """Rows by group: the groups are those of the counts, or the sequences of the call."""
        rows = self.shapes[ref][0]
        if grid.ragged.get_values()[list(grid.refs).index(ref)] == 2:
            return Extent(rows, step, symbol("B"))
        return Extent(self._rows_behind(start), step, rows)

    def _rows_behind(self, start: SSAValue) -> Size:
        """The rows of the reference that a row index is an offset of."""
        for use in start.uses:
            if isinstance(use.operation, tile.Load | tile.Store):
                rows: Size = self.shapes[use.operation.ref][len(use.operation.select)]
                return rows
        raise ValueError("nothing is loaded at the rows of a ragged grid")

    # ---- blocks --------------------------------------------------------------------------------

    def block(self, block: IrBlock, around: dict[SSAValue, Extent]) -> Block:
        operations: Counter[tuple[str, str]] = Counter()
        loaded: Counter[str] = Counter()
        stored: Counter[str] = Counter()
        transcendentals = total = 0
        loops: list[Loop] = []
        for op in block.ops:
            match op:
                case tile.Loop():
                    loops.append(self._loop(op, around))
                case tile.Load() | tile.Gather():
                    if op.space.data != "gm":
                        loaded[op.space.data] += _tile_bytes(op.result)
                    self._touch(self.read, op, around)
                case tile.Store() | tile.Scatter():
                    stored["gm"] += _tile_bytes(op.value)
                    self._touch(self.written, op, around)
                case _:
                    engine, flops, exponentials = arithmetic(op)
                    operations[engine] += flops
                    transcendentals += exponentials
                    total += flops
        self.flops = self.flops + total * _times(around)
        kept = {key: count for key, count in sorted(operations.items()) if count}
        return Block(kept, transcendentals, dict(loaded), dict(stored), tuple(loops))

    def _loop(self, op: tile.Loop, around: dict[SSAValue, Extent]) -> Loop:
        extent = self._plain(op.ref, op.axis.value.data, op.step.value.data)
        inner = {**around, op.body.block.args[0]: extent}
        return Loop(extent, op.stages.value.data, self.block(op.body.block, inner))

    # ---- device memory -------------------------------------------------------------------------

    def total(self, ref: SSAValue) -> Size:
        """All bytes of a reference."""
        assert isinstance(ref.type, tile.RefType)
        size: Size = bytes_of(ref.type.tensor, self.shapes[ref])
        return size

    def _touch(
        self,
        touched: dict[SSAValue, Size],
        op: tile.Load | tile.Gather | tile.Store | tile.Scatter,
        around: dict[SSAValue, Extent],
    ) -> None:
        """Blocks together cover a reference; rows by number are as many as there are numbers."""
        if isinstance(op, tile.Load | tile.Store):
            touched[op.ref] = self.total(op.ref)
            return
        rows = self._numbers(op.rows, around)
        value = op.result if isinstance(op, tile.Gather) else op.value
        rank = len(shape_of(op.rows))
        assert isinstance(op.ref.type, tile.RefType)
        behind = self.shapes[op.ref][len(self.shapes[op.ref]) - len(shape_of(value)) + rank :]
        size = bytes_of(type_of(value), (rows, *behind))
        # Once for each place in the kernel that reads by number; several places read several times.
        touched[op.ref] = touched[op.ref] + size if op.ref in touched else size

    def _numbers(self, rows: SSAValue, around: dict[SSAValue, Extent]) -> Size:
        """How many row numbers there are in all: along axes that a grid or loop cuts, its size."""
        total: Size = 1
        used = _starts(rows)
        free = [e for start, e in around.items() if start in used and _is_cut(e)]
        for size in shape_of(rows):
            match = next((e for e in free if e.step == size), None)
            if match is not None:
                free.remove(match)
            total = total * (size if match is None else match.size)
        return total


def _starts(value: SSAValue) -> set[SSAValue]:
    """The indices that a tile depends on: where the blocks and steps begin that it is cut by."""
    found: set[SSAValue] = set()
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held.type, IndexType):
            found.add(held)
        elif isinstance(held, OpResult) and not isinstance(held.op, tile.Alloc):
            waiting += held.op.operands
    return found


def _is_cut(extent: Extent) -> bool:
    return extent.step != extent.size


def _tile_bytes(value: SSAValue) -> int:
    shape = shape_of(value)
    assert DYNAMIC not in shape, "tiles have static shapes"
    size = bytes_of(type_of(value), shape)
    assert isinstance(size, int)
    return size


# ---- arithmetic --------------------------------------------------------------------------------


def arithmetic(op: Operation) -> tuple[tuple[str, str], int, int]:
    """(engine and format, operations, transcendental evaluations) of one op on tiles."""
    vector = ("vector", "f32")
    match op:
        case tile.Mma():
            flops = 2 * math.prod(shape_of(op.result)) * shape_of(op.x)[-1]
            return ("matrix", wider(op.x, op.w)), flops, 0
        case tile.MergeTopK():
            return vector, sum(math.prod(shape_of(v)) for v in (op.best, op.scores)), 0
        case tile.Mask() | tile.Locate():
            return vector, math.prod(shape_of(op.results[0])), 0
        case graph.Constant() | tile.Fill() | tile.Rescale() | tile.End():
            return vector, 0, 0
        case graph.Einsum() if is_matrix(op):
            work = work_of(op)
            return ("matrix", element_name(op.inputs[1])), _whole(work.flops), 0
        case _ if op.name.startswith("graph."):
            work = work_of(op)
            return vector, _whole(work.flops), _whole(work.transcendentals)
        case _:
            raise ValueError(f"no count for {op.name}")


def _whole(size: Size) -> int:
    assert isinstance(size, int)
    return size


def is_matrix(op: graph.Einsum) -> bool:
    """Whether rows, columns and the summed axis are each long enough for a matrix engine."""
    if len(op.inputs) != 2:
        return False
    left, result = op.equation.data.split("->")
    x, y = left.split(",")
    sizes = dict(zip(x + y, (*shape_of(op.inputs[0]), *shape_of(op.inputs[1])), strict=True))
    rows = math.prod(sizes[c] for c in result if c not in y)
    columns = math.prod(sizes[c] for c in result if c not in x)
    summed = math.prod(sizes[c] for c in set(x) & set(y) if c not in result)
    return min(rows, columns, summed) >= MATRIX_SIDE


def element_name(value: SSAValue) -> str:
    return ELEMENT_NAMES[type_of(value).element_type]


def wider(x: SSAValue, w: SSAValue) -> str:
    """The format in which two operands are multiplied."""
    kinds: list[Attribute] = [type_of(x).element_type, type_of(w).element_type]
    if is_scaled(type_of(w)) and not is_scaled(type_of(x)):
        return ELEMENT_NAMES[kinds[0]]
    return ELEMENT_NAMES[max(kinds, key=lambda kind: ELEMENT_BITS[kind])]


def launches(function: Operation) -> Iterator[tile.Launch]:
    """The launches of a function, in order."""
    return (op for op in function.walk() if isinstance(op, tile.Launch))
