"""Phases of rows: every block loads some rows, runs the ops on them and stores what others need.

    for rows in blocks:  x = load(X[rows]);  y = rms_norm(x, gain);  store(y, Y[rows])

Values inside the phase stay tiles. What is the same for all rows, such as a gain or half of a bias,
each block loads or computes for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from supertile.ir import graph
from supertile.ir.op import properties_of, shape_of
from supertile.ir.types import DYNAMIC, type_of
from supertile.passes.inner_axis import InnerAxis, inner_axis
from supertile.passes.kernel_builder import KernelBuilder, tile_type
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import WHOLE, Phase, stored_values


def stored(builder: KernelBuilder, phase: Phase) -> list[SSAValue]:
    """The values of a phase that later phases or other kernels use, in order."""
    return stored_values(phase, builder.unit)


def row_workspaces(builder: KernelBuilder, phase: Phase, values: Sequence[SSAValue]) -> None:
    """A reference for each value of a phase that is stored: rows are its only run-time size."""
    for value in values:
        space = builder.spaces.get(value, WHOLE)
        extents = [builder.row_extent(space)] if DYNAMIC in shape_of(value) else []
        builder.workspace(value, extents)


class RowTiles:
    """Tiles of the values that one block works on, loaded when first asked for."""

    def __init__(self, builder: KernelBuilder, space: str, start: SSAValue, rows: int) -> None:
        self.builder = builder
        self.space = space
        self.start = start
        self.rows = rows
        self.limit: SSAValue | None = None
        self.part: Part | None = None
        self.tiles: dict[SSAValue, SSAValue] = {}

    def is_row(self, value: SSAValue) -> bool:
        """Whether the block has only some rows of the value."""
        return self.builder.spaces.get(value, WHOLE) == self.space

    def get(self, value: SSAValue) -> SSAValue:
        """The tile of a value: computed before, loaded now, or computed the same for all rows."""
        value = value
        if value not in self.tiles:
            self.tiles[value] = self._make(value)
        return self.tiles[value]

    def _make(self, value: SSAValue) -> SSAValue:
        if self.builder.has_ref(value):
            return self._load(value)
        assert isinstance(value, OpResult), "arguments have references"
        if isinstance(value.op, graph.Constant):
            return self.builder.add(value.op.clone())
        self.run(value.op)
        return self.tiles[value]

    def _load(self, value: SSAValue) -> SSAValue:
        ref, place = self.builder.ref(value), self.place(value)
        return self.builder.load(ref, place, self.shape(value), limit=self.limit if place else None)

    def place(self, value: SSAValue) -> list[tuple[int, SSAValue]]:
        """Where the tile of a value begins, on the axes of which it has a part."""
        place = [(0, self.start)] if self.is_row(value) else []
        return place if self.part is None else place + self.part.place(self.builder, value)

    def shape(self, value: SSAValue) -> list[int]:
        shape = list(shape_of(value))
        if self.is_row(value):
            shape[0] = self.rows
        if self.part is not None:
            self.part.narrow(value, shape)
        return shape

    def run(self, op: Operation) -> None:
        """The op on tiles of its operands."""
        if isinstance(op, graph.Gather):
            results = [self._gather(op)]
        else:
            tiles = {value: self.get(value) for value in op.operands}
            results = self.builder.compute(op, tiles, [self.kind(value) for value in op.results])
        self.tiles.update(zip(op.results, results, strict=True))

    def _gather(self, op: graph.Gather) -> SSAValue:
        """Rows of a table in memory: a load that goes where the ids say."""
        rows = self.get(op.ids)
        shape = self.kind(op.result).get_shape()  # type: ignore[attr-defined]
        return self.builder.gather(self.builder.ref(op.table), rows, shape)

    def kind(self, value: SSAValue) -> Attribute:
        """The type of the tile of a value."""
        return tile_type(type_of(value), self.shape(value))


@dataclass
class Part:
    """Which parts of a cut axis a block works on; see `inner_axis.py`."""

    axis: InnerAxis
    count: int
    """Parts of one block."""
    start: SSAValue
    """Where they begin, in numbers of `unit` for each part."""
    unit: int
    starts: dict[int, SSAValue] = field(default_factory=dict)

    def place(self, builder: KernelBuilder, value: SSAValue) -> list[tuple[int, SSAValue]]:
        if value not in self.axis.cuts:
            return []
        axis, unit = self.axis.cuts[value]
        if unit not in self.starts:
            self.starts[unit] = builder.rescale(self.start, unit, self.unit)
        return [(axis, self.starts[unit])]

    def narrow(self, value: SSAValue, shape: list[int]) -> None:
        if value in self.axis.cuts:
            axis, unit = self.axis.cuts[value]
            shape[axis] = unit * self.count


def lower_rows(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """A grid over rows with the ops of the phase in its body."""
    results = stored(builder, phase)
    row_workspaces(builder, phase, results)
    if not phase.space and not _acts_on_rows(phase.ops[0]):
        _lower_whole(builder, phase, results)
        return
    first = builder.ref(results[0])
    dimensions = [(first, 0, sizes.rows)]
    inner = inner_axis(phase, results, builder.spaces) if sizes.heads else None
    if inner is not None:
        axis, unit = inner.cuts[results[0]]
        dimensions.append((first, axis, unit * sizes.heads))
    with builder.grid(dimensions) as starts:
        tiles = RowTiles(builder, phase.space, starts[0], sizes.rows)
        if inner is not None:
            tiles.part = Part(inner, sizes.heads, starts[1], unit)
        for op in phase.ops:
            tiles.run(op)
        for value in results:
            for target in builder.targets(value):
                builder.store(tiles.get(value), target, tiles.place(value))


def _acts_on_rows(op: Operation) -> bool:
    """Whether an op on weights treats each index of the first axis by itself."""
    if not shape_of(op.results[0]):
        return False
    axis = properties_of(op).get("axis", 1)
    same = all(shape_of(value)[:1] == shape_of(op.results[0])[:1] for value in op.operands)
    return bool(same and axis != 0 and not isinstance(op, graph.Transpose | graph.Reshape))


def _lower_whole(builder: KernelBuilder, phase: Phase, results: Sequence[SSAValue]) -> None:
    """One block that works on everything: small weights."""
    with builder.grid([]):
        tiles = RowTiles(builder, "nothing has these rows", builder.ref(results[0]), 1)
        for op in phase.ops:
            tiles.run(op)
        for value in results:
            for target in builder.targets(value):
                builder.store(tiles.get(value), target, [])
