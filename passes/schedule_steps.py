"""Reads a tiled function as actions on pieces of memory.

A piece is named by the value that stands for it first: results that overwrite operands, and
reshapes, are the memory of their operands. A result of the function that no action makes in place
is copied to memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import DictionaryAttr, TensorType
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, BlockArgument, Operation, OpResult, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.errors import UserError
from supertile.ir.sched_bounds import Bounds
from supertile.ir.tile_access import LaunchAccess, launch_access
from supertile.ir.work import function_shapes
from supertile.passes.schedule_edges import COMPUTE, LINK, Root, Step, data_edges
from supertile.passes.schedule_sizes import Shapes, buffer_bytes


@dataclass(frozen=True)
class Spare:
    """The second buffer of what layers carry from one to the next."""

    carried: SSAValue


@dataclass(frozen=True)
class Copied:
    """Memory for result `number` of a function, which is `value`."""

    number: int
    value: SSAValue


@dataclass(frozen=True)
class Left:
    """Memory for what the second of two micro-batches leaves to the next window of layers: piece
    `slot`, in windows with an even or an odd number."""

    layers: graph.Layers
    slot: int
    odd: bool
    kind: TensorType[Attribute]


@dataclass(frozen=True)
class Back:
    """Memory for the rows that waves of a combine bring back, until they are summed."""

    summed: SSAValue
    """The result of the combine."""


@dataclass(frozen=True)
class Scope:
    """What the values of a function stand for in a program."""

    root: Mapping[SSAValue, Root]
    """The piece of memory that each value of the function lies in."""
    renamed: Callable[[Root], Root] = lambda root: root
    """From a piece of memory of the function to one of the program."""
    half: int | None = None
    """Which of two micro-batches it is for; None: all sequences."""
    behind: bool = False
    """Whether it belongs to the layer before that of the program."""

    def memory(self, value: SSAValue) -> Root:
        return self.renamed(self.root[value])


@dataclass(frozen=True)
class Work:
    """An action to be: what it is, and what it reads and writes."""

    op: Operation | Copied
    step: Step
    scope: Scope
    wave: sched.WaveAttr | None = None
    split: tuple[int, ...] = ()
    """Of a launch in waves: one of `sched.SPLITS` for each input and output."""
    counts: SSAValue | None = None
    """With a wave: how many rows each slot has."""


@dataclass
class Reading:
    """The actions of a function, or of the windows of a layer."""

    works: list[Work] = field(default_factory=list)
    root: dict[SSAValue, Root] = field(default_factory=dict)
    results: list[Root] = field(default_factory=list)
    """The memory of each result of the function: an argument if that is state."""
    sizes: dict[Root, int] = field(default_factory=dict)
    """Bytes of each piece that needs a place in the arena."""
    shapes: Shapes = field(default_factory=dict)
    """Of each value of the function, over named sizes."""

    @property
    def steps(self) -> list[Step]:
        return [work.step for work in self.works]

    @property
    def edges(self) -> list[set[int]]:
        return data_edges(self.steps)

    def add(
        self,
        op: Operation | Copied,
        reads: Sequence[Root],
        writes: Sequence[Root],
        lane: str = COMPUTE,
    ) -> None:
        step = Step(list(dict.fromkeys(reads)), list(dict.fromkeys(writes)), lane)
        self.works.append(Work(op, step, Scope(self.root)))

    def roots(self, values: Sequence[SSAValue]) -> list[Root]:
        return [self.root[value] for value in values]


LeftPieces = Mapping[graph.Layers, Sequence[tuple[TensorType[Attribute], int]]]
"""Layers that run in windows -> type and bytes of each piece that these leave behind."""


def read_function(
    function: FuncOp,
    kernels: Mapping[str, tile.Kernel],
    bounds: Bounds,
    left: LeftPieces,
) -> Reading:
    """The steps of a tiled function and the memory that they need."""
    reading = _Reader(function, kernels, left).read()
    reading.shapes = function_shapes(function)
    made = [value for work in reading.works for value in _results(work.op)]
    own = [value for value in made if reading.root[value] is value]
    sizes = buffer_bytes(function, reading.shapes, own, bounds)
    spares = {root for step in reading.steps for root in step.writes if isinstance(root, Spare)}
    for value in own:
        if value not in reading.results:
            reading.sizes[value] = sizes[value]
        if Spare(value) in spares:
            reading.sizes[Spare(value)] = sizes[value]
    for step in reading.steps:
        for root in step.writes:
            if isinstance(root, Left):
                reading.sizes[root] = left[root.layers][root.slot][1]
    return reading


def _results(op: Operation | Copied) -> Sequence[SSAValue]:
    return op.results if isinstance(op, Operation) else ()


class _Reader:
    def __init__(
        self, function: FuncOp, kernels: Mapping[str, tile.Kernel], left: LeftPieces
    ) -> None:
        self.function = function
        self.access: dict[str, LaunchAccess] = {}
        self.kernels = kernels
        self.left = left
        self.held = Reading()

    def read(self) -> Reading:
        for value in self.function.body.block.args:
            self.held.root[value] = value
        for op in self.function.body.block.ops:
            self.visit(op)
        return self.held

    def visit(self, op: Operation) -> None:
        match op:
            case graph.Weight():
                self.held.root[op.result] = op.result
            case graph.Reshape():
                self.held.root[op.result] = self.held.root[op.x]
            case tile.Launch():
                self.launch(op)
            case comm.CommOp():
                self.own(op)
                self.held.add(op, self.held.roots(op.operands), op.results, LINK)
            case graph.Layers():
                self.layers(op)
            case ReturnOp():
                self.end(op)
            case _:
                name = self.function.sym_name.data
                raise UserError("pass.not_tiled", name=name, op=op.name)

    def own(self, op: Operation) -> None:
        """Every result has memory of its own."""
        for value in op.results:
            self.held.root[value] = value

    def launch(self, op: tile.Launch) -> None:
        kernel = self.kernels[op.kernel.data]
        if op.kernel.data not in self.access:
            self.access[op.kernel.data] = launch_access(kernel)
        access = self.access[op.kernel.data]
        roots = self.held.roots(op.operands)
        for value, reused in zip(op.results, kernel.reuses.get_values(), strict=True):
            self.held.root[value] = value if reused < 0 else self.held.root[op.operands[reused]]
        own = [value for value in op.results if self.held.root[value] is value]
        pairs = list(zip(roots, access.inputs, strict=True))
        self.held.add(
            op,
            [root for root, held in pairs if held.reads],
            [*(root for root, held in pairs if held.writes), *own],
        )

    def layers(self, op: graph.Layers) -> None:
        count = len(op.carried)
        self.held.root.update({value: value for value in op.results[:count]})
        for value, state in zip(op.results[count:], op.states, strict=True):
            self.held.root[value] = self.held.root[state]
        written: list[Root] = list(op.results[:count])
        if op in self.left:
            written += [
                Left(op, slot, odd, kind)
                for odd in (False, True)
                for slot, (kind, _) in enumerate(self.left[op])
            ]
        else:
            written += [Spare(value) for value in op.results[:count]]
        self.held.add(op, self.held.roots(op.operands), [*written, *self.held.roots(op.states)])

    def end(self, op: ReturnOp) -> None:
        for number, value in enumerate(op.operands):
            root = self.held.root[value]
            in_place = _is_made(value) and root is value and root not in self.held.results
            if in_place or _is_state(self.function, root):
                self.held.results.append(root)
            else:
                copied = Copied(number, value)
                self.held.add(copied, [root], [copied])
                self.held.results.append(copied)


def _is_made(value: SSAValue) -> bool:
    return isinstance(value, OpResult) and not isinstance(value.op, graph.Weight)


def _is_state(function: FuncOp, root: Root) -> bool:
    if not isinstance(root, BlockArgument) or function.arg_attrs is None:
        return False
    held = function.arg_attrs.data[root.index]
    return isinstance(held, DictionaryAttr) and "graph.state" in held.data
