"""Phases of the ops that know sequences: appending to a state, windows of tokens.

    for rows:  state[sequence[rows], entry(position[rows])] = load(X[rows])

Sequences, positions and lengths are index vectors; where a row lies is a formula of them, so that
blocks are blocks of rows whatever sequences these belong to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from xdsl.dialects.builtin import i32
from xdsl.ir import SSAValue

from supertile.ir import graph, tile
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, tensor, type_of
from supertile.passes.kernel_builder import KernelBuilder
from supertile.passes.tile_rows import row_workspaces, stored
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase

SequenceOp = graph.Append | graph.CompletedWindows | graph.PoolWindows | graph.WindowIndex


class CallRows:
    """Some rows of a call: their sequences, positions, lengths, -1 in rows beyond the last."""

    def __init__(self, builder: KernelBuilder, op: SequenceOp, start: SSAValue, rows: int) -> None:
        self.builder = builder
        self.op = op
        self.start = start
        self.rows = rows
        self.sequence = self._tile(op.sequence)
        self.position = self._tile(op.position)

    def _tile(self, vector: SSAValue) -> SSAValue:
        ref = self.builder.ref(vector)
        return self.builder.load(ref, [(0, self.start)], [self.rows], pad=-1.0)

    @cached_property
    def length(self) -> SSAValue:
        """How many tokens the sequence of each row had before the call."""
        ref = self.builder.ref(self.op.length)
        return self.builder.gather(ref, self.sequence, [self.rows])

    @cached_property
    def total(self) -> SSAValue:
        """How many it has after the call."""
        whole = whole_vector(self.builder, self.op.sequence)
        return self.locate("total", [whole, self.sequence, self.length])

    def locate(
        self, formula: str, inputs: Sequence[SSAValue], parameters: Sequence[int] = ()
    ) -> SSAValue:
        """A number for each row."""
        return self.builder.locate(formula, inputs, [self.rows], parameters)


def whole_vector(builder: KernelBuilder, vector: SSAValue) -> SSAValue:
    """An index vector, read in place."""
    return builder.load(builder.ref(vector), [], shape_of(vector), space="gm")


def extent(builder: KernelBuilder, value: SSAValue, axis: int = 0) -> tile.ExtentAttr:
    """The run-time size of an axis of an operand of the unit."""
    return tile.ExtentAttr.of("size", builder.inputs.index(value), axis)


def window_extent(builder: KernelBuilder, position: SSAValue, ratio: int) -> tile.ExtentAttr:
    """How many windows the call completes."""
    return tile.ExtentAttr.of("windows", builder.inputs.index(position), ratio)


# ---- state -------------------------------------------------------------------------------------


def lower_append(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """New rows of a call, or of the windows that it completes, into a state in place."""
    (op,) = phase.ops
    assert isinstance(op, graph.Append)
    builder.reuse(op.kept, op.state)
    if op.kind.kind.data == "ring":
        _append_ring(builder, op, sizes.rows, op.seen in stored(builder, phase))
        return
    builder.reuse(op.seen, op.state)
    with builder.grid([(builder.ref(op.rows), 0, sizes.rows)]) as (start,):
        rows = CallRows(builder, op, start, sizes.rows)
        entry = rows.locate("quotient", [rows.position], [op.kind.sizes[0]])
        builder.scatter(
            _new_rows(builder, op, rows), builder.ref(op.kept), entry, owner=rows.sequence
        )


def _new_rows(builder: KernelBuilder, op: graph.Append, rows: CallRows) -> SSAValue:
    ref, shape = builder.ref(op.rows), [rows.rows, *shape_of(op.rows)[1:]]
    return builder.load(ref, [(0, rows.start)], shape)


def _append_ring(builder: KernelBuilder, op: graph.Append, step: int, is_seen: bool) -> None:
    """What the call sees: the old rows and zeros first, then the new rows; these into the ring."""
    (window,) = op.kind.sizes
    targets: list[SSAValue] = []
    if is_seen:
        most = tile.ExtentAttr.of("most", builder.inputs.index(op.sequence), offset=window)
        extents = [extent(builder, op.state), most]
        sizes = zip(extents, shape_of(op.seen), strict=False)
        builder.workspace(op.seen, [held for held, size in sizes if size == DYNAMIC])
        targets = builder.targets(op.seen)
        _unroll_ring(builder, op, step, targets)
    # The old rows have been read, so that the new ones may take their slots.
    with builder.grid([(builder.ref(op.rows), 0, step)]) as (start,):
        rows = CallRows(builder, op, start, step)
        value = _new_rows(builder, op, rows)
        slot = rows.locate("ring_new", [rows.position, rows.length], [window])
        for target in targets:
            builder.scatter(value, target, slot, owner=rows.sequence)
        kept = rows.locate("ring_kept", [rows.position, rows.total], [window])
        builder.scatter(value, builder.ref(op.kept), kept, owner=rows.sequence)


def _unroll_ring(
    builder: KernelBuilder, op: graph.Append, step: int, targets: Sequence[SSAValue]
) -> None:
    """The old rows by ascending position; zeros where there is none, and for the new rows."""
    (window,) = op.kind.sizes
    with builder.grid([(targets[0], 0, 1), (targets[0], 1, step)]) as (sequence, start):
        length = builder.load(builder.ref(op.length), [(0, sequence)], [1])
        slots = builder.locate("row_numbers", [start], [step], [step])
        old = builder.locate("ring_old", [slots, length], [step], [window])
        shape = [step, *shape_of(op.state)[2:]]
        value = builder.gather(builder.ref(op.state), old, shape, [sequence])
        for target in targets:
            builder.store(value, target, [(0, start)], [sequence])


# ---- windows -----------------------------------------------------------------------------------


def lower_window_index(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """The slots of a window for each row."""
    (op,) = phase.ops
    assert isinstance(op, graph.WindowIndex)
    row_workspaces(builder, phase, [op.result])
    window = op.window.value.data
    with builder.grid([(builder.ref(op.result), 0, sizes.rows)]) as (start,):
        rows = CallRows(builder, op, start, sizes.rows)
        inputs = [rows.position, rows.length]
        slots = builder.locate("window_slots", inputs, [sizes.rows, window], [window])
        for target in builder.targets(op.result):
            builder.store(slots, target, [(0, start)])


def lower_completed_windows(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Rows that end a window, each to its place: how many rows before it end one."""
    (op,) = phase.ops
    assert isinstance(op, graph.CompletedWindows)
    ratio = op.ratio.value.data
    for value in stored(builder, phase):
        builder.workspace(value, [window_extent(builder, op.position, ratio)])
    with builder.grid([(builder.ref(op.position), 0, sizes.rows)]) as (start,):
        rows = CallRows(builder, op, start, sizes.rows)
        place = window_places(rows, ratio)
        first = rows.locate("window_first", [rows.position], [ratio])
        found: dict[SSAValue, SSAValue] = {
            op.window_sequence: rows.sequence,
            op.window_position: first,
        }
        for value in stored(builder, phase):
            for target in builder.targets(value):
                builder.scatter(found[value], target, place)


