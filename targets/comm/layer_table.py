"""What a layer of experts costs at many numbers of ranks and batches, with tiles for each.

    rows = moe_layer_table(machine, model, works, eps=(8, 64, 384), batches=(1, 16, 64, 256))
    print(layer_table_text(rows))

For decoding with balanced routing, one token a sequence, `batch` sequences on each rank. Where the
machine does not connect so many ranks, or their experts do not fit its memory, the row says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.bounds import layer_bounds
from supertile.targets.comm.choice import exchanges
from supertile.targets.comm.expert_kernels import WorksOf, kernel_experts
from supertile.targets.comm.layer_time import (
    PHASES,
    ExpertTime,
    LayerTime,
    time_of_exchanges,
    weakest_evidence,
)
from supertile.targets.cost.chance import touched_share
from supertile.targets.deploy import Deployment, Model, parse_deployment
from supertile.targets.machine_types import Machine

LIMIT = 1e-3
"""The second question of the plan: does a layer of experts stay within a millisecond?"""


@dataclass(frozen=True)
class LayerRow:
    """One point. Times in seconds; None where the machine cannot run it at all."""

    machine: str
    ep: int
    batch: int
    dispatch: float | None = None
    experts: float | None = None
    combine: float | None = None
    total: float | None = None
    overlapped: float | None = None
    """The lower bound of a layer in which everything overlaps, at the machine's peaks."""
    serial: float | None = None
    """The lower bound of one phase after the other."""
    holds: bool = False
    """Whether the layer takes a millisecond at most, and fits."""
    dominates: str = ""
    """The phase that takes most, and what in it."""
    routes: tuple[str, ...] = ()
    """Of dispatch and combine."""
    evidence: tuple[str, ...] = ()
    """The weakest behind each phase, in their order."""
    obstacle: str = ""
    """Why it does not run; empty if it does."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def moe_layer_table(
    machine: Machine,
    model: Model,
    works: WorksOf,
    eps: Sequence[int],
    batches: Sequence[int],
) -> list[LayerRow]:
    """A row for each number of ranks and each batch, in the order given.

    `model` and `works` are read from a module for this machine. UserError for a dense model, and
    where a figure that every route needs is unknown.
    """
    return [row for ep in eps for row in _rows_of(machine, model, works, ep, batches)]


def _rows_of(
    machine: Machine, model: Model, works: WorksOf, ep: int, batches: Sequence[int]
) -> Iterable[LayerRow]:
    sizes, tokens = model.expert_layer, np.array(batches, np.float64)
    sent = exchanges(sizes.row, ep, sizes.experts, sizes.choices, tokens)
    slots = -(-sizes.experts // ep)
    rows = np.broadcast_to(sent["dispatch"].copies, tokens.shape)
    touched = touched_share(rows, float(slots))
    try:
        experts = _experts(machine, works, _deployments(ep, batches), rows, touched)
        layer = time_of_exchanges(machine, sent, slots, experts)
    except UserError as error:
        if error.code != "cost.reach":
            raise
        text = f"at most {error.values['limit']} {machine.device_unit}s are connected"
        return [LayerRow(machine.name, ep, batch, obstacle=text) for batch in batches]
    touched = touched_share(tokens * sizes.choices, float(slots))
    bounds = layer_bounds(machine, sizes, sent, slots, touched)
    overlapped = np.broadcast_to(bounds.overlapped, tokens.shape)
    serial = np.broadcast_to(bounds.serial, tokens.shape)
    room = _room(machine, sizes, slots)
    return [
        _row(machine, layer, ep, batch, n, float(overlapped[n]), float(serial[n]), room)
        for n, batch in enumerate(batches)
    ]


def _deployments(ep: int, batches: Sequence[int]) -> list[Deployment]:
    """Decoding on so many ranks, each with sequences of its own."""
    return [parse_deployment(f"phase=decode ep={ep} batch={batch}") for batch in batches]


def _experts(
    machine: Machine,
    works: WorksOf,
    deployments: Sequence[Deployment],
    rows: NDArray[np.float64],
    touched: NDArray[np.float64],
) -> ExpertTime:
    """Of all points: each has tiles of its own."""
    times = [
        kernel_experts(machine, works(deployment), rows[n : n + 1], touched[n : n + 1])
        for n, deployment in enumerate(deployments)
    ]
    arithmetic, weights, kernels = (
        np.concatenate([np.broadcast_to(getattr(time, name), (1,)) for time in times])
        for name in ("arithmetic", "weights", "kernels")
    )
    figures = dict.fromkeys(path for time in times for path in time.figures)
    return ExpertTime(times[0].launch, arithmetic, weights, tuple(figures), kernels)


def _row(
    machine: Machine,
    held: LayerTime,
    ep: int,
    batch: int,
    point: int,
    overlapped: float,
    serial: float,
    room: str,
) -> LayerRow:
    seconds = {phase: float(held.seconds(phase)[point]) for phase in PHASES}
    total = sum(seconds.values())
    chosen = {phase: held.chosen(phase, point) for phase in ("dispatch", "combine")}
    figures = {"experts": held.experts.figures} | {
        phase: one.time.figures for phase, one in chosen.items() if one and one.time
    }
    return LayerRow(
        machine=machine.name,
        ep=ep,
        batch=batch,
        **seconds,
        total=total,
        overlapped=overlapped,
        serial=serial,
        holds=total <= LIMIT and not room,
        dominates=_dominates(held, seconds, point),
        routes=tuple(str(one.route) for one in chosen.values() if one),
        evidence=tuple(weakest_evidence(machine, figures.get(phase, ())) for phase in PHASES),
        obstacle=room,
    )


def _dominates(held: LayerTime, seconds: dict[str, float], point: int) -> str:
    """The longest phase: for experts weights or arithmetic, for transfers start-up or bytes."""
    phase = max(PHASES, key=seconds.__getitem__)
    if phase == "experts":
        arithmetic, weights = (
            float(np.broadcast_to(part, np.shape(held.experts.seconds))[point])
            for part in (held.experts.arithmetic, held.experts.weights)
        )
        return "experts: weights" if weights >= arithmetic else "experts: arithmetic"
    chosen = held.chosen(phase, point)
    assert chosen is not None and chosen.time is not None, "the longest phase takes time"
    streams = [np.max(np.ravel(busy)[point : point + 1]) for busy in chosen.time.busy.values()]
    return f"{phase}: {'bytes' if max(streams) > seconds[phase] / 2 else 'start-up'}"


def _room(machine: Machine, sizes: ExpertLayer, slots: int) -> str:
    """Why the experts of a rank do not fit its memory; empty if they do."""
    memory = machine.main_memory
    capacity = memory.usable.value or memory.capacity.value
    needed = slots * sizes.layers * sizes.expert_bytes
    if capacity is None or needed <= capacity:
        return ""
    return f"{needed / 1e9:,.0f} GB of experts, {capacity / 1e9:,.0f} GB a {machine.device_unit}"


# ---- as text -----------------------------------------------------------------------------------

COLUMNS = ("machine", "ep", "batch", "dispatch", "experts", "combine", "layer", "x bound", "1 ms")


def layer_table_text(rows: Sequence[LayerRow]) -> str:
    """A line a row, times in us; "x bound": the layer over its serial lower bound."""
    widths = (max(WIDTHS[0], *(len(row.machine) for row in rows)), *WIDTHS[1:])
    head = "  ".join(f"{name:>{width}}" for name, width in zip(COLUMNS, widths, strict=True))
    lines = [_line(row, widths) for row in rows]
    return "\n".join([f"{head}  most of it, or why not; evidence", *lines])


WIDTHS = (12, 5, 5, 9, 9, 9, 9, 7, 4)


def _line(row: LayerRow, widths: Sequence[int]) -> str:
    if row.total is None or row.serial is None:
        numbers = ["-"] * 5
    else:
        times = (row.dispatch, row.experts, row.combine, row.total)
        numbers = [f"{(seconds or 0.0) * 1e6:,.1f}" for seconds in times]
        numbers.append(f"{row.total / row.serial:.2f}")
    cells = (row.machine, str(row.ep), str(row.batch), *numbers, "yes" if row.holds else "no")
    line = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    about = "; ".join(filter(None, (row.obstacle, row.dominates, ", ".join(row.evidence))))
    return f"{line}  {about}"
