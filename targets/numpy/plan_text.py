"""The NumPy plan as text: for each function its calls in order, registers and last uses.

    function expert: 6 calls, 4 registers
      argument %0 x                   bf16[T, 512]
      %1 = weight w1.weight           fp4[256, 512]  model.st:12
      %2 = linear(%0, %1)             f32[T, 256]    model.st:15  a    free %1

`free` names the registers whose values are used for the last time; later calls write to them again.
State is a buffer that lives from call to call and is written in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, SSAValue

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, ELEMENT_NAMES
from supertile.ir.work import function_shapes
from supertile.runtime.plan import FunctionPlan, Group, ModulePlan, Step

Row = tuple[str, ...]
Shapes = Mapping[SSAValue, tuple[Any, ...]]
WIDEST = 72  # a column is not padded beyond: few calls are as long as that of all layers


def plan_text(plan: ModulePlan) -> str:
    """The whole plan; functions in the order of the module."""
    parts = [f"# NumPy plan, numerics {plan.numerics}, entries {', '.join(plan.entries)}"]
    parts += [_function(function) for function in plan.functions.values()]
    return "\n\n".join(parts) + "\n"


def _function(function: FunctionPlan) -> str:
    shapes = _shapes(function)
    calls, registers = len(function.steps), function.registers
    title = f"function {function.name}: {calls} calls, {registers} registers"
    rows = [*_arguments(function), *(_row(step, shapes) for step in function.steps)]
    results = " ".join(f"%{register}" for register in function.results)
    return "\n".join([title, *_columns(rows), f"  return {results}"])


def _columns(rows: list[Row]) -> list[str]:
    """The cells of a column below each other."""
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*rows, strict=True)]
    return [
        ("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
        .rstrip()
        for row in rows
    ]  # fmt: skip


def _arguments(function: FunctionPlan) -> list[Row]:
    rows: list[Row] = []
    for register, argument in enumerate(function.arguments):
        kind = _type(argument.kind, argument.axes)
        role = "" if argument.state is None else f"state, {argument.state.kind.data}"
        rows.append((f"argument %{register} {argument.name}", kind, role, "", ""))
    return rows


def _row(step: Step, shapes: Shapes) -> Row:
    outputs = ", ".join(f"%{register}" for register in step.outputs)
    first = step.op.results[0]
    kind = "" if isinstance(step.op, graph.Constant) else _type(first.type, shapes.get(first, ()))
    frees = "free " + " ".join(f"%{register}" for register in step.frees) if step.frees else ""
    return f"{outputs} = {_call(step)}", kind, step.source, step.name or "", frees


def _call(step: Step) -> str:
    op = step.op
    if isinstance(op, graph.Weight):
        return f"weight {op.checkpoint.data}"
    if isinstance(op, graph.Constant):
        return f"{step.properties['value']!r}"
    inputs = [_group(group) for group in step.inputs]
    shown = {k: v for k, v in step.properties.items() if isinstance(v, int | float | str | tuple)}
    if isinstance(op, graph.Layers):
        names = sorted(set(step.properties["functions"]))
        shown = {"count": len(step.properties["kinds"]), "functions": ", ".join(names)}
        shown |= {k: v for k, v in step.properties.items() if k == "microbatches"}
    properties = [f"{key}={value}" for key, value in shown.items()]
    return f"{op.name.removeprefix('graph.')}({', '.join([*inputs, *properties])})"


def _group(group: Group) -> str:
    if group is None:
        return "-"
    if isinstance(group, int):
        return f"%{group}"
    return "[" + " ".join(f"%{register}" for register in group) + "]"


# ---- types -------------------------------------------------------------------------------------


def _shapes(function: FunctionPlan) -> Shapes:
    """The shapes over named sizes; none for a function without calls."""
    parent = function.steps[0].op.parent_op() if function.steps else None
    while parent is not None and not isinstance(parent, FuncOp):
        parent = parent.parent_op()
    return {} if parent is None else function_shapes(parent)


def _type(kind: Attribute, sizes: tuple[Any, ...]) -> str:
    """`bf16[T, 512]`; sizes known at run time only by their name, or `?`."""
    if not isinstance(kind, TensorType):
        return str(kind)
    shape = [
        str(sizes[axis] if len(sizes) > axis else "?") if size == DYNAMIC else str(size)
        for axis, size in enumerate(kind.get_shape())
    ]
    return f"{ELEMENT_NAMES[kind.element_type]}[{', '.join(shape)}]"