def window_places(rows: CallRows, ratio: int) -> SSAValue:
    """Which window of the call each row ends; -1 for the rows that end none."""
    whole = whole_vector(rows.builder, rows.op.position)
    return rows.locate("window_place", [whole, rows.start], [rows.rows, ratio])


# ---- pooling -----------------------------------------------------------------------------------


def lower_pool_windows(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    """Pooled rows of all windows, then the state: both from the call and from the old state."""
    (op,) = phase.ops
    assert isinstance(op, graph.PoolWindows)
    builder.reuse(op.kept, op.state)
    pooling = _Pooling(builder, op, sizes)
    if op.rows in stored(builder, phase):
        pooling.pool()
    if pooling.overlap:
        pooling.move_window()
    pooling.keep_rows()


class _Pooling:
    """The phases of one pooling; of the channels, `columns` at once."""

    def __init__(self, builder: KernelBuilder, op: graph.PoolWindows, sizes: PhaseSizes) -> None:
        self.builder = builder
        self.op = op
        self.ratio, self.overlap = op.ratio.value.data, op.overlap.value.data
        self.width = shape_of(op.rows)[1]
        """Channels of a pooled row; with overlap values and scores have twice as many."""
        self.rows = sizes.rows
        self.columns = self.width if sizes.columns <= 1 else min(sizes.columns, self.width)

    def _ref(self, operand: SSAValue) -> SSAValue:
        return self.builder.ref(operand)

    # The pooled rows.

    def pool(self) -> None:
        b, op, shape = self.builder, self.op, [self.rows]
        extents = [window_extent(b, op.position, self.ratio)]
        b.workspace(op.rows, extents)
        ends = b.scratch(tensor([DYNAMIC], i32), extents)
        self._find_ends(ends)
        target = b.ref(op.rows)
        with b.grid([(target, 0, self.rows), (target, 1, self.columns)]) as (start, column):
            # Beyond the last window stands row 0, a row like any other, and nobody stores it.
            end = b.load(ends, [(0, start)], shape)
            owner = b.gather(self._ref(op.sequence), end, shape)
            position = b.gather(self._ref(op.position), end, shape)
            length = b.gather(self._ref(op.length), owner, shape)
            halves = [
                self._half(part, column, [end, position, length], owner)
                for part in range(1 + self.overlap)
            ]
            values, scores = (
                parts[0] if len(parts) == 1 else b.op(graph.Concat, [list(parts)], axis=1)
                for parts in zip(*halves, strict=True)
            )
            pooled = self._weighted_sum(values, scores)
            for ref in b.targets(op.rows):
                b.store(pooled, ref, [(0, start), (1, column)])

    def _find_ends(self, ends: SSAValue) -> None:
        """The row that ends each window."""
        b = self.builder
        with b.grid([(self._ref(self.op.position), 0, self.rows)]) as (start,):
            rows = CallRows(b, self.op, start, self.rows)
            number = rows.locate("row_numbers", [start], [self.rows])
            b.scatter(number, ends, window_places(rows, self.ratio))

    def _half(
        self, part: int, column: SSAValue, where: list[SSAValue], owner: SSAValue
    ) -> tuple[SSAValue, SSAValue]:
        """Values and scores [rows, ratio, columns] of one window for each row.

        Part 0 with overlap is the window before, its first half of the channels.
        """
        b, op, shape = self.builder, self.op, [self.rows, self.ratio]
        channel = b.rescale(column, 1, offset=part * self.width)
        before = (1 + self.overlap - part) * self.ratio - 1
        new = b.locate("pool_new", where, shape, [self.ratio, before])
        old = b.locate("pool_old", where[1:], shape, [self.ratio, before, self.overlap])
        bias = b.load(self._ref(op.bias), [(1, channel)], [self.ratio, self.columns])
        kept = [self._kept(plane, old, owner, channel) for plane in range(2)]
        # Each token is in the call or in the state, or nowhere: then it has no weight.
        values = b.op(graph.Add, [self._new(op.values, new, channel, 0.0), kept[0]])
        scores = b.op(graph.Add, [self._new(op.scores, new, channel, -math.inf), bias])
        return values, b.op(graph.Maximum, [scores, kept[1]])

    def _new(self, value: SSAValue, new: SSAValue, channel: SSAValue, pad: float) -> SSAValue:
        shape = [self.rows, self.ratio, self.columns]
        return self.builder.gather(self._ref(value), new, shape, place=[(0, channel)], pad=pad)

    def _kept(self, plane: int, old: SSAValue, owner: SSAValue, channel: SSAValue) -> SSAValue:
        """One plane of the state: values, or scores."""
        b, shape = self.builder, [self.rows, self.ratio]
        held = b.gather(
            self._ref(self.op.state),
            old,
            [*shape, 1, self.columns],
            place=[(0, b.rescale(channel, 0, offset=plane)), (1, channel)],
            pad=-math.inf if plane else 0.0,
            owner=owner,
        )
        return b.op(graph.Reshape, [held], shape=[*shape, self.columns])

    def _weighted_sum(self, values: SSAValue, scores: SSAValue) -> SSAValue:
        """The sum over axis 1 of softmax(scores) * values, channel by channel."""
        b = self.builder
        top = b.op(graph.ReduceMax, [scores], axis=1)
        weight = b.op(graph.Exp, [b.op(graph.Subtract, [scores, self._row(top)])])
        total = b.op(graph.ReduceSum, [weight], axis=1)
        weight = b.op(graph.Divide, [weight, self._row(total)])
        element = type_of(self.op.rows).element_type
        product = b.op(graph.Multiply, [weight, values])
        return b.op(graph.ReduceSum, [product], element, axis=1)

    def _row(self, value: SSAValue) -> SSAValue:
        """[rows, columns] as [rows, 1, columns]."""
        rows, columns = shape_of(value)
        return self.builder.op(graph.Reshape, [value], shape=[rows, 1, columns])

    # The state.

    def move_window(self) -> None:
        """Of sequences that complete a window, the unfinished window becomes the one before."""
        b, op = self.builder, self.op
        state, shape = self._ref(op.state), [self.ratio, 2, self.columns]
        with b.grid([(state, 0, 1), (state, 3, self.columns)]) as (sequence, channel):
            length = b.load(self._ref(op.length), [(0, sequence)], [1])
            total = b.locate("total", [whole_vector(b, op.sequence), sequence, length], [1])
            source, target = (
                b.locate("pool_moved", [length, total], [self.ratio], [self.ratio, first])
                for first in (self.ratio, 0)
            )
            place = [(1, channel)]
            held = b.gather(state, source, shape, [sequence], place)
            b.scatter(held, state, target, [sequence], place)

    def keep_rows(self) -> None:
        """Values and biased scores of the tokens of the unfinished window and the one before."""
        b, op = self.builder, self.op
        state = self._ref(op.state)
        shape = [self.rows, self.columns]
        with b.grid([(self._ref(op.values), 0, self.rows), (state, 3, self.columns)]) as indices:
            start, channel = indices
            rows = CallRows(b, op, start, self.rows)
            place = [(0, start), (1, channel)]
            phase = rows.locate("remainder", [rows.position], [self.ratio])
            bias = b.gather(self._ref(op.bias), phase, shape, place=[(0, channel)])
            scores = b.op(graph.Add, [b.load(self._ref(op.scores), place, shape), bias])
            planes = [b.load(self._ref(op.values), place, shape), scores]
            both = b.op(graph.Concat, [[self._row(plane) for plane in planes]], axis=1)
            kept = rows.locate("pool_kept", [rows.position, rows.total], [self.ratio, self.overlap])
            b.scatter(both, state, kept, place=[(1, channel)], owner=rows.sequence)
