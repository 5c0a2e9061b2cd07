"""The NumPy plan of a program: its steps, its kernels, and where in memory values lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ArrayAttr, TensorType
from xdsl.ir import Attribute, Operation, SSAValue

from supertile.ir import sched
from supertile.ir.errors import UserError
from supertile.ir.group_layout import ACTIONS, WHOLE, Layouts, layouts
from supertile.ir.locations import name_of
from supertile.ir.op import properties_of
from supertile.ir.sched_memory import runtime_bytes, scale_shape, scales_at
from supertile.ir.types import ELEMENT_NAMES, MxAttr, f8e8m0
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import FunctionPlan, Step, argument_of, source_line
from supertile.runtime.tile_execute import INTEGERS, KernelPlan

Bytes = NDArray[np.uint8]
POISON = 0xFF
"""What undefined bytes are: NaN as floats, codes and scales, -1 as integers."""


@dataclass(frozen=True)
class Named:
    """A value of the model file that actions of a program make."""

    step: Step
    """The step that names it."""
    value: SSAValue
    makers: frozenset[Operation]
    """The actions that have ended once it is there: several where each makes some of its rows."""
    half: int | None
    """The half of the sequences that it belongs to; None: both."""
    behind: bool
    """Whether it belongs to the layer before that of the program."""


@dataclass(frozen=True)
class ProgramPlan(FunctionPlan):
    """A program; `steps` are its weights, views and actions, in program order."""

    program: sched.Program
    kernels: dict[str, KernelPlan]
    named: dict[Operation, list[Named]]
    """For each action the values that it helps to make."""

    @cached_property
    def actions(self) -> list[Step]:
        return [step for step in self.steps if isinstance(step.op, sched.Action)]

    @cached_property
    def halves(self) -> tuple[int, int] | None:
        """Of a window: results that both halves share, and inputs that the second one left."""
        if self.program.halves is None:
            return None
        results, left = self.program.halves.get_values()
        return results, left


def program_plan(program: sched.Program, kernels: dict[str, KernelPlan]) -> ProgramPlan:
    """`kernels` run launches, by name."""
    inputs = program.body.block.args[: program.inputs.value.data]
    names = program.results_ or ArrayAttr([])
    unplanned = (sched.Lane, sched.Buffer, sched.End)
    ops = [op for op in program.body.block.ops if not isinstance(op, unplanned)]
    held = layouts(program)
    steps = [_step(op, held) for op in ops]
    return ProgramPlan(
        name=program.sym_name.data,
        arguments=tuple(
            argument_of(number, value.type, held)
            for number, (value, held) in enumerate(zip(inputs, program.arguments, strict=True))
        ),
        steps=tuple(steps),
        results=(),
        result_names=tuple(name.data for name in names),
        registers=0,
        program=program,
        kernels=kernels,
        named=_named(steps, kernels),
    )


def _step(op: Operation, held: Layouts) -> Step:
    """What plans are asked for: weights, layers, names. Programs keep no registers."""
    properties = properties_of(op)
    properties.pop("cost", None)
    made = op.outputs if isinstance(op, (*ACTIONS, sched.Layers)) else op.results
    layout = held.get(made[0], WHOLE) if made else WHOLE
    name, source = name_of(op.location), source_line(op)
    return Step(op, None, (), properties, (), (), None, name, source, layout)


def _named(steps: list[Step], kernels: dict[str, KernelPlan]) -> dict[Operation, list[Named]]:
    makers: dict[SSAValue, list[sched.Action]] = {}
    named: dict[Operation, list[Named]] = {}
    for step in steps:
        op = step.op
        if isinstance(op, sched.Action):
            first = first_result(op, kernels)
            makers.setdefault(first, []).append(op)
            if _wave_goes_on(op):
                continue
        elif isinstance(op, sched.View):
            first = op.result
            if op.x in makers:
                makers[first] = makers[op.x]
        else:
            continue
        if step.name is None or first not in makers:
            continue
        own = makers[first] if _wave_of(makers[first][-1]) else makers[first][-1:]
        last = own[-1]
        one = Named(step, first, frozenset(own), last.half_number, last.is_behind)
        for maker in own:
            named.setdefault(maker, []).append(one)
    return named


def _wave_of(op: sched.Action) -> sched.WaveAttr | None:
    return op.wave if isinstance(op, sched.Task | sched.Transfer) else None


def _wave_goes_on(op: sched.Action) -> bool:
    """Whether the value of an action is not whole before later waves; before the last one a
    combine has no value at all."""
    wave = _wave_of(op)
    return wave is not None and not wave.is_last


def first_result(op: sched.Action, kernels: dict[str, KernelPlan]) -> SSAValue:
    """The memory of the value that bears the name of an action."""
    assert isinstance(op, sched.Task | sched.Transfer | sched.Copy | sched.Layers)
    if isinstance(op, sched.Task):
        reused = kernels[op.kernel.data].reuses[0]
        return op.outputs[0] if reused < 0 else op.inputs[reused]
    return op.outputs[0]


# ---- values in bytes ---------------------------------------------------------------------------


def place(memory: Bytes, kind: TensorType[Attribute], shape: Sequence[int]) -> Any:
    """The value of this shape at the front of the bytes; see `ir/sched_memory.py` for the form."""
    size = runtime_bytes(kind, shape)
    if size > len(memory):
        raise UserError("run.schedule_size", needed=size, held=len(memory))
    if not isinstance(kind.encoding, MxAttr):
        element = INTEGERS.get(kind.element_type, np.float32)
        return memory[:size].view(element).reshape(shape)
    behind = memory[scales_at(shape) : size]
    scales = behind.view(np.uint8 if kind.encoding.scale == f8e8m0 else np.float32)
    return Scaled(
        memory[: int(np.prod(shape))].reshape(shape),
        scales.reshape(scale_shape(kind.encoding, shape)),
        ELEMENT_NAMES[kind.element_type],
        kind.encoding.sizes,
    )


def overwrite(target: Any, value: Any) -> None:
    """All numbers of a value into one of the same shape."""
    if isinstance(target, Scaled):
        if value.block != target.block or value.packed:
            raise ValueError(f"blocks of {value.block} do not go into blocks of {target.block}")
        target.codes[...], target.scales[...] = value.codes, value.scales
    else:
        if value.shape != target.shape:
            raise ValueError(f"a value of {value.shape} does not go into {target.shape}")
        target[...] = value
