"""The NumPy plan as text: for each function its calls in order, registers and last uses.

    %4 = linear(%2, %3)      deepseek_v4.st:142   a      free %2 %3
"""

from __future__ import annotations

from supertile.ir import graph
from supertile.runtime.plan import FunctionPlan, Group, ModulePlan, Step


def plan_text(plan: ModulePlan) -> str:
    """The whole plan; functions in the order of the module."""
    parts = [f"# NumPy plan, numerics {plan.numerics}, entries {', '.join(plan.entries)}"]
    parts += [_function(function) for function in plan.functions.values()]
    return "\n\n".join(parts) + "\n"


def _function(function: FunctionPlan) -> str:
    arguments = [
        f"%{register} {argument.name}" + (" (state, in place)" if argument.state else "")
        for register, argument in enumerate(function.arguments)
    ]
    lines = [f"function {function.name}: {len(function.steps)} calls, "
             f"{function.registers} registers"]
    lines += [f"  argument {argument}" for argument in arguments]
    rows = [_row(step) for step in function.steps]
    widths = [min(max(len(row[i]) for row in rows), 88) for i in range(3)] if rows else []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append(("  " + "  ".join([*cells, row[3]])).rstrip())
    results = " ".join(f"%{register}" for register in function.results)
    return "\n".join([*lines, f"  return {results}"])


def _row(step: Step) -> tuple[str, str, str, str]:
    outputs = ", ".join(f"%{register}" for register in step.outputs)
    called = f"{outputs} = {_call(step)}"
    rounded = f" -> {step.rounds}" if step.rounds else ""
    frees = "free " + " ".join(f"%{register}" for register in step.frees) if step.frees else ""
    return called + rounded, step.source, step.name or "", frees


def _call(step: Step) -> str:
    op = step.op
    if isinstance(op, graph.Weight):
        return f"weight {op.checkpoint.data}"
    if isinstance(op, graph.Constant):
        return f"{step.properties['value']!r}"
    inputs = [_group(group) for group in step.inputs]
    shown = {k: v for k, v in step.properties.items() if isinstance(v, int | float | str)}
    if isinstance(op, graph.Layers):
        shown = {"layers": len(step.properties["kinds"]), "label": step.properties["label"]}
    properties = [f"{key}={value!r}" for key, value in shown.items()]
    return f"{op.name.removeprefix('graph.')}({', '.join([*inputs, *properties])})"


def _group(group: Group) -> str:
    if group is None:
        return "-"
    if isinstance(group, int):
        return f"%{group}"
    return "[" + " ".join(f"%{register}" for register in group) + "]"
