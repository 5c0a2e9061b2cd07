"""Runs tile kernels with NumPy: the blocks of each grid one after the other, op by op.

A kernel is turned once into instructions on a list of registers, then launched many times.
References that a kernel makes are filled with NaN, so that a tile nobody stored is noticed.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Block, Operation, SSAValue

from supertile.ir import graph, tile
from supertile.ir.op import properties_of
from supertile.ir.tile_ahead import ops_ahead
from supertile.ir.types import (
    DYNAMIC,
    ELEMENT_NAMES,
    MxAttr,
    f8e8m0,
    i1,
    i32,
    i64,
    is_scaled,
    type_of,
)
from supertile.runtime import tile_ops
from supertile.runtime.arithmetic import LIBRARY, Arithmetic
from supertile.runtime.graph_ops import copied
from supertile.runtime.numerics import Scaled, round_bf16
from supertile.runtime.plan import call_properties, operand_groups, reader, rounding
from supertile.runtime.tile_locate import LOCATE

Frame = list[Any]
Instruction = Callable[[Frame], None]

ROUNDING: dict[str, Callable[[Any], Any]] = {
    "bf16": round_bf16,
    "f16": lambda x: x.astype(np.float16).astype(np.float32),
}
INTEGERS: dict[Attribute, Any] = {i32: np.int32, i64: np.int64, i1: np.bool_}


class KernelPlan:
    """One kernel as instructions."""

    def __init__(self, kernel: tile.Kernel, arithmetic: Arithmetic = LIBRARY) -> None:
        self.name = kernel.sym_name.data
        self.inputs = kernel.inputs.value.data
        self.reuses = tuple(kernel.reuses.get_values())
        self.kinds = [argument.type.tensor for argument in kernel.results_]  # type: ignore[attr-defined]
        self.extents = [extent.fields() for extent in kernel.extents]
        self.kernel = kernel
        self.arithmetic = arithmetic

    @cached_property
    def program(self) -> tuple[list[Instruction], int]:
        """The instructions and how many registers they need; made at the first launch."""
        planner = _Planner(self.arithmetic)
        for argument in self.kernel.body.block.args:
            planner.register(argument)
        instructions = planner.block(self.kernel.body.block)
        return instructions, len(planner.registers)

    def own_results(self, operands: Sequence[Any]) -> list[tuple[TensorType[Attribute], list[int]]]:
        """Type and shape of each result that overwrites no operand."""
        sizes = iter(self.extents)
        return [
            (kind, shape_for(kind, sizes, operands))
            for kind, reused in zip(self.kinds, self.reuses, strict=True)
            if reused < 0
        ]

    def launch(self, operands: list[Any], own: Sequence[Any] | None = None) -> tuple[Any, ...]:
        """The results of the kernel on these operands; reused operands are overwritten.

        `own` is memory for the results that overwrite none; without it they get new memory.
        """
        if own is None:
            own = [allocate(kind, shape) for kind, shape in self.own_results(operands)]
        places = iter(own)
        results = [operands[reused] if reused >= 0 else next(places) for reused in self.reuses]
        instructions, registers = self.program
        frame: Frame = [None] * registers
        frame[: self.inputs + len(results)] = [*operands, *results]
        # Rows of padding may divide by zero: nobody stores what comes of it.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for instruction in instructions:
                instruction(frame)
        return tuple(results)


# ---- sizes and memory --------------------------------------------------------------------------


def extent_size(fields: tuple[str, int, int, int, int], arguments: Sequence[Any]) -> int:
    """A run-time size; see `tile.ExtentAttr`."""
    kind, argument, axis, factor, offset = fields
    held = arguments[argument]
    if kind == "size":
        size = tile_ops.size_of(held, axis)
    elif kind == "most":
        size = int(np.bincount(held).max()) if len(held) else 0
    elif kind == "parts":
        size = tile_ops.size_of(held, 0) // axis
    else:
        size = int(np.count_nonzero((held + 1) % axis == 0))
    return factor * size + offset


def shape_for(kind: TensorType[Attribute], sizes: Any, arguments: Sequence[Any]) -> list[int]:
    """The shape of a tensor of this type, each run-time size the next of `sizes`."""
    return [
        extent_size(next(sizes), arguments) if size == DYNAMIC else size
        for size in kind.get_shape()
    ]


def allocate(kind: TensorType[Attribute], shape: Sequence[int]) -> Any:
    """Memory in which nothing was written: NaN, or for integers a number out of all ranges."""
    element = kind.element_type
    if is_scaled(kind):
        return _allocate_scaled(kind, shape)
    if element in INTEGERS:
        kind_of = INTEGERS[element]
        worst = True if element == i1 else np.iinfo(kind_of).min
        return np.full(shape, worst, dtype=kind_of)
    return np.full(shape, np.nan, dtype=np.float32)


def _allocate_scaled(kind: TensorType[Attribute], shape: Sequence[int]) -> Scaled:
    assert isinstance(kind.encoding, MxAttr)
    block = kind.encoding.sizes
    lead = len(shape) - len(block)
    parts = [-(-size // part) for size, part in zip(shape[lead:], block, strict=True)]
    bytewise = kind.encoding.scale == f8e8m0
    scales = np.full(
        [*shape[:lead], *parts],
        0xFF if bytewise else np.nan,
        dtype=np.uint8 if bytewise else np.float32,
    )
    codes = np.full(shape, 0, dtype=np.uint8)
    return Scaled(codes, scales, ELEMENT_NAMES[kind.element_type], tuple(block))


# ---- instructions ------------------------------------------------------------------------------


class _Planner:
    """Registers of the values of a kernel, and the instructions of its blocks."""

    def __init__(self, arithmetic: Arithmetic) -> None:
        self.arithmetic = arithmetic
        self.registers: dict[SSAValue, int] = {}

    def register(self, value: SSAValue) -> int:
        return self.registers.setdefault(value, len(self.registers))

    def all(self, values: Sequence[SSAValue]) -> list[int]:
        return [self.register(value) for value in values]

    def block(self, block: Block) -> list[Instruction]:
        return [self.instruction(op) for op in block.ops if not isinstance(op, tile.End)]

    def instruction(self, op: Operation) -> Instruction:
        return BUILDERS.get(type(op), _compute)(self, op)


def _compute(planner: _Planner, op: Operation) -> Instruction:
    """A graph op on tiles: its function, and the rounding of its result type."""
    from supertile.runtime.graph_ops import functions

    function, properties = functions(planner.arithmetic)[type(op)], call_properties(op)
    read = reader(operand_groups(op, planner.register))
    outputs = planner.all(op.results)
    rounded = ROUNDING.get(rounding(op) or "")

    def run(frame: Frame) -> None:
        result = function(*read(frame), **properties)
        results = list(result) if isinstance(result, tuple) else [result]
        if rounded is not None:
            results[0] = rounded(results[0])
        for register, value in zip(outputs, results, strict=True):
            frame[register] = value

    return run


def _constant(planner: _Planner, op: Operation) -> Instruction:
    value, output = np.float32(properties_of(op)["value"]), planner.register(op.results[0])

    def run(frame: Frame) -> None:
        frame[output] = value

    return run


def _alloc(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Alloc)
    kind = op.result.type
    assert isinstance(kind, tile.RefType)
    extents, output = [extent.fields() for extent in op.extents], planner.register(op.result)

    def run(frame: Frame) -> None:
        # Extents name arguments of the kernel, which are the first registers.
        frame[output] = allocate(kind.tensor, shape_for(kind.tensor, iter(extents), frame))

    return run


def _grid(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Grid)
    refs, arguments = planner.all(op.refs), planner.all(op.body.block.args)
    body = planner.block(op.body.block)
    axes, steps, ragged = (tuple(held.get_values()) for held in (op.axes, op.steps, op.ragged))

    def run(frame: Frame) -> None:
        dimensions = [
            tile_ops.blocks_of(frame[ref], axis, step, kind)
            for ref, axis, step, kind in zip(refs, axes, steps, ragged, strict=True)
        ]
        for block in itertools.product(*dimensions):
            for register, value in zip(arguments, itertools.chain(*block), strict=True):
                frame[register] = value
            for instruction in body:
                instruction(frame)

    return run


def _loop(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Loop)
    ref, carried = planner.register(op.ref), planner.all(op.carried)
    arguments = planner.all(op.body.block.args[1:])
    steps_of = _pipelined(planner, op) if op.stages.value.data > 1 else _steps(planner, op)
    assert op.body.block.last_op is not None
    last, outputs = planner.all(op.body.block.last_op.operands), planner.all(op.outputs)
    axis, step = op.axis.value.data, op.step.value.data

    def run(frame: Frame) -> None:
        values = [frame[register] for register in carried]
        starts = range(0, tile_ops.size_of(frame[ref], axis), step)
        for compute in steps_of(frame, starts):
            for register, value in zip(arguments, values, strict=True):
                frame[register] = value
            compute(frame)
            values = [frame[register] for register in last]
        for register, value in zip(outputs, values, strict=True):
            frame[register] = value

    return run


Steps = Callable[[Frame, Sequence[int]], Iterator[Instruction]]
"""From the starts of the steps of a loop to what each step does once its carried values are set."""


def _steps(planner: _Planner, loop: tile.Loop) -> Steps:
    """One step after the other."""
    start, body = planner.register(loop.body.block.args[0]), planner.block(loop.body.block)

    def steps(frame: Frame, starts: Sequence[int]) -> Iterator[Instruction]:
        for at in starts:
            frame[start] = at
            yield lambda frame: _run_all(body, frame)

    return steps


def _pipelined(planner: _Planner, loop: tile.Loop) -> Steps:
    """The loads of the next `stages - 1` steps come before the arithmetic of a step.

    What is loaded ahead is copied, as it is on a machine: a store in between is not seen.
    """
    start = planner.register(loop.body.block.args[0])
    ahead = ops_ahead(loop)
    loads = [planner.instruction(op) for op in ahead]
    kept = planner.all([value for op in ahead for value in op.results])
    rest = [op for op in loop.body.block.ops if op not in ahead]
    arithmetic = [planner.instruction(op) for op in rest if not isinstance(op, tile.End)]
    stages = loop.stages.value.data

    def load(frame: Frame, at: int) -> list[Any]:
        frame[start] = at
        _run_all(loads, frame)
        return [copied(frame[register]) for register in kept]

    def steps(frame: Frame, starts: Sequence[int]) -> Iterator[Instruction]:
        flying = deque(load(frame, at) for at in starts[: stages - 1])
        for number, at in enumerate(starts):
            flying += [load(frame, later) for later in starts[number + stages - 1 :][:1]]
            frame[start] = at
            for register, value in zip(kept, flying.popleft(), strict=True):
                frame[register] = value
            yield lambda frame: _run_all(arithmetic, frame)

    return steps


def _run_all(instructions: Sequence[Instruction], frame: Frame) -> None:
    for instruction in instructions:
        instruction(frame)


def _place(planner: _Planner, op: Any, tile_value: SSAValue) -> Callable[[Frame], Any]:
    """From the registers to (reference behind the selected axes, spans of the tile in it)."""
    ref, select, offsets = (
        planner.register(op.ref),
        planner.all(op.select),
        planner.all(op.offsets),
    )
    limit = getattr(op, "limit", None)
    bound = None if limit is None else planner.register(limit)
    axes = list(op.axes.get_values())
    # An index takes the place of the first axes; the tile has the axes of the index there.
    gathered = isinstance(op, tile.Gather | tile.Scatter)
    replaced = len(type_of(op.rows).get_shape()) if gathered else 0
    taken = 0 if not gathered else 1 if op.owner is None else 2
    sizes = type_of(tile_value).get_shape()[replaced:]

    def place(frame: Frame) -> Any:
        held = tile_ops.selected(frame[ref], [frame[register] for register in select])
        whole = held.shape[taken:]
        spans = [(0, size) for size in whole]
        for axis, register in zip(axes, offsets, strict=True):
            start = frame[register]
            spans[axis] = (start, min(start + sizes[axis], whole[axis]))
        if bound is not None:
            start, stop = spans[axes[0]]
            spans[axes[0]] = (start, min(stop, frame[bound]))
        return held, spans

    return place


def _load(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Load)
    place, output = _place(planner, op, op.result), planner.register(op.result)
    shape, pad = type_of(op.result).get_shape(), op.pad.value.data

    def run(frame: Frame) -> None:
        held, spans = place(frame)
        sizes = [
            stop - start if size == DYNAMIC else size
            for size, (start, stop) in zip(shape, spans, strict=True)
        ]
        frame[output] = tile_ops.load(held, spans, sizes, pad)

    return run


def _gather(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Gather)
    place, output = _place(planner, op, op.result), planner.register(op.result)
    rows, shape, pad = planner.register(op.rows), type_of(op.result).get_shape(), op.pad.value.data
    owner = None if op.owner is None else planner.register(op.owner)

    def run(frame: Frame) -> None:
        held, spans = place(frame)
        first = None if owner is None else frame[owner]
        frame[output] = tile_ops.gather(held, frame[rows], spans, shape, pad, first)

    return run


def _store(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Store)
    place, value = _place(planner, op, op.value), planner.register(op.value)

    def run(frame: Frame) -> None:
        held, spans = place(frame)
        tile_ops.store(frame[value], held, spans)

    return run


def _scatter(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Scatter)
    place, value = _place(planner, op, op.value), planner.register(op.value)
    rows = planner.register(op.rows)
    owner = None if op.owner is None else planner.register(op.owner)

    def run(frame: Frame) -> None:
        held, spans = place(frame)
        first = None if owner is None else frame[owner]
        tile_ops.scatter(frame[value], held, frame[rows], spans, first)

    return run


def _fill(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Fill)
    kind, output = type_of(op.result), planner.register(op.result)
    element = INTEGERS.get(kind.element_type, np.float32)
    value = op.value.value.data

    def run(frame: Frame) -> None:
        frame[output] = np.full(kind.get_shape(), value, dtype=element)

    return run


def _call(function: Callable[..., Any]) -> Callable[[_Planner, Operation], Instruction]:
    """An instruction that calls a function on the operands, one after the other."""

    def build(planner: _Planner, op: Operation) -> Instruction:
        inputs, outputs = planner.all(op.operands), planner.all(op.results)

        def run(frame: Frame) -> None:
            result = function(*[frame[register] for register in inputs])
            results = result if isinstance(result, tuple) else (result,)
            for register, value in zip(outputs, results, strict=True):
                frame[register] = value

        return run

    return build


def _mma(planner: _Planner, op: Operation) -> Instruction:
    return _call(partial(tile_ops.mma, arithmetic=planner.arithmetic))(planner, op)


def _mask(planner: _Planner, op: Operation) -> Instruction:
    read, output = reader(operand_groups(op, planner.register)), planner.register(op.results[0])

    def run(frame: Frame) -> None:
        frame[output] = tile_ops.mask(*read(frame))

    return run


def _rescale(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Rescale)
    x, output = planner.register(op.x), planner.register(op.result)
    factor, divisor = op.factor.value.data, op.divisor.value.data
    offset = op.offset.value.data

    def run(frame: Frame) -> None:
        frame[output] = frame[x] * factor // divisor + offset

    return run


def _locate(planner: _Planner, op: Operation) -> Instruction:
    assert isinstance(op, tile.Locate)
    formula = LOCATE[op.formula.data]
    numbers = tuple(op.parameters_.get_values()) if op.parameters_ else ()
    inputs, output = planner.all(op.inputs), planner.register(op.result)

    def run(frame: Frame) -> None:
        frame[output] = formula(*[frame[register] for register in inputs], *numbers)

    return run


BUILDERS: dict[type[Operation], Callable[[_Planner, Operation], Instruction]] = {
    graph.Constant: _constant,
    tile.Alloc: _alloc,
    tile.Grid: _grid,
    tile.Loop: _loop,
    tile.Load: _load,
    tile.Gather: _gather,
    tile.Store: _store,
    tile.Scatter: _scatter,
    tile.Fill: _fill,
    tile.Mma: _mma,
    tile.MergeTopK: _call(tile_ops.merge_top_k),
    tile.Mask: _mask,
    tile.Rescale: _rescale,
    tile.Locate: _locate,
}
