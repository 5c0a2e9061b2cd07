"""Attention: one block holds some rows of one sequence and some heads, and walks over the keys.

    top, total, mixed = lowest, 0, 0
    for keys of each source:  s = scale q K^T;  top' = max(top, max s);  p = e^(s - top')
                              total = total e^(top - top') + sum p;  mixed = mixed .. + p V
    o = mixed / total, with the sink in both

Source: online softmax, arXiv 1805.02867; as in FlashAttention, arXiv 2205.14135.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from xdsl.dialects.builtin import bf16, f32
from xdsl.ir import SSAValue

from supertile.ir import graph
from supertile.ir.op import shape_of
from supertile.ir.types import type_of
from supertile.passes.kernel_builder import KernelBuilder
from supertile.passes.tile_rows import row_workspaces
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase

LOWEST = -1e30
"""In place of -inf, so that a row that sees nothing needs no case of its own."""
SMALLEST = float(np.finfo(np.float32).smallest_normal)


@dataclass
class Sums:
    """What is carried over the keys: [rows, heads], and mixed [rows, heads, value width]."""

    top: SSAValue
    total: SSAValue
    mixed: SSAValue

    def values(self) -> list[SSAValue]:
        return [self.top, self.total, self.mixed]


@dataclass
class Part:
    """Some keys of a source: scores [m, h, n], values, and how weights multiply them."""

    scores: SSAValue
    values: SSAValue
    equation: str


@dataclass
class Rows:
    """The rows and heads of one block."""

    sequence: SSAValue
    start: SSAValue
    stop: SSAValue
    head: SSAValue
    q: SSAValue


def lower_attend(builder: KernelBuilder, phase: Phase, sizes: PhaseSizes) -> None:
    (op,) = phase.ops
    assert isinstance(op, graph.Attend)
    row_workspaces(builder, phase, [op.result])
    Attention(builder, op, sizes).lower()


class Attention:
    def __init__(self, builder: KernelBuilder, op: graph.Attend, sizes: PhaseSizes) -> None:
        self.builder = builder
        self.op = op
        self.sizes = sizes
        self.shape = [sizes.rows, sizes.heads]
        self.width = op.value_width.value.data

    def lower(self) -> None:
        b, op, sizes = self.builder, self.op, self.sizes
        target = b.ref(op.result)
        rows = (b.ref(op.sequence), 0, sizes.rows, 2)
        with b.grid([rows, (target, 1, sizes.heads)]) as (sequence, start, stop, head):
            place = [(0, start), (1, head)]
            q = b.load(
                b.ref(op.q),
                place,
                [*self.shape, shape_of(op.q)[2]],
                limit=stop,
                space=b.where.operand,
            )
            block = Rows(sequence, start, stop, head, q)
            sums = Sums(
                b.fill(LOWEST, self.shape, f32, b.where.vector),
                b.fill(0.0, self.shape, f32, b.where.vector),
                b.fill(0.0, [*self.shape, self.width], f32, b.where.vector),
            )
            steps = mixed_steps(op)
            for pieces in steps:
                sums = self._mixed(pieces, block, sums)
            for number in range(len(op.keys)):
                if not steps or not self._is_gathered(number):
                    sums = self._source(number, block, sums, covered(steps, number))
            if op.sink is not None:
                sums = self._with_sink(block, sums)
            result = self._divided(sums)
            for ref in b.targets(op.result):
                b.store(result, ref, place, limit=stop)

    # ---- one source ----------------------------------------------------------------------------

    def _is_gathered(self, number: int) -> bool:
        return len(shape_of(self.op.index[number])) == 2

    def _source(self, number: int, block: Rows, sums: Sums, skipped: int) -> Sums:
        """A loop over the keys of a source, but for the first ones."""
        b, columns = self.builder, self.sizes.columns
        index = self.op.index[number]
        gathered = self._is_gathered(number)
        along = b.ref(index if gathered else self.op.keys[number])
        with b.loop(along, 1, columns, sums.values()) as body:
            start = b.rescale(body.start, 1, offset=skipped)
            part = self._part(number, block, start, columns)
            body.next = self._step(Sums(*body.carried), [part]).values()
        return Sums(*body.results)

    def _mixed(self, pieces: Sequence[Piece], block: Rows, sums: Sums) -> Sums:
        """One block of columns that keys of several sources share."""
        parts = []
        for piece in pieces:
            start = self.builder.rescale(block.head, 0, offset=piece.start)
            parts.append(self._part(piece.source, block, start, piece.length))
        return self._step(sums, parts)

    def _part(self, number: int, block: Rows, start: SSAValue, count: int) -> Part:
        """Scores and values of `count` keys of a source."""
        index = self.op.index[number]
        if self._is_gathered(number):
            return Part(*self._gathered(number, index, block, start, count), "ths,tsv->thv")
        visible = self._rows(index, block)
        return Part(*self._stretch(number, visible, block, start, count), "ths,sv->thv")

    def _rows(self, value: SSAValue, block: Rows) -> SSAValue:
        ref, limit = self.builder.ref(value), block.stop
        return self.builder.load(ref, [(0, block.start)], [self.sizes.rows], limit=limit)

    def _gathered(
        self, number: int, index: SSAValue, block: Rows, start: SSAValue, count: int
    ) -> tuple[SSAValue, SSAValue]:
        """Keys that each row names: scores [m, h, n] and values [m, n, V]."""
        b, shape = self.builder, [self.sizes.rows, count]
        rows = b.load(
            b.ref(index), [(0, block.start), (1, start)], shape, limit=block.stop, pad=-1.0
        )
        if self._has_heads(number):
            raise ValueError("keys of several heads are not gathered by index")
        keys = self._held(self.op.keys[number])
        width = shape_of(self.op.keys[number])[2]
        where = b.where.operand
        key = b.gather(keys, rows, [*shape, width], [block.sequence], space=where)
        value = key
        if self.op.values:
            held = self._held(self.op.values[number])
            full = shape_of(self.op.values[number])[2]
            value = b.gather(held, rows, [*shape, full], [block.sequence], space=where)
        scores = self._scaled(b.op(graph.Einsum, [[block.q, key], []], f32, equation=PER_ROW))
        return b.mask(scores, rows), self._first_channels(value)

    def _stretch(
        self, number: int, visible: SSAValue, block: Rows, start: SSAValue, count: int
    ) -> tuple[SSAValue, SSAValue]:
        """Consecutive keys, the same for all rows: scores [m, h, n] and values [n, V]."""
        b = self.builder
        key = self._load_keys(self.op.keys[number], block, start, count)
        held = self.op.values[number] if self.op.values else None
        value = key if held is None else self._load_keys(held, block, start, count)
        scores = self._scaled(b.op(graph.Einsum, [[block.q, key], []], f32, equation=SHARED))
        return b.mask_beyond(scores, start, visible), self._first_channels(value)

    def _load_keys(self, value: SSAValue, block: Rows, start: SSAValue, count: int) -> SSAValue:
        """Keys [n, C] of the sequence, of the one head of them that the heads of the block use."""
        b, shape = self.builder, shape_of(value)
        tile_shape = [count, shape[-1]]
        place, where = [(0, start)], b.where.operand
        if len(shape) == 3:
            return b.load(self._held(value), place, tile_shape, [block.sequence], space=where)
        group = shape_of(self.op.q)[1] // shape[2]
        head = b.rescale(block.head, 1, group)
        loaded = b.load(
            self._held(value),
            [*place, (1, head)],
            [count, 1, shape[-1]],
            [block.sequence],
            space=where,
        )
        return b.op(graph.Reshape, [loaded], shape=tuple(tile_shape))

    def _has_heads(self, number: int) -> bool:
        return len(shape_of(self.op.keys[number])) == 4

    def _held(self, value: SSAValue) -> SSAValue:
        return self.builder.ref(value)

    def _first_channels(self, value: SSAValue) -> SSAValue:
        shape = shape_of(value)
        if shape[-1] == self.width:
            return value
        axis = len(shape) - 1
        return self.builder.op(graph.Slice, [value], axis=axis, start=0, size=self.width)

    def _scaled(self, scores: SSAValue) -> SSAValue:
        b = self.builder
        return b.op(graph.Multiply, [scores, b.constant(self.op.scale.value.data)], f32)

    # ---- sums ----------------------------------------------------------------------------------

    def _beside(self, value: SSAValue) -> SSAValue:
        """[m, h] as [m, h, 1]."""
        return self.builder.op(graph.Reshape, [value], shape=(*self.shape, 1))

    def _step(self, sums: Sums, parts: Sequence[Part]) -> Sums:
        """One block of columns: its parts have one maximum."""
        b = self.builder
        top = sums.top
        for part in parts:
            highest = b.op(graph.ReduceMax, [part.scores], f32, axis=2)
            top = b.op(graph.Maximum, [top, highest], f32)
        beside, sums = self._beside(top), self._rescaled(sums, top)
        for part in parts:
            shifted = b.op(graph.Subtract, [part.scores, beside], f32)
            weight = b.op(graph.Exp, [shifted], f32)
            partial = b.op(graph.ReduceSum, [weight], f32, axis=2)
            if self.op.round is not None:
                weight = b.op(graph.Cast, [weight], bf16)
            product = b.op(graph.Einsum, [[weight, part.values], []], f32, equation=part.equation)
            total = b.op(graph.Add, [sums.total, partial], f32)
            sums = Sums(top, total, b.op(graph.Add, [sums.mixed, product], f32))
        return sums

    def _rescaled(self, sums: Sums, top: SSAValue) -> Sums:
        """The sums relative to a new maximum."""
        b = self.builder
        factor = b.op(graph.Exp, [b.op(graph.Subtract, [sums.top, top], f32)], f32)
        total = b.op(graph.Multiply, [sums.total, factor], f32)
        return Sums(top, total, b.op(graph.Multiply, [sums.mixed, self._beside(factor)], f32))

    def _with_sink(self, block: Rows, sums: Sums) -> Sums:
        b = self.builder
        assert self.op.sink is not None
        sink = b.load(b.ref(self.op.sink), [(0, block.head)], [self.sizes.heads])
        top = b.op(graph.Maximum, [sums.top, sink], f32)
        kept = self._rescaled(sums, top)
        extra = b.op(graph.Exp, [b.op(graph.Subtract, [sink, top], f32)], f32)
        return Sums(top, b.op(graph.Add, [kept.total, extra], f32), kept.mixed)

    def _divided(self, sums: Sums) -> SSAValue:
        """A row that sees nothing has a total of zero, and its result is zero."""
        b = self.builder
        total = b.op(graph.Maximum, [sums.total, b.constant(SMALLEST)], f32)
        element = type_of(self.op.result).element_type
        return b.op(graph.Divide, [sums.mixed, self._beside(total)], element)


# ---- blocks of columns that belong to several sources ------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Keys start .. start + length - 1 of a source."""

    source: int
    start: int
    length: int


