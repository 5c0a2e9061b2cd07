"""Writes a program from its actions and its arena."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, TensorType, UnitAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Block, Operation, OpResult, Region, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.op import attribute_of, segments
from supertile.ir.sched_bounds import Bounds
from supertile.ir.tile import RefType
from supertile.ir.types import type_of
from supertile.passes.schedule_edges import COMPUTE, LINK, Root, reduced, whole_of
from supertile.passes.schedule_memory import Arena
from supertile.passes.schedule_steps import Back, Copied, Left, Reading, Scope, Spare, Work
from supertile.passes.schedule_waves import back_type

KEPT = (
    "placement", "ranks", "route",
    "functions", "kinds", "uses", "label", "microbatches", "kernel",
)  # fmt: skip
"""Properties that an op has in common with what runs it."""

Piece = tuple[Root, TensorType[Attribute], str | None]
"""Memory from outside: its root, the type of what it holds, and its name."""


@dataclass(frozen=True)
class Frame:
    """What a program is called with, and what it gives."""

    name: str
    location: Attribute
    arguments: Sequence[tuple[Root, SSAValue, DictionaryAttr]]
    """In order: the memory, a value of the same type and name, and the attributes."""
    outputs: Sequence[Piece]
    """Memory for results, which the caller gives."""
    results: Sequence[Root]
    """The memory of each result in order: of a state, that of the argument."""
    properties: dict[str, Attribute] = field(default_factory=dict)


def frame_of(function: FuncOp, reading: Reading) -> Frame:
    """The frame of a function as a program of its own."""
    values = function.body.block.args
    attributes = function.arg_attrs or ArrayAttr([DictionaryAttr({})] * len(values))
    returned = function.get_return_op()
    assert returned is not None
    outputs: list[Piece] = [
        (root, type_of(value), value.name_hint)
        for root, value in zip(reading.results, returned.operands, strict=True)
        if root not in values
    ]
    names = function.attributes.get("graph.results")
    return Frame(
        function.sym_name.data,
        function.location,
        [(value, value, held) for value, held in zip(values, attributes, strict=True)],
        outputs,
        reading.results,
        {} if names is None else {"results": names},
    )


class ProgramBuilder:
    """The ops of one program; `windows` are properties of layers that run in windows."""

    def __init__(
        self,
        frame: Frame,
        reading: Reading,
        arena: Arena,
        bounds: Bounds,
        windows: dict[graph.Layers, dict[str, Attribute]] | None = None,
    ) -> None:
        self.frame = frame
        self.reading = reading
        self.arena = arena
        self.bounds = bounds
        self.windows = windows or {}
        self.block = Block()
        self.memory: dict[Root, SSAValue] = {}
        self.views: dict[tuple[Root, SSAValue], SSAValue] = {}
        self.events: list[SSAValue] = []
        self.location = frame.location

    def build(self) -> sched.Program:
        for root, like, _ in self.frame.arguments:
            self._outside(root, like.type, like.name_hint)
        for root, kind, name in self.frame.outputs:
            self._outside(root, RefType(kind), name)
        for lane in (COMPUTE, LINK):
            properties = {"lane": attribute_of(lane), "kind": attribute_of(lane)}
            self.add(sched.Lane.create(properties=properties))
        for work, waits in zip(self.reading.works, self._waits(), strict=True):
            if isinstance(work.op, Operation):
                self.location = work.op.location
            self._action(work, waits)
        ends = [self.memory[root] for root in self.frame.results]
        self.add(sched.End.create(operands=ends))
        return self._program()

    def _outside(self, root: Root, kind: Attribute, name: str | None) -> None:
        value = self.block.insert_arg(kind, len(self.block.args))
        value.name_hint = name
        self.memory[root] = value

    def _waits(self) -> list[list[int]]:
        """What each action waits for: what its data need, and what sharing bytes needs."""
        edges = self.reading.edges
        for before, after in self.arena.edges:
            edges[after].add(before)
        return reduced(edges)

    def _program(self) -> sched.Program:
        properties: dict[str, Attribute] = {
            "sym_name": attribute_of(self.frame.name),
            "inputs": attribute_of(len(self.frame.arguments)),
            "arguments": ArrayAttr([held for *_, held in self.frame.arguments]),
            "memory": attribute_of(self.bounds.memory),
            "bounds": attribute_of(self.bounds.numbers),
            "arena": attribute_of(self.arena.size),
            "live": attribute_of(self.arena.live),
            **self.frame.properties,
        }
        program = sched.Program.create(properties=properties, regions=[Region([self.block])])
        program.location = self.frame.location  # type: ignore[assignment]
        return program

    # ---- memory --------------------------------------------------------------------------------

    def add(self, op: Operation) -> None:
        op.location = self.location  # type: ignore[assignment]
        self.block.add_op(op)

    def _value(self, scope: Scope, value: SSAValue) -> SSAValue:
        """What stands for a value of a function: memory, or a view of it; made at first use."""
        root = whole_of(scope.memory(value))
        if isinstance(value, OpResult) and isinstance(value.op, graph.Weight):
            return self._weight(scope, value.op)
        if isinstance(value, OpResult) and isinstance(value.op, graph.Reshape):
            return self._view(root, scope, value.op)
        if root in self.memory:
            return self.memory[root]
        return self._place(root, type_of(value), value.name_hint)

    def _weight(self, scope: Scope, op: graph.Weight) -> SSAValue:
        if op.result not in self.memory:
            layer = [self._value(scope, value) for value in op.operands]
            moved = op.clone(dict(zip(op.operands, layer, strict=True)))
            self._add_from(op, moved)
            self._stands(moved.result, op.result)
            self.memory[op.result] = moved.result
        return self.memory[op.result]

    def _view(self, root: Root, scope: Scope, op: graph.Reshape) -> SSAValue:
        if (root, op.result) not in self.views:
            view = sched.View.create(
                operands=[self._value(scope, op.x)],
                properties={"shape": op.shape},
                result_types=[RefType(type_of(op.result))],
            )
            self._add_from(op, view)
            self._stands(view.result, op.result)
            self.views[root, op.result] = view.result
        return self.views[root, op.result]

    def _add_from(self, op: Operation, made: Operation) -> None:
        here = self.location
        self.location = op.location
        self.add(made)
        self.location = here

    def _stands(self, new: SSAValue, old: SSAValue) -> None:
        new.name_hint = old.name_hint

    def _place(self, root: Root, kind: TensorType[Attribute], name: str | None) -> SSAValue:
        """Memory from outside, or a buffer of the arena."""
        if root not in self.memory:
            properties = {
                "offset": attribute_of(self.arena.offsets[root]),
                "bytes": attribute_of(self.reading.sizes[root]),
            }
            buffer = sched.Buffer.create(properties=properties, result_types=[RefType(kind)])
            self.add(buffer)
            buffer.result.name_hint = name
            self.memory[root] = buffer.result
        return self.memory[root]

    # ---- actions -------------------------------------------------------------------------------

    def _action(self, work: Work, waits: Sequence[int]) -> None:
        op = work.op
        match op:
            case Copied():
                self._copy(work, op, waits)
            case graph.Layers():
                self._layers(work, op, waits)
            case _:
                inputs = [self._value(work.scope, value) for value in op.operands]
                sums = not isinstance(op, comm.Combine) or work.wave is None or work.wave.is_last
                own = self._own(op) if sums else []
                outputs = [self._value(work.scope, value) for value in own]
                if work.wave is not None:
                    inputs, outputs = self._of_wave(work, work.wave, inputs, outputs)
                self._run(KINDS[type(op)], [inputs, outputs], waits, _properties(work))

    def _own(self, op: Operation) -> list[SSAValue]:
        """The results that overwrite no operand."""
        return [value for value in op.results if self.reading.root.get(value, value) is value]

    def _of_wave(
        self,
        work: Work,
        wave: sched.WaveAttr,
        inputs: list[SSAValue],
        outputs: list[SSAValue],
    ) -> tuple[list[SSAValue], list[SSAValue]]:
        """What a wave uses: see `sched.Task` and `sched.Transfer`."""
        op = work.op
        if isinstance(op, comm.Dispatch) and wave.is_first:
            return inputs, outputs
        assert work.counts is not None
        counts = self._value(work.scope, work.counts)
        if isinstance(op, comm.Dispatch):
            return [*inputs, counts], [value for value in outputs if value is not counts]
        if isinstance(op, comm.Combine):
            back = self._place(work.scope.renamed(Back(op.result)), back_type(op), None)
            return (
                ([*inputs, back, counts], outputs) if wave.is_last else ([*inputs, counts], [back])
            )
        return [*inputs, counts], outputs

    def _layers(self, work: Work, op: graph.Layers, waits: Sequence[int]) -> None:
        carried, shared, states = (
            [self._value(work.scope, value) for value in held]
            for held in (op.carried, op.shared, op.states)
        )
        own = op.results[: len(op.carried)]
        outputs = [self._value(work.scope, value) for value in own]
        if op in self.windows:
            spares = [
                self._place(root, root.kind, None)
                for root in work.step.writes
                if isinstance(root, Left)
            ]
        else:
            spares = [self._place(Spare(value), type_of(value), None) for value in own]
        properties = _properties(work) | self.windows.get(op, {})
        self._run(sched.Layers, [carried, shared, states, outputs, spares], waits, properties)

    def _copy(self, work: Work, copied: Copied, waits: Sequence[int]) -> None:
        source = self._value(work.scope, copied.value)
        target = self.memory[whole_of(work.scope.renamed(copied))]
        self._run(sched.Copy, [[source], [target]], waits, _properties(work))

    def _run(
        self,
        kind: type[sched.Action],
        groups: Sequence[Sequence[SSAValue]],
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
                "operandSegmentSizes": segments([[*group] for group in groups]),
            },
            result_types=[sched.EventType()],
        )
        self.add(op)
        self.events.append(op.event)


KINDS: dict[type[Operation], type[sched.Action]] = {
    tile.Launch: sched.Task,
    **dict.fromkeys(comm.OPS, sched.Transfer),
}


def _properties(work: Work) -> dict[str, Attribute]:
    op = work.op
    found: dict[str, Attribute] = {}
    if isinstance(op, Operation):
        found |= {key: value for key, value in op.properties.items() if key in KEPT}
    if isinstance(op, comm.CommOp):
        found["kind"] = attribute_of(op.name.removeprefix("comm."))
    if work.wave is not None:
        found["wave"] = work.wave
    if work.split:
        found["split"] = attribute_of([*work.split])
    if work.scope.half is not None:
        found["half"] = attribute_of(work.scope.half)
    if work.scope.behind:
        found["behind"] = UnitAttr()
    return found
