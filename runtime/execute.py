"""Runs a plan with NumPy: one function of `graph_ops.FUNCTIONS` a step, state updated in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.runtime.numerics import round_bf16
from supertile.runtime.plan import FunctionPlan, ModulePlan, Step, WeightUse, reader

if TYPE_CHECKING:
    from supertile.runtime.nonfinite import Tracker

ROUNDING: dict[str, Callable[[Any], Any]] = {
    "bf16": round_bf16,
    "f16": lambda x: x.astype(np.float16).astype(np.float32),
}

# Called with the full name of a named value and the value; what it returns takes its place.
Watch = Callable[[str, Any, Step], Any]


class ExecutionError(Exception):
    """An op failed: a bug, or state or inputs that the caller should have refused."""


@dataclass
class Executor:
    """A plan with its weights; `watch` sees named values.

    Values are named NAME in the first entry, ENTRY.NAME in others, LABEL.NUMBER.NAME in layers.
    """

    plan: ModulePlan
    weights: Callable[[WeightUse, int | None], Any]
    watch: Watch | None = None
    wanted: Callable[[str], bool] | None = None
    """Which names `watch` looks at, where it costs something to show it a value; None: all."""

    tracker: Tracker | None = None
    """Who follows values that are not finite: see `nonfinite.py`."""

    observes: ClassVar[bool] = False
    """Whether `observed` looks at the results of steps."""

    def call(self, entry: str, arguments: list[Any]) -> list[Any]:
        """Run an entry: its own arguments, sequence, position, length, then its state stacks."""
        self.begin_call()
        return self._run(self.plan.functions[entry], arguments, None, self.plan.prefix(entry))

    def begin_call(self) -> None:
        """Told before every call of an entry."""

    def _run(
        self, function: FunctionPlan, arguments: list[Any], layer: int | None, prefix: str
    ) -> list[Any]:
        registers: list[Any] = [None] * function.registers
        registers[: len(arguments)] = arguments
        for step in function.steps:
            try:
                results = self.observed(step, registers, self._step(step, registers, layer), layer)
            except (ExecutionError, UserError, MemoryError):
                raise
            except Exception as error:
                place = f"{step.source} " if step.source else ""
                raise ExecutionError(
                    f"{place}{step.op.name} in @{function.name}: {error}"
                ) from error
            if step.rounds is not None:
                results[0] = ROUNDING[step.rounds](results[0])
            if step.name is not None and self.watch is not None:
                results[0] = self.watch(prefix + step.name, results[0], step)
            if self.tracker is not None:
                self.tracker.look(step, layer, [reader(step.inputs)(registers)], [results])
            for register, value in zip(step.outputs, results, strict=True):
                registers[register] = value
            for register in step.frees:
                registers[register] = None
        return [registers[register] for register in function.results]

    def observed(self, step: Step, registers: Any, results: list[Any], layer: int | None) -> Any:
        """What the program goes on with in place of the results of a step; see `observe.py`."""
        return results

    def _step(self, step: Step, registers: list[Any], layer: int | None) -> list[Any]:
        if step.function is not None:
            return step.call(registers)
        if step.weight is not None:
            return [self.weights(step.weight, layer)]
        if isinstance(step.op, graph.Constant):
            return [np.float32(step.properties["value"])]
        if isinstance(step.op, comm.CommOp):
            raise ExecutionError(f"{step.op.name} needs all ranks: see lockstep.py")
        assert isinstance(step.op, graph.Layers), "all other ops have functions"
        carried, shared, states = reader(step.inputs)(registers)
        return self._layers(step, carried, shared, states)

    def _layers(
        self, step: Step, carried: list[Any], shared: list[Any], states: list[Any]
    ) -> list[Any]:
        """Every layer in order; its state is its row of each stack that its function uses."""
        label = step.properties["label"]
        rows = [0] * len(states)
        for number, kind in enumerate(step.properties["kinds"]):
            function = self.plan.functions[step.properties["functions"][kind]]
            uses = step.properties["uses"][kind]
            held = [states[stack][rows[stack]] for stack in uses]
            for stack in uses:
                rows[stack] += 1
            arguments = [*carried, *shared, number, *held]
            results = self._run(function, arguments, number, f"{label}.{number}.")
            carried = results[: len(carried)]
        return [*carried, *states]