def mixed_steps(op: graph.Attend) -> list[list[Piece]]:
    """Blocks of columns, one source behind the other, where sources do not end with a block.

    Rounded weights are relative to the maximum of their block, so that blocks belong to the result.
    Empty where each source begins with a block of its own: then each has a loop. Else all columns
    are listed, but for those of a source without a width, the last one, from its first block on.
    """
    if op.round is None or op.block is None:
        return []
    block = op.block.value.data
    widths = [shape_of(index)[1] if len(shape_of(index)) == 2 else None for index in op.index]
    if all(width is not None and width % block == 0 for width in widths[:-1]):
        return []
    steps: list[list[Piece]] = [[]]
    room = block
    for source, width in enumerate(widths):
        start, stop = 0, room % block if width is None else width
        while start < stop:
            length = min(room, stop - start)
            steps[-1].append(Piece(source, start, length))
            start, room = start + length, room - length
            if not room:
                steps.append([])
                room = block
    return [pieces for pieces in steps if pieces]


def covered(steps: Sequence[Sequence[Piece]], source: int) -> int:
    """How many of the first keys of a source are in the steps."""
    return sum(piece.length for pieces in steps for piece in pieces if piece.source == source)


PER_ROW = "thc,tsc->ths"
SHARED = "thc,sc->ths"
