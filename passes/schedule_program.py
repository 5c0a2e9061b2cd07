"""Writes the program of a function from its steps and its arena."""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.op import attribute_of, segments
from supertile.ir.tile import RefType
from supertile.ir.types import type_of
from supertile.passes.schedule_edges import COMPUTE, LINK, Root, reduced
from supertile.passes.schedule_memory import Arena
from supertile.passes.schedule_sizes import Bounds
from supertile.passes.schedule_steps import Copied, Reading, Spare

KEPT = (
    "placement", "ranks", "route", "waves",
    "functions", "kinds", "uses", "label", "microbatches", "kernel",
)  # fmt: skip
"""Properties that an op has in common with what runs it."""


class ProgramBuilder:
    """The ops of one program; `values` are what stands for the values of the function."""

    def __init__(self, function: FuncOp, reading: Reading, arena: Arena, bounds: Bounds) -> None:
        self.function = function
        self.reading = reading
        self.arena = arena
        self.bounds = bounds
        arguments = function.body.block.args
        self.block = Block(arg_types=[value.type for value in arguments])
        self.values: dict[SSAValue, SSAValue] = {}
        self.memory: dict[Root, SSAValue] = {}
        self.events: list[SSAValue] = []
        self.location: Attribute = function.location
        for old, new in zip(arguments, self.block.args, strict=True):
            new.name_hint = old.name_hint
            self.values[old] = new

    def build(self) -> sched.Program:
        returned = self.function.get_return_op()
        assert returned is not None
        self._results(returned)
        for lane, kind in ((COMPUTE, "compute"), (LINK, "link")):
            properties = {"lane": attribute_of(lane), "kind": attribute_of(kind)}
            self.add(sched.Lane.create(properties=properties))
        waits = self._waits()
        numbers = {op: number for number, op in enumerate(self.reading.ops)}
        for op in self.function.body.block.ops:
            self.location = op.location
            if op in numbers:
                self._action(op, waits[numbers[op]])
            else:
                self._other(op)
        for number, made in enumerate(self.reading.ops):
            if isinstance(made, Copied):
                self._copy(made, returned.operands[made.number], waits[number])
        ends = [self._place(root) for root in self.reading.results]
        self.add(sched.End.create(operands=ends))
        return self._program()

    def _place(self, root: Root) -> SSAValue:
        """The memory of a result: what the caller gives, or the argument that is a state."""
        if root in self.memory:
            return self.memory[root]
        assert isinstance(root, SSAValue)
        return self.values[root]

    def _results(self, returned: ReturnOp) -> None:
        """Memory that the caller gives, for every result but states."""
        for root, value in zip(self.reading.results, returned.operands, strict=True):
            if root in self.values:
                continue
            ref = self.block.insert_arg(RefType(type_of(value)), len(self.block.args))
            ref.name_hint = value.name_hint
            self.memory[root] = ref

    def _waits(self) -> list[list[int]]:
        """What each action waits for: what its data need, and what sharing bytes needs."""
        edges = self.reading.edges
        for before, after in self.arena.edges:
            edges[after].add(before)
        return reduced(edges)

    def _program(self) -> sched.Program:
        function = self.function
        attributes = function.arg_attrs
        inputs = len(function.body.block.args)
        arguments = attributes or ArrayAttr([DictionaryAttr({})] * inputs)
        properties = {
            "sym_name": function.sym_name,
            "inputs": attribute_of(inputs),
            "arguments": arguments,
            "memory": attribute_of(self.bounds.memory),
            "bounds": attribute_of(self.bounds.numbers),
            "arena": attribute_of(self.arena.size),
            "live": attribute_of(self.arena.live),
        }
        names = function.attributes.get("graph.results")
        if names is not None:
            properties["results"] = names
        program = sched.Program.create(properties=properties, regions=[Region([self.block])])
        program.location = function.location
        return program

    # ---- ops -----------------------------------------------------------------------------------

    def add(self, op: Operation) -> None:
        op.location = self.location  # type: ignore[assignment]
        self.block.add_op(op)

    def _other(self, op: Operation) -> None:
        match op:
            case graph.Weight():
                moved = op.clone({value: self.values[value] for value in op.operands})
                self.add(moved)
                self._stands(moved.result, op.result)
            case graph.Reshape():
                view = sched.View.create(
                    operands=[self.values[op.x]],
                    properties={"shape": op.shape},
                    result_types=[RefType(type_of(op.result))],
                )
                self.add(view)
                self._stands(view.result, op.result)
            case _:
                assert isinstance(op, ReturnOp), f"{op.name} is no part of a tiled function"

    def _stands(self, new: SSAValue, old: SSAValue) -> None:
        new.name_hint = old.name_hint
        self.values[old] = new

    def _buffer(self, root: Root, value: SSAValue) -> SSAValue:
        """The memory of a result of an op, named by the value."""
        if root not in self.memory:
            properties = {
                "offset": attribute_of(self.arena.offsets[root]),
                "bytes": attribute_of(self.reading.sizes[root]),
            }
            buffer = sched.Buffer.create(
                properties=properties, result_types=[RefType(type_of(value))]
            )
            self.add(buffer)
            buffer.result.name_hint = None if isinstance(root, Spare) else value.name_hint
            self.memory[root] = buffer.result
        return self.memory[root]

    def _action(self, op: Operation, waits: Sequence[int]) -> None:
        own = [value for value in op.results if self.reading.root[value] is value]
        outputs = [self._buffer(value, value) for value in own]
        groups = [self._inputs(op), outputs]
        if isinstance(op, graph.Layers):
            carried, shared, states = (op.carried, op.shared, op.states)
            groups = [[self.values[v] for v in held] for held in (carried, shared, states)]
            groups += [outputs, [self._buffer(Spare(value), value) for value in own]]
        for value in op.results:
            root = self.reading.root[value]
            self.values[value] = self.memory[root] if root in self.memory else self.values[root]
        self._run(_kind(op), groups, waits, _properties(op))

    def _inputs(self, op: Operation) -> list[SSAValue]:
        return [self.values[value] for value in op.operands]

    def _copy(self, copied: Copied, value: SSAValue, waits: Sequence[int]) -> None:
        self._run(sched.Copy, [[self.values[value]], [self.memory[copied]]], waits, {})

    def _run(
        self,
        kind: type[sched.Action],
        groups: list[list[SSAValue]],
        waits: Sequence[int],
        properties: dict[str, Attribute],
    ) -> None:
        groups = [*groups, [self.events[number] for number in waits]]
        lane = LINK if kind is sched.Transfer else COMPUTE
        op = kind.create(
            operands=[value for group in groups for value in group],
            properties={
                **properties,
                "lane": attribute_of(lane),
                "operandSegmentSizes": segments(groups),
            },
            result_types=[sched.EventType()],
        )
        self.add(op)
        self.events.append(op.event)


KINDS: dict[type[Operation], type[sched.Action]] = {
    tile.Launch: sched.Task,
    **dict.fromkeys(comm.OPS, sched.Transfer),
    graph.Layers: sched.Layers,
}


def _kind(op: Operation) -> type[sched.Action]:
    return KINDS[type(op)]


def _properties(op: Operation) -> dict[str, Attribute]:
    kept = {key: value for key, value in op.properties.items() if key in KEPT}
    if isinstance(op, comm.CommOp):
        kept["kind"] = attribute_of(op.name.removeprefix("comm."))
    return kept
