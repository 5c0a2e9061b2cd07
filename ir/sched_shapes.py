"""The shape of every value of a program, over the named sizes of `work.function_shapes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdsl.ir import Operation, SSAValue

from supertile.ir import comm, graph, sched, tile
from supertile.ir.arguments import argument_shape
from supertile.ir.formula import symbol
from supertile.ir.op import properties_of
from supertile.ir.sched import tensor_of
from supertile.ir.shapes import RULES, Shape
from supertile.ir.tile_shapes import launch_shapes

COMM_OPS = {op.name.removeprefix("comm."): op for op in comm.OPS}
"""What a transfer of a kind does."""

Shapes = dict[SSAValue, Shape]


def program_shapes(program: sched.Program, kernels: Mapping[str, tile.Kernel]) -> Shapes:
    """The shape of every argument and of all memory; names are those of whole calls or of halves,
    as the action that uses the memory is."""
    shapes: Shapes = {}
    arguments = program.body.block.args[: program.inputs.value.data]
    for value, attributes in zip(arguments, program.arguments, strict=True):
        shapes[value] = argument_shape(value, attributes)
    # What a window goes on with is like what it is given.
    shapes.update(
        {value: shapes[arguments[n]] for n, value in enumerate(program.outputs[: program.begun])}
    )
    for op in program.body.block.ops:
        _propagate(op, shapes, kernels)
    return shapes


def _propagate(op: Operation, shapes: Shapes, kernels: Mapping[str, tile.Kernel]) -> None:
    match op:
        case graph.Weight():
            shapes[op.result] = tuple(tensor_of(op.result).get_shape())
        case sched.View():
            properties = {"shape": tuple(op.shape.get_values())}
            rule, _ = RULES[graph.Reshape]
            assert rule is not None
            (shapes[op.result],) = rule(properties, [shapes[op.x]], symbol)
        case sched.Task():
            held = [shapes[value] for value in op.operands_of_kernel]
            kernel = kernels[op.kernel.data]
            made = launch_shapes(kernel, held, symbol)
            own = [
                shape
                for shape, reused in zip(made, kernel.reuses.get_values(), strict=True)
                if reused < 0
            ]
            _settle(op.outputs, own, shapes)
        case sched.Transfer():
            _settle(op.outputs, _transferred(op, shapes), shapes)
        case sched.Copy():
            _settle(op.outputs, [shapes[op.inputs[0]]], shapes)
        case sched.Layers():
            _settle(op.outputs, [shapes[value] for value in op.carried], shapes)
        case _:
            return


def _settle(outputs: Sequence[SSAValue], made: Sequence[Shape], shapes: Shapes) -> None:
    for value, shape in zip(outputs, made, strict=True):
        shapes.setdefault(value, shape)


def _transferred(op: sched.Transfer, shapes: Shapes) -> list[Shape]:
    rule, _ = RULES[COMM_OPS[op.kind.data]]
    assert rule is not None
    inputs = [shapes[value] for value in op.inputs]
    if op.wave is not None and op.kind.data == "combine" and not op.wave.is_last:
        rows, _, chosen, _ = inputs
        return [(*chosen, *rows[1:])]
    made = rule(properties_of(op), inputs[:3], symbol)
    if op.wave is None or op.wave.is_first or op.kind.data == "combine":
        return made
    rows, row_weight, _, origin = made
    return [rows, row_weight, origin]
