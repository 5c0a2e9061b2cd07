"""One layer of experts in closed form: dispatch, the experts themselves, and combine.

    experts = launch + max(operations / rate reached, weights with rows / bandwidth reached)

No module is compiled, so that a table of thousands of points takes a second. Tiles are left out:
what a compiled kernel takes is in `cost/kernel.py`, above this by what tiles waste.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from supertile.ir.expert_layer import ExpertSizes
from supertile.targets.comm.alternatives import Alternative, alternatives
from supertile.targets.comm.choice import exchanges, fastest
from supertile.targets.cost.chance import touched_share
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

    @property
    def seconds(self) -> Value:
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
    """The layer with balanced routing, the fewest slots, and `tokens` [B] on each rank."""
    sent = exchanges(sizes.row, ranks, sizes.experts, sizes.choices, tokens)
    return time_of_exchanges(machine, sizes, sent, -(-sizes.experts // ranks))


def time_of_exchanges(
    machine: Machine, sizes: ExpertSizes, sent: Mapping[str, Exchange], slots: int
) -> LayerTime:
    """The layer that sends these, on a rank with `slots` experts."""
    held = {name: alternatives(machine, one) for name, one in sent.items()}
    best = {name: fastest(one) if one else np.zeros(1, int) for name, one in held.items()}
    rows = sent["dispatch"].copies
    return LayerTime(sent, held, best, expert_time(machine, sizes, rows, slots), slots)


def weakest_evidence(machine: Machine, paths: tuple[str, ...]) -> str:
    """The weakest evidence among figures: that of a time that rests on all of them."""
    order = (*EVIDENCE, UNKNOWN)
    found = [machine.figure(path).evidence for path in paths]
    return max(found, key=order.index, default=UNKNOWN)
