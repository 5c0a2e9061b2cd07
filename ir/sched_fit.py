"""Whether what a program runs exists, and takes the memory it is given: kernels and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import sched, tile
from supertile.ir.microbatches import split_problem
from supertile.ir.op import fits, python_value
from supertile.ir.types import DYNAMIC, index, tensor

Problem = tuple[Operation, str]
Symbols = Mapping[str, Operation]


def symbol_problems(program: sched.Program, symbols: Symbols) -> Iterator[Problem]:
    """What is wrong with the kernels and programs that a program runs."""
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
    given = op.operands_of_kernel
    yield from _check_types(op, f"inputs of @{op.kernel.data}", given, taken[:count])
    yield from _check_types(op, f"outputs of @{op.kernel.data}", op.outputs, own)
    yield from _check_split_of(op)


def _check_split_of(op: sched.Task) -> Iterator[Problem]:
    """Rows are counted at run time, and slots are as many as the wave says."""
    if op.wave is None or op.split is None:
        return
    values = [*op.operands_of_kernel, *op.outputs]
    for number, (value, part) in enumerate(zip(values, op.split.get_values(), strict=True)):
        first, *_ = [*sched.tensor_of(value).get_shape(), None]
        if part == sched.ROWS and first != DYNAMIC:
            yield op, f"operand {number} has {first} rows, whoever they are for"
        if part == sched.SLOTS and first != op.wave.width:
            yield op, f"operand {number} has {first} slots, the wave is of {op.wave.width}"


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
    left = _pieces(op)
    if any(not 0 <= slot < len(op.spares) // 2 for both in left for held in both for slot in held):
        yield op, f"windows leave {len(op.spares) // 2} pieces, got {left}"
        return
    for number, (symbol, held) in enumerate(zip(op.functions, uses, strict=True)):
        name = symbol.root_reference.data
        callee = symbols.get(name)
        if not isinstance(callee, sched.Program):
            yield op, f"there is no program @{name}"
            continue
        read, written = [one[number] for one in left] if op.microbatches else ([], [])
        yield from _check_callee(op, callee, held, read, written)
        yield from _check_split(op, callee)
    if op.microbatches is not None:
        yield from _check_windows(op, symbols, *left)


Pieces = list[list[int]]


def _pieces(op: sched.Layers) -> tuple[Pieces, Pieces]:
    """What each program reads of what was left, and what it leaves."""
    read, written = (
        [] if one is None else [list(held) for held in python_value(one)]
        for one in (op.left_in, op.left_out)
    )
    return read, written


def _check_callee(
    op: sched.Layers,
    callee: sched.Program,
    uses: list[int],
    read: list[int],
    written: list[int],
) -> Iterator[Problem]:
    arguments = callee.body.block.args[: callee.inputs.value.data]
    rows = [_row(_held(op.states[stack])) for stack in uses]
    left = [_held(op.spares[slot]) for slot in read]
    given = [*map(_held, (*op.carried, *op.shared)), index, *rows, *left]
    name = callee.sym_name.data
    yield from _check_types(op, f"arguments of @{name}", given, [_held(v) for v in arguments])
    outputs = [_held(v) for v in callee.outputs]
    made = [*op.outputs, *(op.spares[slot] for slot in written)]
    yield from _check_types(op, f"results of @{name}", made, outputs)


def _check_windows(
    op: sched.Layers, symbols: Symbols, read: Pieces, written: Pieces
) -> Iterator[Problem]:
    """Of windows in a row, each reads what the one before it has left, and the last leaves none."""
    left: list[int] = []
    for number, kind in enumerate(op.kinds.get_values()):
        name = op.functions.data[kind].root_reference.data
        callee = symbols[name]
        assert isinstance(callee, sched.Program)
        if callee.halves is None:
            yield op, f"@{name} is no window"
        if (number > 0) != (callee.begun > 0):
            yield op, f"the first window, and no other, reads what is carried: @{name}"
        if read[kind] != left:
            yield op, f"@{name} reads the pieces {read[kind]}, the window before leaves {left}"
        left = written[kind]
    if left:
        yield op, f"the last window leaves the pieces {left} to none"


def _check_split(op: sched.Layers, callee: sched.Program) -> Iterator[Problem]:
    if op.microbatches is None:
        return
    count = op.microbatches.value.data
    left = 0 if callee.halves is None else callee.halves.get_values()[1]
    inputs = callee.inputs.value.data - left
    types = [_held(value) for value in callee.body.block.args[:inputs]]
    problem = split_problem(count, len(op.carried), types, callee.arguments.data[:inputs])
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
