"""Runs a plan with NumPy: one function of `graph_ops.FUNCTIONS` a step, state updated in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from supertile.ir import graph
from supertile.runtime.numerics import round_bf16
from supertile.runtime.plan import FunctionPlan, Group, ModulePlan, Step, WeightUse

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
    """A plan with its weights; `watch` sees named values."""

    plan: ModulePlan
    weights: Callable[[WeightUse, int | None], Any]
    watch: Watch | None = None
    _uses: dict[int, WeightUse] = field(default_factory=dict)

    def call(self, entry: str, arguments: list[Any]) -> list[Any]:
        """Run an entry: its own arguments, sequence, position, length, then its state stacks."""
        return self._run(self.plan.functions[entry], arguments, None, "")

    def _run(
        self, function: FunctionPlan, arguments: list[Any], layer: int | None, prefix: str
    ) -> list[Any]:
        registers: list[Any] = [None] * function.registers
        registers[: len(arguments)] = arguments
        for step in function.steps:
            try:
                results = self._step(step, registers, layer)
            except ExecutionError:
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
            for register, value in zip(step.outputs, results, strict=True):
                registers[register] = value
            for register in step.frees:
                registers[register] = None
        return [registers[register] for register in function.results]

    def _step(self, step: Step, registers: list[Any], layer: int | None) -> list[Any]:
        if step.function is None:
            return self._structure(step, registers, layer)
        result = step.function(*_inputs(step.inputs, registers), **step.properties)
        return list(result) if isinstance(result, tuple) else [result]

    def _structure(self, step: Step, registers: list[Any], layer: int | None) -> list[Any]:
        op = step.op
        if isinstance(op, graph.Weight):
            use = self._uses.get(id(op))
            if use is None:
                use = WeightUse(op.checkpoint.data, op.result.type)  # type: ignore[arg-type]
                self._uses[id(op)] = use
            return [self.weights(use, layer)]
        if isinstance(op, graph.Constant):
            return [np.float32(step.properties["value"])]
        assert isinstance(op, graph.Layers), f"no NumPy function for {op.name}"
        carried, shared, states = _inputs(step.inputs, registers)
        return self._layers(step, list(carried), list(shared), list(states))

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


def _inputs(groups: tuple[Group, ...], registers: list[Any]) -> Iterator[Any]:
    for group in groups:
        if isinstance(group, int):
            yield registers[group]
        elif group is None:
            yield None
        else:
            yield [registers[register] for register in group]
