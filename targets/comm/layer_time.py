"""One layer of experts in closed form: dispatch, the experts themselves, and combine.

    experts = launch + max(operations / rate reached, weights with rows / bandwidth reached)

This leaves tiles out. Plans and tables take the time of the experts from their tiled kernels
(`expert_kernels.py`), which is above this by what tiles waste. Where ways to run a layer are
compared that no module has, such as a shared expert on ranks of its own, all are in closed form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supertile.ir.expert_layer import ExpertSizes
from supertile.targets.comm.alternatives import Alternative, alternatives
from supertile.targets.comm.choice import exchanges, fastest
from supertile.targets.cost.chance import touched_share
from supertile.targets.cost.evidence import evidence_of
from supertile.targets.cost.figures import Ledger
from supertile.targets.cost.route import Exchange
from supertile.targets.cost.values import Value, plain
from supertile.targets.machine_types import EVIDENCE, UNKNOWN, Machine

PHASES = ("dispatch", "experts", "combine")


@dataclass(frozen=True)
class ExpertTime:
    """Seconds of the fullest rank's experts."""

    launch: float
    arithmetic: Value
    weights: Value
    figures: tuple[str, ...]
    kernels: Value | None = None
    """Of the tiled kernels, one after the other; None: in closed form, which leaves tiles out."""

    @property
    def seconds(self) -> Value:
        if self.kernels is not None:
            return self.kernels
        return self.launch + np.maximum(self.arithmetic, self.weights)


def expert_rates(ledger: Ledger, sizes: ExpertSizes) -> tuple[float, float]:
    """Seconds of arithmetic of a row, and to read the weights of an expert, as kernels reach."""
    matrix, memory = ledger.machine.engine("matrix"), ledger.machine.main_memory.name
    assert matrix is not None, "every machine has a matrix engine"
    bandwidth = ledger.need(f"memories.{memory}.read", memory)
    bandwidth *= ledger.fraction("memory_fraction", memory)
    return sizes.flops / ledger.rate(matrix, sizes.element), sizes.expert_bytes / bandwidth


def expert_time(machine: Machine, sizes: ExpertSizes, rows: Value, slots: float) -> ExpertTime:
    """`rows` on `slots` experts of a rank; of the experts those with rows are read."""
    ledger = Ledger(machine, "the time of experts")
    row, weights = expert_rates(ledger, sizes)
    matrix = machine.engine("matrix")
    assert matrix is not None, "every machine has a matrix engine"
    launch = ledger.launch("launch_matrix")
    return ExpertTime(
        launch=launch,
        arithmetic=plain(row * rows),
        weights=plain(slots * touched_share(rows, float(slots)) * weights),
        figures=ledger.paths(matrix.name, machine.main_memory.name, "launch"),
    )


@dataclass(frozen=True)
class LayerTime:
    """One layer at one number of ranks; arrays over batches."""

    exchanges: Mapping[str, Exchange]
    held: Mapping[str, list[Alternative]]
    """dispatch, combine -> all alternatives; empty on one rank."""
    best: Mapping[str, Value]
    """dispatch, combine -> the number of the chosen one, point by point."""
    experts: ExpertTime
    slots: int

    def seconds(self, phase: str) -> Value:
        if phase == "experts":
            return self.experts.seconds
        held = self.held[phase]
        if not held:
            return 0.0 * self.experts.seconds
        shape = np.shape(self.experts.seconds)
        times = np.stack([np.broadcast_to(one.seconds, shape) for one in held])
        return np.take_along_axis(times, np.broadcast_to(self.best[phase], (1, *shape)), 0)[0]

    @property
    def total(self) -> Value:
        """One phase after the other."""
        return sum(self.seconds(phase) for phase in PHASES)

    def chosen(self, phase: str, point: int) -> Alternative | None:
        held = self.held[phase]
        numbers = np.broadcast_to(self.best[phase], np.shape(self.experts.seconds))
        return held[int(numbers[point])] if held else None


def layer_time(machine: Machine, sizes: ExpertSizes, ranks: int, tokens: Value) -> LayerTime:
    """The layer in closed form: balanced routing, the fewest slots, `tokens` [B] on each rank."""
    sent = exchanges(sizes.row, ranks, sizes.experts, sizes.choices, tokens)
    slots = -(-sizes.experts // ranks)
    experts = expert_time(machine, sizes, sent["dispatch"].copies, slots)
    return time_of_exchanges(machine, sent, slots, experts)


def time_of_exchanges(
    machine: Machine, sent: Mapping[str, Exchange], slots: int, experts: ExpertTime
) -> LayerTime:
    """The layer that sends these, on a rank with `slots` experts that take this time."""
    held = {name: alternatives(machine, one) for name, one in sent.items()}
    best = {name: fastest(one) if one else np.zeros(1, int) for name, one in held.items()}
    return LayerTime(sent, held, best, experts, slots)


def weakest_evidence(machine: Machine, paths: tuple[str, ...]) -> str:
    """The weakest evidence among figures: that of a time that rests on all of them."""
    order = (*EVIDENCE, UNKNOWN)
    found = [evidence_of(machine, path) for path in paths]
    return max(found, key=order.index, default=UNKNOWN)
