"""What `compile --stats` prints: passes with their times, and phases with their budgets.

Times are those of the processor, so that a busy machine tells the same as an idle one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from supertile.passes.driver import Report

BUDGET: Mapping[str, int] = {
    "start": 100,
    "front end": 750,
    "graph passes": 60,
    "placed passes": 40,
    "fused passes": 70,
    "tiled passes": 450,
    "scheduled passes": 80,
    "checks of passes": 450,
    "work": 150,
    "cost": 90,
    "texts": 130,
    "files": 130,
}
"""Phase -> milliseconds that a deployment of V4-Pro may take on 2 cores: 2.5 s in all."""


@dataclass
class Phases:
    """Processor seconds of each phase of a command."""

    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.process_time)

    @staticmethod
    def begin() -> Phases:
        """From here on; what the process has done before is its start."""
        return Phases({"start": time.process_time()})

    def end(self, name: str) -> None:
        """What was done since the end before is the phase of this name."""
        now = time.process_time()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count some of the time of a phase to another."""
        self.seconds[source] -= seconds
        self.seconds[target] = self.seconds.get(target, 0.0) + seconds


def print_stats(report: Report, phases: Phases) -> None:
    from rich.console import Console

    console = Console(width=100)
    console.print(_passes(report))
    console.print(_phases(phases))


def _passes(report: Report) -> Table:
    """Times and op counts by pass."""
    from rich.table import Table

    table = Table("pass", "phase", "ms", "ops before", "ops after", "functions changed", "rewrites")
    for record in report.passes:
        table.add_row(
            record.name,
            record.phase,
            f"{record.seconds * 1e3:.1f}",
            str(sum(record.ops_before.values())),
            str(sum(record.ops_after.values())),
            str(len(record.changed)),
            str(sum(record.patterns.values())),
        )
    return table


def _phases(phases: Phases) -> Table:
    """The phases in the order of the budget, then those that have none."""
    from rich.table import Table

    table = Table("phase", "ms", "budget of V4-Pro, ms")
    for name in dict.fromkeys((*BUDGET, *phases.seconds)):
        if name in phases.seconds:
            budget = str(BUDGET.get(name, ""))
            table.add_row(name, f"{phases.seconds[name] * 1e3:.0f}", budget)
    total = sum(phases.seconds.values())
    table.add_row("in all", f"{total * 1e3:.0f}", str(sum(BUDGET.values())))
    return table
