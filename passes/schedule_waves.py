"""The experts of a layer in waves: dispatch, kernels and combine once for each run of slots.

    dispatch  wave 0 settles how many rows each slot gets; every wave carries those of its slots
    kernels   those that combine needs of what dispatch brings, each for the rows of a wave
    combine   every wave brings rows back to places of their own; the last one adds all of them up

A wave waits for the same wave of what it needs. What is neither dispatch nor combine nor between
them sees memory as a whole, and so waits for all waves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, OpResult, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.comm_work import ARRIVED
from supertile.ir.errors import UserError
from supertile.ir.even_parts import even_parts
from supertile.ir.formula import symbol
from supertile.ir.op import shape_of
from supertile.ir.sched import ROWS, SLOTS, WHOLE
from supertile.ir.sched_bounds import Bounds
from supertile.ir.types import MxAttr, tensor, type_of
from supertile.ir.walk import ops_within
from supertile.passes.schedule_edges import LINK, Part, Root, Step
from supertile.passes.schedule_sizes import value_bytes
from supertile.passes.schedule_steps import Back, Reading, Work


def expand_waves(
    reading: Reading, function: FuncOp, kernels: Mapping[str, tile.Kernel], bounds: Bounds
) -> None:
    """Put its waves in the place of each dispatch that has some, and of what belongs to it."""
    for op in function.body.block.ops:
        if isinstance(op, comm.Dispatch) and op.waves is not None and op.waves.value.data > 1:
            _Waves(reading, function, kernels, op).expand(bounds)


def runs_of(slots: int, waves: int) -> list[sched.WaveAttr]:
    """The slots of a rank in so many contiguous runs, the first ones with one more."""
    stops = [*accumulate(even_parts(slots, waves), initial=0)]
    runs = enumerate(pairwise(stops))
    return [sched.WaveAttr.of(number, start, stop, slots) for number, (start, stop) in runs]


def back_type(combine: comm.Combine) -> TensorType[Attribute]:
    """A row for each choice of each token: [T, K, ..]."""
    rows = type_of(combine.rows)
    sizes = [*shape_of(combine.chosen), *rows.get_shape()[1:]]
    return tensor(sizes, rows.element_type)


class _Waves:
    """The waves of one dispatch."""

    def __init__(
        self,
        reading: Reading,
        function: FuncOp,
        kernels: Mapping[str, tile.Kernel],
        dispatch: comm.Dispatch,
    ) -> None:
        self.reading = reading
        self.function = function
        self.kernels = kernels
        self.dispatch = dispatch
        assert dispatch.waves is not None
        self.runs = runs_of(dispatch.placement.width, dispatch.waves.value.data)
        uses = [use.operation for use in dispatch.origin.uses]
        (self.combine,) = [op for op in uses if isinstance(op, comm.Combine)]
        self.counts = reading.root[dispatch.counts]
        self.back = Back(self.combine.result)
        made = [dispatch.rows, dispatch.row_weight, dispatch.origin]
        self.rows: set[Root] = {reading.root[value] for value in made}
        """Memory with the rows of all waves."""

    def expand(self, bounds: Bounds) -> None:
        between = self._between()
        works: list[Work] = []
        for work in self.reading.works:
            match work.op:
                case comm.Dispatch() if work.op is self.dispatch:
                    works += [self._dispatched(work, wave) for wave in self.runs]
                case comm.Combine() if work.op is self.combine:
                    works += [self._combined(work, wave) for wave in self.runs]
                case tile.Launch() if work.op in between:
                    split = self._split(work.op)
                    works += [self._launched(work, wave, split) for wave in self.runs]
                case _:
                    works.append(work)
        self.reading.works = [self._with_parts(work) for work in works]
        self.reading.sizes[self.back] = value_bytes(
            self.function,
            self.reading.shapes,
            self.combine.chosen,
            back_type(self.combine),
            bounds,
        )

    # ---- what runs in waves --------------------------------------------------------------------

    def _between(self) -> set[tile.Launch]:
        """The launches on the ways from dispatch to combine."""
        behind: set[SSAValue] = set(self.dispatch.results)
        launches: list[tile.Launch] = []
        for op in self.function.body.block.ops:
            if any(value in behind for value in op.operands) and op is not self.combine:
                behind.update(op.results)
                launches += [op] if isinstance(op, tile.Launch) else []
        needed: set[SSAValue] = {self.combine.rows}
        found: set[tile.Launch] = set()
        for op in reversed([*self.function.body.block.ops]):
            if not any(value in needed for value in op.results) or op is self.dispatch:
                continue
            if isinstance(op, tile.Launch) and op in launches:
                found.add(op)
            needed.update(value for value in op.operands if value in behind)
        for op in sorted(found, key=launches.index):
            kernel = self.kernels[op.kernel.data]
            reused = zip(op.results, kernel.reuses.get_values(), strict=True)
            self.rows.update(self.reading.root[value] for value, old in reused if old < 0)
        return found

    def _split(self, op: tile.Launch) -> tuple[int, ...]:
        """What a wave of a launch uses of each operand, and of each result with its own memory."""
        kernel = self.kernels[op.kernel.data]
        split = [self._part(value) for value in op.operands]
        self._check_local(kernel, split)
        shapes = self.reading.shapes
        for value, reused in zip(op.results, kernel.reuses.get_values(), strict=True):
            if shapes[value][:1] != (symbol(ARRIVED),) or (reused >= 0 and split[reused] != ROWS):
                self._refuse(f"@{op.kernel.data} makes a value that has no row for each that came")
        return (*split, *(ROWS for reused in kernel.reuses.get_values() if reused < 0))

    def _part(self, value: SSAValue) -> int:
        root = self.reading.root[value]
        if root in self.rows:
            kind = type_of(value)
            if isinstance(kind.encoding, MxAttr) and _rows_share_scales(kind.encoding, kind):
                self._refuse("scale blocks reach over rows")
            return ROWS
        return SLOTS if root == self.counts or self._is_of_experts(value) else WHOLE

    def _is_of_experts(self, value: SSAValue) -> bool:
        """Whether it is a weight of the experts, or made of such weights alone: a slot a row."""
        if not isinstance(value, OpResult):
            return False
        op = value.op
        if isinstance(op, graph.Weight):
            return op.placement is not None
        made = isinstance(op, tile.Launch | graph.Reshape) and bool(op.operands)
        return made and all(self._is_of_experts(operand) for operand in op.operands)

    def _check_local(self, kernel: tile.Kernel, split: Sequence[int]) -> None:
        """A row of a result must follow from the same row of operands, and from its slot."""
        names = zip(kernel.body.block.args, split, strict=False)
        rows = {ref for ref, part in names if part == ROWS} | set(kernel.results_)
        for op in ops_within(kernel):
            moved = isinstance(op, tile.Gather | tile.Scatter) and op.ref in rows
            around = isinstance(op, tile.Loop) and op.ref in rows and op.axis.value.data == 0
            if moved or around:
                self._refuse(f"@{kernel.sym_name.data} mixes rows of several experts")

    def _refuse(self, reason: str) -> None:
        raise UserError("pass.waves", name=self.function.sym_name.data, reason=reason)

    # ---- waves ---------------------------------------------------------------------------------

    def _dispatched(self, work: Work, wave: sched.WaveAttr) -> Work:
        own = {*self.reading.roots(self.dispatch.results)} - {self.counts}
        writes: list[Root] = [*_parts(own, work.step.writes, wave)]
        reads = [*work.step.reads]
        if wave.is_first:
            writes.append(self.counts)
        else:
            reads.append(self.counts)
        return replace(work, step=Step(reads, writes, LINK), **self._of(wave))

    def _launched(self, work: Work, wave: sched.WaveAttr, split: tuple[int, ...]) -> Work:
        reads, writes = (
            [Part(root, wave.number) if root in self.rows else root for root in roots]
            for roots in (work.step.reads, work.step.writes)
        )
        reads = [*dict.fromkeys((*reads, self.counts))]
        step = replace(work.step, reads=reads, writes=writes)
        return replace(work, step=step, split=split, **self._of(wave))

    def _combined(self, work: Work, wave: sched.WaveAttr) -> Work:
        """The last wave has its rows at hand: only those of the others are read again."""
        reads = [Part(root, wave.number) if root in self.rows else root for root in work.step.reads]
        places = [Part(self.back, run.number) for run in self.runs if not run.is_last]
        writes: list[Root] = [*work.step.writes]
        if wave.is_last:
            reads += places
        else:
            writes = [places[wave.number]]
        return replace(work, step=Step([*reads, self.counts], writes, LINK), **self._of(wave))

    def _of(self, wave: sched.WaveAttr) -> dict[str, Any]:
        return {"wave": wave, "counts": self.dispatch.counts}

    def _with_parts(self, work: Work) -> Work:
        """What uses the rows of all waves uses each."""
        whole = self.rows & work.step.touched
        if not whole:
            return work
        reads, writes = (
            [
                part
                for root in roots
                for part in (
                    [Part(root, wave.number) for wave in self.runs] if root in whole else [root]
                )
            ]
            for roots in (work.step.reads, work.step.writes)
        )
        return replace(work, step=replace(work.step, reads=reads, writes=writes))


def _parts(own: set[Root], roots: Sequence[Root], wave: sched.WaveAttr) -> list[Root]:
    return [Part(root, wave.number) for root in roots if root in own]


def _rows_share_scales(encoding: MxAttr, kind: TensorType[Attribute]) -> bool:
    """Whether a scale block has several rows."""
    blocks = encoding.sizes
    lead = len(kind.get_shape()) - len(blocks)
    return lead == 0 and blocks[0] != 1
