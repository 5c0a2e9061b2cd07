"""Whether the buffers of a program are as large as what they hold, in the largest call.

    for op, message in bytes_problems(program, symbols): ...

The bytes that a buffer says are recomputed from the program alone: from the shape of what actions
write there, the type, and the bounds of the call. Nothing here knows how buffers are made.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdsl.ir import SSAValue
from xdsl.utils.exceptions import VerifyException

from supertile.ir import sched, tile
from supertile.ir.op import python_value
from supertile.ir.sched_bounds import Bounds
from supertile.ir.sched_fit import Problem, Symbols
from supertile.ir.sched_shapes import Shapes, program_shapes

CHOSEN = 1
"""The place among the inputs of a dispatch of the experts of each token, [T, K]."""
MALFORMED = (VerifyException, ValueError, KeyError, IndexError)
"""What rules of shapes raise on programs that do not fit together."""


def bytes_problems(program: sched.Program, symbols: Symbols) -> Iterator[Problem]:
    """Buffers that are larger or smaller than what they hold; the program is sound otherwise."""
    if not any(isinstance(op, sched.Buffer) for op in program.body.block.ops):
        return
    try:
        needed = _needed(program, symbols)
    except MALFORMED as error:
        yield program, f"the sizes of its memory do not follow from its arguments: {error}"
        return
    for op in program.body.block.ops:
        if not isinstance(op, sched.Buffer):
            continue
        stated = op.bytes.value.data
        if op.result not in needed:
            yield op, "nothing fills the buffer, so that nothing says how large it is"
        elif stated != needed[op.result]:
            yield op, f"the buffer has {stated} bytes, what it holds takes {needed[op.result]}"


def bounds_of(program: sched.Program) -> Bounds:
    """Of a call; of a window, whose actions are for one half of the sequences each, of a half."""
    tokens, batch, context = program.bounds.get_values()
    bounds = Bounds(tokens, batch, context, program.memory.data)
    return bounds if program.halves is None else bounds.of_a_half


def _needed(program: sched.Program, symbols: Symbols) -> dict[SSAValue, int]:
    """The bytes of all memory whose shape the actions tell."""
    kernels = {name: op for name, op in symbols.items() if isinstance(op, tile.Kernel)}
    shapes, bounds = program_shapes(program, kernels), bounds_of(program)
    arrived = _arrived(program, shapes, bounds)
    needed = {
        value: bounds.bytes_of(sched.tensor_of(value), shape, arrived)
        for value, shape in shapes.items()
        if isinstance(value.type, tile.RefType)
    }
    for op in program.actions:
        if isinstance(op, sched.Layers):
            needed.update(_spares(op, symbols, needed))
    return needed


def _spares(op: sched.Layers, symbols: Symbols, needed: dict[SSAValue, int]) -> dict[SSAValue, int]:
    """Of what layers write beside their outputs: what is carried, or what windows leave."""
    if op.left_out is None:
        return {spare: needed[output] for spare, output in zip(op.spares, op.outputs, strict=True)}
    middle = len(op.spares) // 2
    sizes = [0] * middle
    for symbol, slots in zip(op.functions, python_value(op.left_out), strict=True):
        window = symbols[symbol.root_reference.data]
        assert isinstance(window, sched.Program)
        needed_there = _needed(window, symbols)
        for slot, left in zip(slots, window.outputs[len(op.outputs) :], strict=True):
            sizes[slot] = max(sizes[slot], needed_there[left])
    return dict(zip(op.spares, [*sizes, *sizes], strict=True))


def _arrived(program: sched.Program, shapes: Shapes, bounds: Bounds) -> int:
    """The most rows of experts that reach a rank; 0 where none travel."""
    rows = [0]
    for op in program.actions:
        if isinstance(op, sched.Transfer) and op.kind.data == "dispatch":
            assert op.placement is not None  # the shape of what it sends follows from it
            tokens, choices = shapes[op.inputs[CHOSEN]]
            rows.append(bounds.arrived(tokens, choices, op.placement))
    return max(rows)
