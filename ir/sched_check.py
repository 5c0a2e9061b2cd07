"""What a program must satisfy beyond each op alone: order, memory, and fit with what it runs.

    for op, message in program_problems(program, symbols): ...

1. Tasks run kernels that exist, on memory of the types that those take; layers run programs.
2. Every action names a lane of the program; every event is waited for below where it is given.
3. Of two actions that touch the same bytes, one of them to write, one waits for the other, directly
   or through others: there are no races.
4. Two buffers that share bytes never meet: all users of one come before all users of the other.
5. Nothing is read that no action before has written; every result is written.
6. Buffers lie in the arena, and the arena in the capacity if one is given.

Nothing here knows how programs are made. Sets of actions are integers, bit n for action n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Operation, OpResult, SSAValue

from supertile.ir import sched, tile
from supertile.ir.microbatches import split_problem
from supertile.ir.op import fits, python_value
from supertile.ir.tile_access import Access, LaunchAccess, launch_access
from supertile.ir.types import index, tensor

Problem = tuple[Operation, str]
Symbols = Mapping[str, Operation]
READ, WRITTEN = Access(reads=True), Access(writes=True)


@dataclass(frozen=True)
class Piece:
    """Memory: bytes of the arena, or all that an argument, a weight or a result stands for."""

    value: SSAValue
    """The argument, the weight, or the buffer."""
    span: tuple[int, int] | None
    """Of a buffer: first byte and end."""

    def meets(self, other: Piece) -> bool:
        if self.span is None or other.span is None:
            return self.value is other.value
        return self.span[0] < other.span[1] and other.span[0] < self.span[1]


@dataclass
class Uses:
    """The actions, as bits, that read and that write a piece."""

    reads: int = 0
    writes: int = 0

    @property
    def all(self) -> int:
        return self.reads | self.writes


@dataclass
class Trace:
    """A program as the checks see it."""

    actions: list[sched.Action]
    before: list[int]
    """For each action all that it waits for, directly or not."""
    uses: dict[Piece, Uses] = field(default_factory=dict)


def program_problems(
    program: sched.Program, symbols: Symbols, capacity: int | None = None
) -> Iterator[Problem]:
    """Everything that is wrong with a program, each with the op where it shows."""
    found = [*_check_symbols(program, symbols), *_check_lanes(program), *_check_waits(program)]
    if found:
        yield from found
        return
    trace = traced(program, symbols)
    yield from _check_arena(program, capacity)
    yield from order_problems(program, trace)


def order_problems(program: sched.Program, trace: Trace) -> Iterator[Problem]:
    """What is wrong with the order of actions on memory."""
    yield from _check_races(trace)
    yield from _check_sharing(trace)
    yield from _check_contents(program, trace)


# ---- who touches what --------------------------------------------------------------------------


def traced(program: sched.Program, symbols: Symbols) -> Trace:
    """Order and accesses of all actions."""
    trace = Trace(program.actions, before_each(program.actions))
    launches: dict[str, LaunchAccess] = {}
    for number, op in enumerate(trace.actions):
        for value, access in accesses(op, symbols, launches):
            uses = trace.uses.setdefault(piece_of(value), Uses())
            uses.reads |= access.reads << number
            uses.writes |= access.writes << number
    return trace


def before_each(actions: Sequence[sched.Action]) -> list[int]:
    """For each action, in program order, all that it waits for, directly or not."""
    numbers: dict[Operation, int] = {op: number for number, op in enumerate(actions)}
    before: list[int] = []
    for op in actions:
        held = 0
        for other in op.awaited:
            held |= before[numbers[other]] | 1 << numbers[other]
        before.append(held)
    return before


def accesses(
    op: sched.Action, symbols: Symbols, launches: dict[str, LaunchAccess]
) -> Iterator[tuple[SSAValue, Access]]:
    """What an action does with each piece of memory that it names; `launches` are those known."""
    match op:
        case sched.Task():
            kernel = symbols[op.kernel.data]
            assert isinstance(kernel, tile.Kernel)
            if op.kernel.data not in launches:
                launches[op.kernel.data] = launch_access(kernel)
            held = launches[op.kernel.data]
            yield from zip(op.inputs, held.inputs, strict=True)
            yield from zip(op.outputs, held.outputs, strict=True)
        case sched.Transfer() | sched.Copy():
            yield from ((value, READ) for value in op.inputs)
            yield from ((value, WRITTEN) for value in op.outputs)
        case sched.Layers():
            yield from ((value, READ) for value in (*op.carried, *op.shared))
            yield from ((value, READ | WRITTEN) for value in op.states)
            yield from ((value, WRITTEN) for value in (*op.outputs, *op.spares))
        case _:
            raise ValueError(f"nothing is known of what {op.name} touches")


def piece_of(value: SSAValue) -> Piece:
    """The memory that a value stands for, behind views."""
    while isinstance(value, OpResult) and isinstance(value.op, sched.View):
        value = value.op.x
    if isinstance(value, OpResult) and isinstance(value.op, sched.Buffer):
        return Piece(value, value.op.span)
    return Piece(value, None)


# ---- the checks --------------------------------------------------------------------------------


def _check_lanes(program: sched.Program) -> Iterator[Problem]:
    known = [op.lane.data for op in program.body.block.ops if isinstance(op, sched.Lane)]
    for name in sorted({name for name in known if known.count(name) > 1}):
        yield program, f"there are two lanes {name}"
    for op in program.actions:
        if op.lane.data not in known:
            yield op, f"there is no lane {op.lane.data}"


def _check_waits(program: sched.Program) -> Iterator[Problem]:
    """With events only from above there are no circles."""
    seen: set[Operation] = set()
    for op in program.actions:
        if any(other not in seen for other in op.awaited):
            yield op, "an event is waited for above where it is given"
        seen.add(op)


def _check_arena(program: sched.Program, capacity: int | None) -> Iterator[Problem]:
    size = program.arena.value.data
    if capacity is not None and size > capacity:
        yield program, f"the arena has {size} bytes, there are {capacity}"
    for op in program.body.block.ops:
        if isinstance(op, sched.Buffer) and op.span[1] > size:
            yield op, f"the buffer ends at {op.span[1]}, the arena at {size}"


def _check_races(trace: Trace) -> Iterator[Problem]:
    """Each writer of bytes, against all others that touch them."""
    for piece, uses in trace.uses.items():
        near = [other for held, other in trace.uses.items() if piece.meets(held)]
        others = 0
        for other in near:
            others |= other.all
        for writer in _bits(uses.writes):
            for number in _bits(others & ~(1 << writer)):
                first, second = sorted((writer, number))
                if not trace.before[second] >> first & 1:
                    yield _race(trace, first, second, piece)


def _race(trace: Trace, first: int, second: int, piece: Piece) -> Problem:
    other = _named(trace.actions[first])
    name = piece.value.name_hint
    what = f"%{name}" if name else "bytes"
    message = f"a race for {what}: nothing orders this and {other} above, and one of them writes"
    return trace.actions[second], message


def _check_sharing(trace: Trace) -> Iterator[Problem]:
    """Of two buffers with common bytes one is done with before the other is begun."""
    buffers = [(piece, uses) for piece, uses in trace.uses.items() if piece.span is not None]
    for (one, first), (two, second) in combinations(buffers, 2):
        if not one.meets(two):
            continue
        if not (_precede(trace, first.all, second.all) or _precede(trace, second.all, first.all)):
            owner = two.value.owner
            assert isinstance(owner, Operation)
            yield owner, f"the buffer is live while another has bytes of it: {one.span}, {two.span}"


def _precede(trace: Trace, first: int, second: int) -> bool:
    return all(first & ~trace.before[number] == 0 for number in _bits(second))


def _check_contents(program: sched.Program, trace: Trace) -> Iterator[Problem]:
    """Buffers and results begin undefined."""
    outputs = set(program.outputs)
    for piece, uses in trace.uses.items():
        if piece.span is None and piece.value not in outputs:
            continue
        for reader in _bits(uses.reads & ~uses.writes):
            if not trace.before[reader] & uses.writes:
                yield trace.actions[reader], "memory is read that nothing has written"
    for value in outputs:
        uses = trace.uses.get(piece_of(value), Uses())
        if not uses.writes:
            yield program.end, "a result is never written"


def _bits(numbers: int) -> Iterator[int]:
    """The members of a set, ascending."""
    while numbers:
        lowest = numbers & -numbers
        yield lowest.bit_length() - 1
        numbers ^= lowest


def _named(op: sched.Action) -> str:
    return f"@{op.kernel.data}" if isinstance(op, sched.Task) else op.name


# ---- what programs run -------------------------------------------------------------------------


def _check_symbols(program: sched.Program, symbols: Symbols) -> Iterator[Problem]:
    for op in program.actions:
        match op:
            case sched.Task():
                yield from _check_task(op, symbols.get(op.kernel.data))
            case sched.Layers():
                yield from _check_layers(op, symbols)
            case sched.Copy():
                yield from _check_types(op, "memory", op.inputs, [_held(op.outputs[0])])


def _check_task(op: sched.Task, kernel: Operation | None) -> Iterator[Problem]:
    if not isinstance(kernel, tile.Kernel):
        yield op, f"there is no kernel @{op.kernel.data}"
        return
    taken = [_held(ref) for ref in kernel.body.block.args]
    count = kernel.inputs.value.data
    own = [
        kind
        for kind, reused in zip(taken[count:], kernel.reuses.get_values(), strict=True)
        if reused < 0
    ]
    yield from _check_types(op, f"inputs of @{op.kernel.data}", op.inputs, taken[:count])
    yield from _check_types(op, f"outputs of @{op.kernel.data}", op.outputs, own)


def _check_layers(op: sched.Layers, symbols: Symbols) -> Iterator[Problem]:
    uses = [list(held) for held in python_value(op.uses)]
    if len(uses) != len(op.functions):
        yield op, f"{len(op.functions)} programs but {len(uses)} lists of uses"
        return
    if any(not 0 <= stack < len(op.states) for held in uses for stack in held):
        yield op, f"uses name {len(op.states)} stacks, got {uses}"
        return
    if any(not 0 <= kind < len(uses) for kind in op.kinds.get_values()):
        yield op, f"kinds are 0 to {len(uses) - 1}, got {list(op.kinds.get_values())}"
        return
    for symbol, held in zip(op.functions, uses, strict=True):
        name = symbol.root_reference.data
        callee = symbols.get(name)
        if not isinstance(callee, sched.Program):
            yield op, f"there is no program @{name}"
            continue
        yield from _check_callee(op, callee, held)
        yield from _check_split(op, callee)


def _check_callee(op: sched.Layers, callee: sched.Program, uses: list[int]) -> Iterator[Problem]:
    arguments = callee.body.block.args[: callee.inputs.value.data]
    rows = [_row(_held(op.states[stack])) for stack in uses]
    given = [*map(_held, (*op.carried, *op.shared)), index, *rows]
    name = callee.sym_name.data
    yield from _check_types(op, f"arguments of @{name}", given, [_held(v) for v in arguments])
    outputs = [_held(v) for v in callee.outputs]
    yield from _check_types(op, f"results of @{name}", op.outputs, outputs)


def _check_split(op: sched.Layers, callee: sched.Program) -> Iterator[Problem]:
    if op.microbatches is None:
        return
    count = op.microbatches.value.data
    types = [_held(value) for value in callee.body.block.args[: callee.inputs.value.data]]
    problem = split_problem(count, len(op.carried), types, [*callee.arguments])
    if problem is not None:
        yield op, problem


def _check_types(
    op: Operation,
    what: str,
    given: Sequence[SSAValue | Attribute],
    taken: Sequence[Attribute],
) -> Iterator[Problem]:
    if len(given) != len(taken):
        yield op, f"there are {len(taken)} {what}, not {len(given)}"
        return
    for number, (ours, theirs) in enumerate(zip(given, taken, strict=True)):
        kind = _held(ours) if isinstance(ours, SSAValue) else ours
        if not _fits(kind, theirs):
            yield op, f"{what}: number {number} is {theirs}, not {kind}"


def _held(value: SSAValue) -> Attribute:
    """The type of what a piece of memory holds."""
    return value.type.tensor if isinstance(value.type, tile.RefType) else value.type


def _row(stack: Attribute) -> Attribute:
    """The type of one layer's state within the stack of all layers."""
    assert isinstance(stack, TensorType)
    return tensor(stack.get_shape()[1:], stack.element_type, stack.encoding)


def _fits(first: Attribute, second: Attribute) -> bool:
    if not isinstance(first, TensorType) or not isinstance(second, TensorType):
        return first == second
    same = (first.element_type, first.encoding) == (second.element_type, second.encoding)
    return same and fits(first.get_shape(), second.get_shape())
