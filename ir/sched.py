"""The sched dialect: programs of tasks on lanes, ordered by events, on planned bytes of memory.

A program takes the place of a function. Its tasks are kernel launches and transfers; a task may
start once the tasks whose events it waits for have ended, and nothing else orders two tasks: a lane
runs one task at a time, but which of those that are ready is up to the machine.

A tensor value is memory from outside: an argument, or a weight. A `!tile.ref` is memory that the
tasks fill: bytes of the program's arena, which begins with undefined contents, or a result, whose
memory the caller gives. Run-time sizes fill the front of a buffer, which is made for upper bounds.

The checks that need more than one op are in `sched_check.py`.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    IntAttr,
    StringAttr,
    SymbolRefAttr,
    i32,
)
from xdsl.ir import Attribute, Dialect, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AnyOf,
    AttrSizedOperandSegments,
    BaseAttr,
    irdl_attr_definition,
    irdl_op_definition,
    irdl_to_attr_constraint,
    operand_def,
    opt_prop_def,
    param_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, IsTerminator
from xdsl.utils.exceptions import VerifyException

from supertile.ir.comm import check_waves
from supertile.ir.comm_route import RouteAttr
from supertile.ir.expert_plan import ANY_PLACEMENT
from supertile.ir.op import Integer, Integers, SupertileOp
from supertile.ir.tile import RefType, Tensor
from supertile.ir.types import type_of

Memory = AnyOf((BaseAttr(RefType), irdl_to_attr_constraint(Tensor)))
LANE_KINDS = ("compute", "link")
MEMORIES = ("device", "runtime")
"""How long values are: as their types declare, or as the NumPy executor holds them."""


@irdl_attr_definition
class EventType(ParametrizedAttribute, TypeAttribute):
    """That a task has ended."""

    name = "sched.event"


@irdl_attr_definition
class CostAttr(ParametrizedAttribute):
    """When a task runs and what it moves: `#sched.cost<start = 0, duration = 950, ...>`.

    start and duration in nanoseconds from the start of the program; floating-point operations;
    bytes of device memory; bytes on the wire.
    """

    name = "sched.cost"
    numbers: ArrayAttr[IntAttr] = param_def()

    FIELDS: ClassVar[tuple[str, ...]] = ("start", "duration", "flops", "bytes", "wire")

    @staticmethod
    def of(start: int, duration: int, flops: int = 0, bytes: int = 0, wire: int = 0) -> CostAttr:
        return CostAttr(ArrayAttr([IntAttr(n) for n in (start, duration, flops, bytes, wire)]))

    def fields(self) -> dict[str, int]:
        return {key: number.data for key, number in zip(self.FIELDS, self.numbers, strict=True)}

    def verify(self) -> None:
        if len(self.numbers) != len(self.FIELDS) or any(n.data < 0 for n in self.numbers):
            raise VerifyException(f"a cost is {', '.join(self.FIELDS)}, none below 0")

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(", ".join(f"{k} = {n}" for k, n in self.fields().items()))

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> Sequence[Attribute]:
        numbers = []
        with parser.in_angle_brackets():
            for position, key in enumerate(cls.FIELDS):
                if position:
                    parser.parse_punctuation(",")
                parser.parse_keyword(key)
                parser.parse_punctuation("=")
                numbers.append(IntAttr(parser.parse_integer()))
        return [ArrayAttr(numbers)]


class SchedOp(SupertileOp, ABC):
    """An op of the sched dialect."""


def tensor_of(value: SSAValue) -> Tensor:
    """The tensor that a piece of memory holds."""
    return value.type.tensor if isinstance(value.type, RefType) else type_of(value)


# ---- programs, lanes, memory -------------------------------------------------------------------


@irdl_op_definition
class Program(SchedOp):
    """A function as tasks. Arguments: `inputs` of the function's, then memory for its own results.

    `arguments` are the attributes of the function's arguments, `results` the names of its results.
    The arena has `arena` bytes; at some point of the program `live` of them hold values that are
    still needed, so that no arena is smaller. `bounds` are tokens, sequences and context that the
    buffers are made for, in the bytes of `memory`.
    """

    name = "sched.program"
    sym_name = prop_def(StringAttr)
    inputs = prop_def(Integer)
    arguments = prop_def(ArrayAttr[DictionaryAttr])
    results_ = opt_prop_def(ArrayAttr[StringAttr], prop_name="results")
    memory = prop_def(StringAttr)
    bounds = prop_def(Integers)
    arena = prop_def(Integer)
    live = prop_def(Integer)
    body = region_def("single_block")
    traits = traits_def(IsolatedFromAbove())

    def verify_(self) -> None:
        if self.memory.data not in MEMORIES:
            raise VerifyException(f"memory is one of {', '.join(MEMORIES)}")
        if len(self.bounds.get_values()) != 3:
            raise VerifyException("bounds are tokens, sequences and context")
        if len(self.arguments) != self.inputs.value.data:
            raise VerifyException(f"{len(self.arguments)} attributes for {self.inputs.value.data}")
        if any(not isinstance(value.type, RefType) for value in self.outputs):
            raise VerifyException("memory for a result is a reference")
        if not isinstance(self.body.block.last_op, End):
            raise VerifyException("a program ends with sched.end")

    @property
    def outputs(self) -> Sequence[SSAValue]:
        """The memory for results."""
        return self.body.block.args[self.inputs.value.data :]

    @property
    def end(self) -> End:
        last = self.body.block.last_op
        assert isinstance(last, End)
        return last

    @property
    def actions(self) -> list[Action]:
        """What has an event, in program order."""
        return [op for op in self.body.block.ops if isinstance(op, Action)]


@irdl_op_definition
class Lane(SchedOp):
    """A queue of a device: its compute cores together, or a link."""

    name = "sched.lane"
    lane = prop_def(StringAttr)
    kind = prop_def(StringAttr)

    def verify_(self) -> None:
        if self.kind.data not in LANE_KINDS:
            raise VerifyException(f"a lane is one of {', '.join(LANE_KINDS)}")


@irdl_op_definition
class Buffer(SchedOp):
    """Bytes offset .. offset + bytes - 1 of the arena."""

    name = "sched.buffer"
    offset = prop_def(Integer)
    bytes = prop_def(Integer)
    result = result_def(RefType)

    def verify_(self) -> None:
        if self.offset.value.data < 0 or self.bytes.value.data < 0:
            raise VerifyException("a buffer has no negative numbers")

    @property
    def span(self) -> tuple[int, int]:
        """(first byte, end)."""
        start = self.offset.value.data
        return start, start + self.bytes.value.data


@irdl_op_definition
class View(SchedOp):
    """The same bytes in another shape; each -1 stands for the next run-time size of x."""

    name = "sched.view"
    x = operand_def(Memory)
    shape = prop_def(Integers)
    result = result_def(RefType)


# ---- what runs ---------------------------------------------------------------------------------


class Action(SchedOp, ABC):
    """Something that runs on a lane once all it waits for has ended, and then gives its event."""

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    lane = prop_def(StringAttr)
    cost = opt_prop_def(CostAttr)
    event = result_def(EventType)

    @property
    def awaited(self) -> list[Action]:
        """The actions whose events it waits for."""
        events = [value for value in self.operands if isinstance(value.type, EventType)]
        return [event.owner for event in events if isinstance(event.owner, Action)]

    def wait_for(self, events: Sequence[SSAValue]) -> None:
        """Wait for these events and no others: they are the last group of operands."""
        kept = [value for value in self.operands if not isinstance(value.type, EventType)]
        sizes = self.properties["operandSegmentSizes"]
        assert isinstance(sizes, DenseArrayBase)
        groups = [*sizes.get_values()[:-1], len(events)]
        self.properties["operandSegmentSizes"] = DenseArrayBase.from_list(i32, groups)
        self.operands = [*kept, *events]


@irdl_op_definition
class Task(Action):
    """One launch of a kernel. `outputs` are the results that overwrite no operand, in order."""

    name = "sched.task"
    inputs = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    waits = var_operand_def(EventType)
    kernel = prop_def(StringAttr)


@irdl_op_definition
class Transfer(Action):
    """One op of the comm dialect, on a link: `kind` is its name, `waves` those of a dispatch."""

    name = "sched.transfer"
    inputs = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    waits = var_operand_def(EventType)
    kind = prop_def(StringAttr)
    placement = opt_prop_def(ANY_PLACEMENT)
    route = opt_prop_def(RouteAttr)
    waves = opt_prop_def(Integer)
    ranks = opt_prop_def(Integer)

    def verify_(self) -> None:
        if self.waves is not None:
            if self.placement is None:
                raise VerifyException("only what has a placement runs in waves")
            check_waves(self.waves.value.data, self.placement.width)


@irdl_op_definition
class Copy(Action):
    """The bytes of one piece of memory into another: a result that no task makes in place."""

    name = "sched.copy"
    inputs = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    waits = var_operand_def(EventType)

    def verify_(self) -> None:
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            raise VerifyException("a copy has one source and one target")


@irdl_op_definition
class Layers(Action):
    """Programs of layers, one after the other, as `graph.layers` calls functions.

    The first layer reads `carried`. Layers write `outputs` and `spares` in turn, each reading what
    the one before has written, and so that the last one writes `outputs`. All lanes are its own.
    Two `microbatches` of a call use the front and the back of every buffer of a layer.
    """

    name = "sched.layers"
    carried = var_operand_def(Memory)
    shared = var_operand_def(Memory)
    states = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    spares = var_operand_def(RefType)
    waits = var_operand_def(EventType)
    functions = prop_def(ArrayAttr[SymbolRefAttr])
    kinds = prop_def(Integers)
    uses = prop_def(ArrayAttr[Integers])
    label = prop_def(StringAttr)
    microbatches = opt_prop_def(Integer)

    def verify_(self) -> None:
        kinds = [[tensor_of(v) for v in held] for held in (self.carried, self.outputs, self.spares)]
        if not kinds[0] == kinds[1] == kinds[2]:
            raise VerifyException("what is carried, outputs and spares have the same types")


@irdl_op_definition
class End(SchedOp):
    """The end, once all tasks have ended; its operands are the results of the function, in order.

    State is updated in place: where a function returns a state, that is the argument.
    """

    name = "sched.end"
    values = var_operand_def(Memory)
    traits = traits_def(IsTerminator())


OPS: tuple[type[SupertileOp], ...] = (
    Program, Lane, Buffer, View, Task, Transfer, Copy, Layers, End,
)  # fmt: skip

SCHED = Dialect("sched", list(OPS), [EventType, CostAttr])
