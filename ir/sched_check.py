"""What a program must satisfy beyond each op alone: order, memory, and fit with what it runs.

    for op, message in program_problems(program, symbols): ...

1. Tasks run kernels that exist, on memory of the types that those take; layers run programs.
2. Every action names a lane of the program; every event is waited for below where it is given.
3. Of two actions that touch the same bytes, one of them to write, one waits for the other, directly
   or through others: there are no races. Rows of different slots are different bytes, and so is
   what belongs to different halves of the sequences.
4. Two buffers that share bytes never meet: all users of one come before all users of the other.
5. Nothing is read that no action before has written; every result is written.
6. Buffers lie in the arena, and the arena in the capacity if one is given; each is as large as what
   it holds in the largest call (`sched_bytes.py`).
7. In a program with costs no action starts before what it waits for has ended, and of the lane
   `compute` no two run at once (`sched_costs.py`).

Nothing here knows how programs are made. Sets of actions are integers, bit n for action n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from xdsl.ir import Operation, OpResult, SSAValue

from supertile.ir import comm, sched, tile
from supertile.ir.arguments import axes_of
from supertile.ir.microbatches import SEQUENCES, TOKENS
from supertile.ir.sched_bytes import bytes_problems
from supertile.ir.sched_costs import cost_problems
from supertile.ir.sched_fit import Problem, Symbols, symbol_problems
from supertile.ir.tile_access import Access, LaunchAccess, launch_access

READ, WRITTEN = Access(reads=True), Access(writes=True)


@dataclass(frozen=True)
class Piece:
    """Memory: bytes of the arena, or all that an argument, a weight or a result stands for."""

    value: SSAValue
    """The argument, the weight, or the buffer."""
    span: tuple[int, int] | None
    """Of a buffer: first byte and end."""
    slots: tuple[int, int] | None = None
    """First slot, and end: the rows of these; None: all rows."""
    half: int | None = None
    """The half of the sequences; None: both."""

    def meets(self, other: Piece) -> bool:
        if self.value is other.value:
            apart = None not in (self.half, other.half) and self.half != other.half
            return not apart and _overlap(self.slots, other.slots)
        return self.span is not None and other.span is not None and _overlap(self.span, other.span)


def _overlap(first: tuple[int, int] | None, second: tuple[int, int] | None) -> bool:
    """Whether two runs have something in common; None has all."""
    if first is None or second is None:
        return True
    return first[0] < second[1] and second[0] < first[1]


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
    found = [*symbol_problems(program, symbols), *_check_lanes(program), *_check_waits(program)]
    if found:
        yield from found
        return
    trace = traced(program, symbols)
    yield from _check_arena(program, capacity)
    yield from bytes_problems(program, symbols)
    yield from order_problems(program, trace)
    yield from cost_problems(program)


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
    halves = shared_by_halves(program)
    for number, op in enumerate(trace.actions):
        for value, access, slots in accesses(op, symbols, launches):
            piece = piece_of(value, slots)
            if piece.value in halves:
                piece = replace(piece, half=op.half_number)
            uses = trace.uses.setdefault(piece, Uses())
            uses.reads |= access.reads << number
            uses.writes |= access.writes << number
    return trace


def shared_by_halves(program: sched.Program) -> set[SSAValue]:
    """The arguments, and the memory for results, of which each half of the sequences has a part."""
    if program.halves is None:
        return set()
    results, left = program.halves.get_values()
    arguments = program.body.block.args[: program.inputs.value.data - left]
    found = {
        value
        for value, held in zip(arguments, program.arguments, strict=False)
        if {TOKENS, SEQUENCES} & {*axes_of(held)}
    }
    return found | {*program.outputs[:results]}


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


Slots = tuple[int, int] | None
"""Slots whose rows an action touches, from the first up to the end; None: all of memory."""


def accesses(
    op: sched.Action, symbols: Symbols, launches: dict[str, LaunchAccess]
) -> Iterator[tuple[SSAValue, Access, Slots]]:
    """What an action does with each piece of memory that it names; `launches` are those known."""
    match op:
        case sched.Task():
            yield from _accesses_of_task(op, symbols, launches)
        case sched.Transfer() if op.wave is not None:
            yield from _accesses_of_wave(op, op.wave)
        case sched.Transfer() | sched.Copy():
            yield from ((value, READ, None) for value in op.inputs)
            yield from ((value, WRITTEN, None) for value in op.outputs)
        case sched.Layers():
            yield from ((value, READ, None) for value in (*op.carried, *op.shared))
            yield from ((value, READ | WRITTEN, None) for value in op.states)
            yield from ((value, WRITTEN, None) for value in (*op.outputs, *op.spares))
        case _:
            raise ValueError(f"nothing is known of what {op.name} touches")


def _accesses_of_task(
    op: sched.Task, symbols: Symbols, launches: dict[str, LaunchAccess]
) -> Iterator[tuple[SSAValue, Access, Slots]]:
    kernel = symbols[op.kernel.data]
    assert isinstance(kernel, tile.Kernel)
    if op.kernel.data not in launches:
        launches[op.kernel.data] = launch_access(kernel)
    held = launches[op.kernel.data]
    values = [*op.operands_of_kernel, *op.outputs]
    split = [sched.WHOLE] * len(values) if op.split is None else op.split.get_values()
    for value, access, part in zip(values, (*held.inputs, *held.outputs), split, strict=True):
        yield value, access, _slots(op.wave) if part == sched.ROWS else None
    if op.wave is not None:
        yield op.inputs[-1], READ, None


def _accesses_of_wave(
    op: sched.Transfer, wave: sched.WaveAttr
) -> Iterator[tuple[SSAValue, Access, Slots]]:
    own = _slots(wave)
    if op.kind.data == "dispatch":
        yield from ((value, READ, None) for value in op.inputs)
        for number, value in enumerate(op.outputs):
            settled = wave.is_first and number == comm.COUNTS
            yield value, WRITTEN, None if settled else own
        return
    rows, origin, *others = op.inputs
    yield from ((value, READ, own) for value in (rows, origin))
    for number, value in enumerate(others):
        # Behind `chosen` the last wave reads what the others brought back.
        brought = wave.is_last and number == 1
        yield value, READ, (0, wave.slots.start) if brought else None
    yield from ((value, WRITTEN, None if wave.is_last else own) for value in op.outputs)


def _slots(wave: sched.WaveAttr | None) -> Slots:
    return None if wave is None else (wave.slots.start, wave.slots.stop)


def piece_of(value: SSAValue, slots: Slots = None) -> Piece:
    """The memory that a value stands for, behind views."""
    while isinstance(value, OpResult) and isinstance(value.op, sched.View):
        value = value.op.x
    if isinstance(value, OpResult) and isinstance(value.op, sched.Buffer):
        return Piece(value, value.op.span, slots)
    return Piece(value, None, slots)


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
    other = sched.action_name(trace.actions[first])
    name = piece.value.name_hint
    what = f"%{name}" if name else "bytes"
    message = f"a race for {what}: nothing orders this and {other} above, and one of them writes"
    return trace.actions[second], message


def _check_sharing(trace: Trace) -> Iterator[Problem]:
    """Of two buffers with common bytes one is done with before the other is begun."""
    buffers: dict[SSAValue, tuple[Piece, int]] = {}
    for piece, uses in trace.uses.items():
        if piece.span is not None:
            _, users = buffers.get(piece.value, (piece, 0))
            buffers[piece.value] = piece, users | uses.all
    for (one, first), (two, second) in combinations(buffers.values(), 2):
        if not one.meets(two):
            continue
        if not (_precede(trace, first, second) or _precede(trace, second, first)):
            owner = two.value.owner
            assert isinstance(owner, Operation)
            yield owner, f"the buffer is live while another has bytes of it: {one.span}, {two.span}"


def _precede(trace: Trace, first: int, second: int) -> bool:
    return all(first & ~trace.before[number] == 0 for number in _bits(second))


def _check_contents(program: sched.Program, trace: Trace) -> Iterator[Problem]:
    """Buffers and results begin undefined, but results that a window goes on with."""
    outputs = {*program.outputs}
    begun = program.outputs[: program.begun] if program.begun else ()
    writes: dict[SSAValue, list[tuple[Piece, int]]] = {}
    for piece, uses in trace.uses.items():
        if uses.writes:
            writes.setdefault(piece.value, []).append((piece, uses.writes))
    for piece, uses in trace.uses.items():
        undefined = piece.span is not None or piece.value in outputs
        if not undefined or piece.value in begun:
            continue
        for reader in _bits(uses.reads & ~uses.writes):
            if not _is_written(piece, writes.get(piece.value, []), trace.before[reader]):
                yield trace.actions[reader], "memory is read that nothing has written"
    for value in outputs:
        if value not in writes:
            yield program.end, "a result is never written"


def _is_written(piece: Piece, writes: Sequence[tuple[Piece, int]], before: int) -> bool:
    """Whether actions of `before` have written all slots of a piece."""
    found = [one.slots for one, writers in writes if writers & before and one.meets(piece)]
    if not found or None in found:
        return bool(found)
    runs = sorted(run for run in found if run is not None)
    # Without slots of its own a piece has those that any action writes.
    known = [one.slots for one, _ in writes if one.slots is not None]
    start, end = piece.slots or (min(run[0] for run in known), max(run[1] for run in known))
    for first, stop in runs:
        if first > start:
            return False
        start = max(start, stop)
    return start >= end


def _bits(numbers: int) -> Iterator[int]:
    """The members of a set, ascending."""
    while numbers:
        lowest = numbers & -numbers
        yield lowest.bit_length() - 1
        numbers ^= lowest
