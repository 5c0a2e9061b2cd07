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

from xdsl.dialects.builtin import (
    ArrayAttr,
    DenseArrayBase,
    DictionaryAttr,
    StringAttr,
    SymbolRefAttr,
    UnitAttr,
    i32,
)
from xdsl.ir import Dialect, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AnyOf,
    AttrSizedOperandSegments,
    BaseAttr,
    irdl_attr_definition,
    irdl_op_definition,
    irdl_to_attr_constraint,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.traits import IsolatedFromAbove, IsTerminator
from xdsl.utils.exceptions import VerifyException

from supertile.ir.comm_route import RouteAttr
from supertile.ir.expert_plan import ANY_PLACEMENT
from supertile.ir.op import Integer, Integers, SupertileOp
from supertile.ir.sched_attributes import CostAttr as CostAttr, WaveAttr as WaveAttr
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

    A window of layers has `halves`: of its actions each is for one half of the sequences. So many
    results have a part for each half, and so many inputs, the last ones, are what the second half
    left in the window before; the results behind the first ones are what it leaves now. With
    `begun` the first so many results hold what the window before has written.
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
    halves = opt_prop_def(Integers)
    begun_ = opt_prop_def(Integer, prop_name="begun")
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
        if self.halves is not None and len(self.halves.get_values()) != 2:
            raise VerifyException("halves are a number of results and a number of inputs")
        if any((op.half is None) != (self.halves is None) for op in self.actions):
            raise VerifyException("actions of a window, and no others, are for one half each")

    @property
    def outputs(self) -> Sequence[SSAValue]:
        """The memory for results."""
        return self.body.block.args[self.inputs.value.data :]

    @property
    def begun(self) -> int:
        """How many results, the first ones, hold something when the program starts."""
        return 0 if self.begun_ is None else self.begun_.value.data

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
    """Something that runs on a lane once all it waits for has ended, and then gives its event.

    `half`: 0 or 1, of the two micro-batches of a call; of arguments and results of the program it
    uses the part of its sequences. `behind`: it belongs to the layer before that of the program.
    """

    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    lane = prop_def(StringAttr)
    cost = opt_prop_def(CostAttr)
    half = opt_prop_def(Integer)
    behind = opt_prop_def(UnitAttr)
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

    @property
    def is_behind(self) -> bool:
        """Whether it belongs to the layer before that of the program."""
        return self.behind is not None

    @property
    def half_number(self) -> int | None:
        """Which of two micro-batches; None: all sequences."""
        return None if self.half is None else self.half.value.data


WHOLE, ROWS, SLOTS = SPLITS = (0, 1, 2)
"""What a wave uses of a piece of memory: all of it, the rows of its slots, or its slots."""


@irdl_op_definition
class Task(Action):
    """One launch of a kernel. `outputs` are the results that overwrite no operand, in order.

    With a `wave` the kernel is launched for the slots of the wave alone. `split` says for each of
    the kernel's inputs and outputs what of it that is, one of `SPLITS`; one more input behind
    those of the kernel counts the rows of each slot of the rank, which lie one slot after another.
    """

    name = "sched.task"
    inputs = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    waits = var_operand_def(EventType)
    kernel = prop_def(StringAttr)
    wave = opt_prop_def(WaveAttr)
    split = opt_prop_def(Integers)

    def verify_(self) -> None:
        if (self.wave is None) != (self.split is None):
            raise VerifyException("a task with a wave, and no other, says what of memory it uses")
        if self.split is not None:
            split = self.split.get_values()
            if len(split) != len(self.operands_of_kernel) + len(self.outputs):
                raise VerifyException("each input and output of the kernel has its split")
            if any(one not in SPLITS for one in split):
                raise VerifyException(f"a split is one of {SPLITS}")

    @property
    def operands_of_kernel(self) -> Sequence[SSAValue]:
        """Its inputs without the counts of a wave."""
        return self.inputs if self.wave is None else self.inputs[:-1]


@irdl_op_definition
class Transfer(Action):
    """One op of the comm dialect, on a link: `kind` is its name.

    A `wave` of a dispatch carries the rows for its slots. The first one settles how many rows each
    slot of a rank gets in all, which is one of its outputs; later ones read that behind their
    other inputs. A wave of a combine brings the rows of its slots back to where they are summed,
    the place of their choice [T, K, ..], which is its output. The last one has the places that
    others filled as its last input but one, and its output is the sum; its last input counts rows,
    as that of a task.
    """

    name = "sched.transfer"
    inputs = var_operand_def(Memory)
    outputs = var_operand_def(RefType)
    waits = var_operand_def(EventType)
    kind = prop_def(StringAttr)
    placement = opt_prop_def(ANY_PLACEMENT)
    route = opt_prop_def(RouteAttr)
    wave = opt_prop_def(WaveAttr)
    ranks = opt_prop_def(Integer)

    def verify_(self) -> None:
        if self.wave is None:
            return
        if self.kind.data not in ("dispatch", "combine"):
            raise VerifyException(f"{self.kind.data} does not run in waves")
        if self.placement is not None and self.placement.width != self.wave.width:
            width = self.placement.width
            raise VerifyException(f"the wave is of {self.wave.width} slots, ranks have {width}")


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

    With two `microbatches` the programs are windows. Window l runs layer l, but for what its second
    half does behind combine; that is done by window l + 1, of which there is one more than layers
    if it is needed. The first one reads `carried`; all of them write `outputs` in place, and those
    behind it read them there. Half of the `spares` is what windows with an even number leave to
    the next, the other half what the odd ones leave: function f reads the pieces left_in[f] behind
    its states, and writes left_out[f] behind the outputs.
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
    left_in = opt_prop_def(ArrayAttr[Integers])
    left_out = opt_prop_def(ArrayAttr[Integers])

    def verify_(self) -> None:
        carried, outputs, spares = (
            [tensor_of(v) for v in held] for held in (self.carried, self.outputs, self.spares)
        )
        if carried != outputs:
            raise VerifyException("what is carried and outputs have the same types")
        if self.microbatches is None:
            if carried != spares:
                raise VerifyException("what is carried and spares have the same types")
            return
        middle = len(spares) // 2
        if spares[:middle] != spares[middle:]:
            raise VerifyException("even and odd windows leave pieces of the same types")
        for held in (self.left_in, self.left_out):
            if held is None or len(held) != len(self.functions):
                raise VerifyException("each window says which pieces it reads and which it leaves")


def action_name(op: Action) -> str:
    """What to call an action in a message: `@experts_1, wave 2`."""
    name = f"@{op.kernel.data}" if isinstance(op, Task) else op.name
    if isinstance(op, Transfer):
        name = op.kind.data
    half = [] if op.half_number is None else [f"half {op.half_number + 1}"]
    wave = op.wave if isinstance(op, Task | Transfer) else None
    return ", ".join([name, *half, *([] if wave is None else [f"wave {wave.number + 1}"])])


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

SCHED = Dialect("sched", list(OPS), [EventType, CostAttr, WaveAttr])
