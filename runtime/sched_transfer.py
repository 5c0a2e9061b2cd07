"""What transfers of a program do, on all ranks at once: whole, or a wave of dispatch or combine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from supertile.ir import comm, sched
from supertile.ir.sched import tensor_of
from supertile.ir.sched_shapes import COMM_OPS
from supertile.ir.types import ELEMENT_NAMES, is_scaled
from supertile.runtime import comm_ops
from supertile.runtime.execute import ROUNDING
from supertile.runtime.graph_ops import take_rows
from supertile.runtime.lockstep import placed_properties
from supertile.runtime.plan import Step
from supertile.runtime.sched_frame import Frame
from supertile.runtime.sched_plan import overwrite


def transfer(frames: Sequence[Frame], step: Step, op: sched.Transfer, layer: int | None) -> None:
    """Run a transfer on the memory of each rank; placements may differ by layer."""
    properties = placed_properties(step, layer)
    if op.wave is not None and op.kind.data == "combine":
        _combine_wave(frames, op, op.wave)
    elif op.wave is not None:
        _dispatch_wave(frames, op, op.wave, properties["placement"])
    else:
        given = {key: properties[key] for key in ("placement", "ranks") if key in properties}
        function = comm_ops.FUNCTIONS[COMM_OPS[op.kind.data]]
        held = [frame.values_of(op.inputs, op.half_number) for frame in frames]
        columns = zip(*held, strict=True)
        _receive(frames, op, op.outputs, function(*map(list, columns), **given))


def _dispatch_wave(
    frames: Sequence[Frame], op: sched.Transfer, wave: sched.WaveAttr, placement: Any
) -> None:
    """The rows for some slots; with the first ones how many each slot gets in all."""
    x, chosen, weight = (
        [frame.value(value, op.half_number) for frame in frames] for value in op.inputs[:3]
    )
    if wave.is_first:
        settled = comm_ops.rows_of_slots(chosen, placement)
        _receive(frames, op, [op.outputs[comm.COUNTS]], [(own,) for own in settled])
    counts = op.outputs[comm.COUNTS] if wave.is_first else op.inputs[-1]
    outputs = [value for value in op.outputs if value is not counts]
    sent = comm_ops.EXCHANGES[comm.Dispatch].together(
        x, chosen, weight, placement=placement, slots=wave.slots
    )
    for frame, (rows, row_weight, _, origin) in zip(frames, sent, strict=True):
        run, count = frame.rows_of(counts, wave), int(frame.value(counts).sum())
        for output, value in zip(outputs, (rows, row_weight, origin), strict=True):
            frame.make(output, (count, *value.shape[1:]))
            overwrite(take_rows(frame.value(output), run), _rounded(value, output))


def _combine_wave(frames: Sequence[Frame], op: sched.Transfer, wave: sched.WaveAttr) -> None:
    """Rows of some slots to the places of their choices; by the last wave also the sums."""
    rows, origin, chosen, back = [], [], [], []
    for frame in frames:
        run = frame.rows_of(op.inputs[-1], wave)
        rows.append(frame.value(op.inputs[0])[run])
        origin.append(frame.value(op.inputs[1])[run])
        chosen.append(frame.value(op.inputs[2], op.half_number))
        places = op.inputs[3] if wave.is_last else op.outputs[0]
        frame.make(places, (*chosen[-1].shape, *rows[-1].shape[1:]))
        back.append(frame.value(places).copy() if wave.is_last else frame.value(places))
    comm_ops.bring_back(rows, origin, chosen, back)
    if wave.is_last:
        sums = [(comm_ops.sum_of_choices(*own),) for own in zip(back, chosen, strict=True)]
        _receive(frames, op, op.outputs, sums)


def _receive(
    frames: Sequence[Frame],
    op: sched.Transfer,
    outputs: Sequence[SSAValue],
    results: Sequence[Sequence[Any]],
) -> None:
    """Write what each rank gets."""
    for frame, held in zip(frames, results, strict=True):
        for output, value in zip(outputs, held, strict=True):
            frame.make(output, value.shape)
            overwrite(frame.value(output, op.half_number), _rounded(value, output))


def _rounded(value: Any, output: SSAValue) -> Any:
    """What a transfer computes, in the format of its memory; what it copies is in that already."""
    kind = tensor_of(output)
    element = "" if is_scaled(kind) else ELEMENT_NAMES[kind.element_type]
    return ROUNDING[element](value) if element in ROUNDING else value
