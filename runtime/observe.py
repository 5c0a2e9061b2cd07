"""An executor that keeps what it computes, and can go on with what an earlier run computed.

Values are matched by place: the op, its name or source line, the layer, the call, and its number
among the ops of one place. Selections and roundings turn small differences into large ones. Where
the difference to the earlier run is as small as it must be, the run takes over the earlier value.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from supertile.ir import graph, tile
from supertile.ir.types import ELEMENT_NAMES, type_of
from supertile.runtime.execute import ROUNDING, ExecutionError, Executor
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import ModulePlan, Step

Array = NDArray[Any]
Key = tuple[str, int | None, int, int]  # op and where it is from, layer, call, number

# The largest step between neighbours of a format: relative to the value, and at zero to the scale.
STEPS = {
    "bf16": (2.0**-7, 0.0),
    "f16": (2.0**-10, 2.0**-24),
    "f8e4m3": (2.0**-3, 2.0**-9),
    "f4e2m1": (2.0**-1, 2.0**-1),
    "i8": (0.0, 1.0),
}
ONE = {"f8e4m3": 0x38, "f4e2m1": 0x2, "i8": 0x1}  # codes of 1.0


class NumericError(ExecutionError):
    """A pass changed numbers that its equivalence class says it keeps."""


@dataclass(frozen=True)
class Tolerance:
    """How far numbers may be apart."""

    bound: float
    """Of a sum, relative to the largest value around it; infinite if nothing is asked."""
    share: float
    """Of the values that one op rounds: how many may be a step apart, if any at least one."""


@dataclass
class Value:
    """What one step gave: the arrays of its results; three for a block-scaled one."""

    step: Step
    parts: list[Array]


@dataclass
class Observer(Executor):
    """Keeps the values of all steps, taking over those of `earlier` within `tolerance`."""

    observes: ClassVar[bool] = True

    earlier: Observer | None = None
    tolerance: Tolerance | None = None
    comparable: frozenset[object] = frozenset()
    """Ids of the steps that stand for a step of the earlier plan: see `comparable_steps`."""
    values: dict[Key, Value] = field(default_factory=dict)
    ties: list[str] = field(default_factory=list)
    """Selections that differ, one text each."""
    steps_apart: int = 0
    """How many rounded values differ."""
    call_number: int = -1
    counts: dict[tuple[str, int | None, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.earlier is not None:
            self.comparable = comparable_steps(self.earlier.plan, self.plan)

    def begin_call(self) -> None:
        self.call_number += 1

    def observed(
        self, step: Step, registers: Any, results: list[Any], layer: int | None
    ) -> list[Any]:
        if isinstance(step.op, graph.Weight | graph.Constant | graph.Layers):
            return results
        if step.rounds is not None:
            results[0] = ROUNDING[step.rounds](results[0])
        if isinstance(step.op, tile.Launch):
            self._observe_launch(step, results, layer)
            return results
        key = self._key(_label(step), layer)
        if self.earlier is not None and id(step) in self.comparable:
            held = self.earlier.values.get(key)
            if held is not None and held.step.rounds == step.rounds:
                self._settle(step, registers, results, held.parts, layer)
        self.values[key] = Value(step, [part for one in results for part in _parts(one)])
        return results

    def _observe_launch(self, step: Step, results: list[Any], layer: int | None) -> None:
        """Each result of a kernel stands for the value that the op of its label made."""
        for number, label in enumerate(_result_labels(step)):
            if not label:
                continue
            key = self._key(label, layer)
            held = self.earlier.values.get(key) if self.earlier is not None else None
            if held is not None and (id(step), number) in self.comparable:
                rounds = _narrow(step.op.results[number])
                self._take_over(results, number, held, rounds)
            self.values[key] = Value(step, _parts(results[number]))

    def _take_over(self, results: list[Any], number: int, held: Value, rounds: str | None) -> None:
        """Replace a result by the earlier value, if that is rounded and a step apart at most."""
        earlier = _rebuilt(results[number], held.parts)
        if earlier is None or self.tolerance is None or not self.tolerance.share:
            return
        if rounds is None and not isinstance(earlier, Scaled):
            return
        count = _steps_apart(earlier, results[number], rounds, self.tolerance)
        self.steps_apart += count or 0
        results[number] = results[number] if count is None else earlier

    def _key(self, label: str, layer: int | None) -> Key:
        place = (label, layer, self.call_number)
        number = self.counts.get(place, 0)
        self.counts[place] = number + 1
        return (*place, number)

    def _settle(
        self,
        step: Step,
        registers: Any,
        results: list[Any],
        before: list[Array],
        layer: int | None,
    ) -> None:
        """Replace our first result by the earlier one, if it is a selection or rounded."""
        earlier = _rebuilt(results[0], before)
        if earlier is None:
            return
        if isinstance(step.op, graph.TopK):
            scores = step.inputs[0]
            assert isinstance(scores, int)
            self._compare_selections(step, registers[scores], results[0], earlier, layer)
            results[0] = earlier
        elif self._rounds(step):
            assert self.tolerance is not None
            count = _steps_apart(earlier, results[0], step.rounds, self.tolerance)
            self.steps_apart += count or 0
            results[0] = results[0] if count is None else earlier

    def _rounds(self, step: Step) -> bool:
        """Whether a step rounds, and roundings may differ."""
        if self.tolerance is None or not self.tolerance.share:
            return False
        return step.rounds is not None or isinstance(step.op, graph.Quantize)

    def _compare_selections(
        self, step: Step, scores: Array, ours: Array, theirs: Array, layer: int | None
    ) -> None:
        """List the rows that select otherwise; raises where that is no tie."""
        assert self.tolerance is not None
        limit = self.tolerance.bound * largest(scores)
        for row in map(tuple, np.argwhere((ours != theirs).any(-1)).tolist()):
            own, other = ours[row].tolist(), theirs[row].tolist()
            apart = _score_gap(scores[row], own, other)
            text = f"{place_text(step, layer)} row {list(row)} selects {own}, not {other}"
            if not apart <= limit:
                raise NumericError(f"{text}: no tie, the scores are {apart:.3g} apart")
            self.ties.append(f"{text}: a tie, the scores are {apart:.3g} apart")


def comparable_steps(before: ModulePlan, after: ModulePlan) -> frozenset[object]:
    """Ids of the steps whose place has as many in the same function of the plan before.

    Where a pass removed one of several ops of a place, nobody knows which one an op stands for.
    Of a launch, whose results stand for one op each, it is (id, number of the result).
    """
    found: set[object] = set()
    for name, function in after.functions.items():
        known = before.functions[name].steps if name in before.functions else ()
        counts = Counter(label for step in known for label in _labels(step))
        counts.subtract(label for step in function.steps for label in _labels(step))
        for step in function.steps:
            if isinstance(step.op, tile.Launch):
                numbered = enumerate(_result_labels(step))
                found.update((id(step), n) for n, label in numbered if label and not counts[label])
            elif not counts[_label(step)]:
                found.add(id(step))
    return frozenset(found)


def _labels(step: Step) -> list[str]:
    """The values that a step makes, as far as they can be told from others."""
    if isinstance(step.op, tile.Launch):
        return [label for label in _result_labels(step) if label]
    return [_label(step)]


def _narrow(value: SSAValue) -> str | None:
    """The format of 16 bits that a value is kept in."""
    name = ELEMENT_NAMES[type_of(value).element_type]
    return name if name in ("bf16", "f16") else None


def _result_labels(step: Step) -> list[str]:
    assert isinstance(step.op, tile.Launch)
    return [label.data for label in step.op.values or ()]


def _label(step: Step) -> str:
    return f"{step.name or step.source} {step.op.name}"


def place_text(step: Step, layer: int | None) -> str:
    """`model.st:12: graph.top_k (chosen) of layer 3`."""
    named = f" ({step.name})" if step.name else ""
    return f"{step.source}: {step.op.name}{named}" + ("" if layer is None else f" of layer {layer}")


def largest(x: Array) -> float:
    """The largest finite magnitude."""
    return float(np.max(np.abs(x), initial=0.0, where=np.isfinite(x)))


def _score_gap(scores: Array, own: list[int], other: list[int]) -> float:
    """How far the scores are apart where two selections differ; padding has none."""
    pairs = [(a, b) for a, b in zip(own, other, strict=True) if a != b]
    if any(min(pair) < 0 for pair in pairs):
        return np.inf
    return max(abs(float(scores[a]) - float(scores[b])) for a, b in pairs)


def _parts(value: Any) -> list[Array]:
    """Copies, as state is updated in place."""
    if isinstance(value, Scaled):
        return [value.codes, value.scales, value.dequantize()]
    return [np.array(value)] if isinstance(value, np.ndarray | np.generic) else []


def _rebuilt(ours: Any, parts: list[Array]) -> Any:
    """The earlier value from its parts, None if it is of another form than ours."""
    if not parts:
        return None
    if not isinstance(ours, Scaled):
        return parts[0].copy() if parts[0].shape == np.shape(ours) else None
    forms = [(part.shape, part.dtype) for part in parts[:2]]
    if forms != [(one.shape, one.dtype) for one in (ours.codes, ours.scales)]:
        return None
    return Scaled(parts[0], parts[1], ours.element, ours.block, ours.packed)


def _steps_apart(a: Any, b: Any, rounds: str | None, tolerance: Tolerance) -> int | None:
    """How many values differ, none by more than a step; None if too many or too far."""
    relative, at_zero = STEPS[rounds or b.element]
    unit: Any = 1.0
    if isinstance(a, Scaled):
        unit = np.maximum(_units(a), _units(b))
        a, b = a.dequantize(), b.dequantize()
    apart = np.abs(a - b)
    allowed = relative * np.maximum(np.abs(a), np.abs(b)) + at_zero * unit
    # Float32 scales, unlike powers of two, follow a difference in the largest value of a block.
    close = tolerance.bound * largest(a) if rounds is None and relative == 0 else 0.0
    count = int(np.count_nonzero(apart > close))
    few = count <= max(1.0, tolerance.share * apart.size)
    return count if few and bool((apart <= allowed + tolerance.bound * largest(a)).all()) else None


def _units(x: Scaled) -> Array:
    """The scale beside each value."""
    ones = Scaled(np.full_like(x.codes, ONE[x.element]), x.scales, x.element, x.block)
    return ones.dequantize()
