"""Do two modules compute the same numbers? Runs both on seeded weights and tokens and compares.

What "the same" means is the equivalence class of the pass between them:

exact        bit-equal results and state; integers equal
reassociate  |a - b| <= 2 K u max|a|, K the longest sum, u = 2^-24 (Higham 2002, section 3.1)
requantize   as reassociate, but for 2 % of the elements, which may differ by a step of bfloat16
convert      nothing is asked; the difference is reported

In the last three a selection may differ only in a tie: scores within the bound. Differing ones are
listed, and both programs go on with the first one's selection.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import ModuleOp, TensorType

from supertile.ir import graph
from supertile.ir.types import DYNAMIC, ELEMENT_NAMES, SCALED_ELEMENTS
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.numerics import quantize_blocks, round_bf16
from supertile.runtime.plan import ModulePlan, Step, WeightUse, plan_module
from supertile.runtime.weights import declared_format

UNIT = 2.0**-24
STEP = 2.0**-8  # of bfloat16, relative
REQUANTIZED_SHARE = 0.02
CONTEXT = 48
# New tokens of each of two sequences, call by call: prefill, chunks, decode, one side idle.
CALLS: tuple[tuple[int, int], ...] = ((11, 7), (5, 9), (1, 1), (1, 1), (0, 3), (1, 1))

Key = tuple[str, int | None, str, int, int]


class NumericDifference(Exception):
    """A pass changed numbers that its class says it keeps."""


@dataclass
class Recording:
    """What a run gave: results by call, and every value with where it came from, in order."""

    results: list[dict[str, Any]]
    states: list[NDArray[Any]]
    values: dict[Key, tuple[Step, Any]]


class _Observer(Executor):
    """Keeps every value; takes over the selections of an earlier run and lists what was no tie."""

    def __init__(
        self, plan: ModulePlan, weights: Any, earlier: Recording | None, bound: float | None
    ) -> None:
        super().__init__(plan, weights)
        self.values: dict[Key, tuple[Step, Any]] = {}
        self.earlier = earlier
        self.bound = bound
        self.call_number = 0
        self.counts: dict[tuple[Any, ...], int] = {}
        self.ties: list[str] = []

    def _step(self, step: Step, registers: list[Any], layer: int | None) -> list[Any]:
        results = super()._step(step, registers, layer)
        place = (step.name or step.source, layer, step.op.name, self.call_number)
        number = self.counts.get(place, 0)
        self.counts[place] = number + 1
        key: Key = (f"{place[0]} {step.op.name}", layer, step.op.name, self.call_number, number)
        if isinstance(step.op, graph.TopK) and self.earlier is not None and self.bound is not None:
            group = step.inputs[0]
            assert isinstance(group, int)
            results = [self._settle(key, step, registers[group], results[0])]
        if not isinstance(step.op, graph.Weight | graph.Constant | graph.Layers):
            self.values[key] = (step, _copied(results[0]))
        return results

    def _settle(self, key: Key, step: Step, scores: Any, chosen: Any) -> Any:
        """The earlier run's selection, if every difference to ours is a tie within the bound."""
        assert self.earlier is not None and self.bound is not None
        held = self.earlier.values.get(key)
        if held is None or held[1].shape != chosen.shape:
            return chosen
        before = held[1]
        scale = float(np.max(np.abs(scores[np.isfinite(scores)]), initial=0.0))
        for row in np.ndindex(*chosen.shape[:-1]):
            ours, theirs = set(chosen[row].tolist()), set(before[row].tolist())
            if ours == theirs:
                continue
            swapped = [scores[row][i] for i in ours ^ theirs if i >= 0]
            gap = max(swapped) - min(swapped) if swapped else np.inf
            if gap > self.bound * scale:
                raise NumericDifference(
                    f"{step.source} {step.op.name}: row {list(row)} selects {sorted(ours)} "
                    f"instead of {sorted(theirs)}, scores {gap:.3g} apart"
                )
            self.ties.append(f"{step.source} {step.name or step.op.name} row {list(row)}")
        return before


def _copied(value: Any) -> Any:
    return np.array(value) if isinstance(value, np.ndarray | np.floating) else value


class NumericCheck:
    """Holds what a module computed, and compares the next version of it."""

    def __init__(self, module: ModuleOp, seed: int = 0) -> None:
        self.seed = seed
        self.longest_sum = _longest_sum(module)
        self.held = self._run(module, None, None)[0]
        self.lines: list[str] = []

    def compare(self, name: str, equivalence: str, module: ModuleOp) -> None:
        """Raise `NumericDifference` unless the module still computes the same."""
        bound = None if equivalence == "exact" else 2 * self.longest_sum * UNIT
        recording, ties = self._run(module, self.held, bound)
        worst = self._worst(equivalence, recording)
        self.held = recording
        text = "bit-equal" if equivalence == "exact" else f"largest difference {worst:.3g}"
        self.lines.append(f"{name}: {equivalence}, {text}, {len(ties)} ties")

    def _run(
        self, module: ModuleOp, earlier: Recording | None, bound: float | None
    ) -> tuple[Recording, list[str]]:
        plan = plan_module(module)
        weights = SeededWeights(plan, module, self.seed)
        observer = _Observer(plan, weights.get, earlier, bound)
        results: list[dict[str, Any]] = []
        states: list[NDArray[Any]] = []
        for entry in plan.entries:
            session = Session(observer, entry, *_sizes(plan, entry))
            for number, counts in enumerate(_calls(plan, entry)):
                observer.call_number = number
                inputs = _inputs(session, sum(counts), weights.vocabulary, self.seed + number)
                results.append(session.call(inputs, counts))
            states += session.states
        return Recording(results, states, observer.values), observer.ties

    def _worst(self, equivalence: str, recording: Recording) -> float:
        """The largest difference of results and state; raises if the class does not allow it."""
        before = [*_flat(self.held.results), *self.held.states]
        after = [*_flat(recording.results), *recording.states]
        if len(before) != len(after):
            raise NumericDifference(f"{len(before)} results became {len(after)}")
        worst = 0.0
        for a, b in zip(before, after, strict=True):
            if a.shape != b.shape:
                raise NumericDifference(f"a result of shape {a.shape} became {b.shape}")
            if not _agrees(a, b, equivalence, self.longest_sum):
                raise NumericDifference(self._blame(recording))
            with np.errstate(invalid="ignore"):
                worst = max(worst, float(np.nanmax(np.abs(a - b), initial=0.0)))
        return worst

    def _blame(self, recording: Recording) -> str:
        """The first op whose value differs: in the order of the new program."""
        for key, (step, value) in recording.values.items():
            held = self.held.values.get(key)
            if held is None or not isinstance(value, np.ndarray):
                continue
            before = held[1]
            if not isinstance(before, np.ndarray) or before.shape != value.shape:
                continue
            if not np.array_equal(before, value, equal_nan=value.dtype.kind == "f"):
                difference = np.nanmax(np.abs(before.astype(np.float64) - value))
                layer = "" if key[1] is None else f" of layer {key[1]}"
                named = f" ({step.name})" if step.name else ""
                return (
                    f"{step.source}: {step.op.name}{named}{layer} is the first op that differs, "
                    f"by {difference:.3g} in call {key[3]}"
                )
        return "results differ, but no op that both programs have"


def _agrees(a: NDArray[Any], b: NDArray[Any], equivalence: str, longest_sum: int) -> bool:
    if equivalence == "convert":
        return True
    if equivalence == "exact" or a.dtype.kind != "f":
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    scale = float(np.nanmax(np.abs(a), initial=0.0))
    far = ~(np.abs(a - b) <= 2 * longest_sum * UNIT * scale)
    far &= ~(np.isnan(a) & np.isnan(b))
    if equivalence == "reassociate":
        return not far.any()
    within = np.abs(a - b) <= STEP * np.maximum(np.abs(a), np.abs(b))
    return bool(far.mean() <= REQUANTIZED_SHARE and within[far].all())


def _flat(results: Sequence[dict[str, Any]]) -> list[NDArray[Any]]:
    return [np.asarray(value) for call in results for value in call.values()]


def _longest_sum(module: ModuleOp) -> int:
    """Terms of the longest sum of the module, times the layers that pass errors on."""
    longest, layers = 1, 1
    for op in module.walk():
        if isinstance(op, graph.Linear | graph.GroupedLinear):
            longest = max(longest, op.operands[1].type.get_shape()[-1])  # type: ignore[attr-defined]
        if isinstance(op, graph.Layers):
            layers = max(layers, len(op.kinds))
    return int(longest * layers)


# ---- seeded inputs -----------------------------------------------------------------------------


class SeededWeights:
    """Weights that depend on their names and the seed alone, at sizes that keep values moderate."""

    def __init__(self, plan: ModulePlan, module: ModuleOp, seed: int) -> None:
        self.deployed = plan.numerics == "deployed"
        self.seed = seed
        self.experts = min(
            (op.experts.value.data for op in module.walk() if isinstance(op, graph.Dispatch)),
            default=1,
        )
        self.vocabulary = min(
            (op.table.type.get_shape()[0] for op in module.walk() if isinstance(op, graph.Gather)),  # type: ignore[attr-defined]
            default=2,
        )
        self._held: dict[tuple[str, int | None], Any] = {}

    def get(self, use: WeightUse, layer: int | None) -> Any:
        key = (use.pattern, layer if use.is_layered else None)
        if key not in self._held:
            self._held[key] = self._make(use, key)
        return self._held[key]

    def _make(self, use: WeightUse, key: tuple[str, int | None]) -> Any:
        generator = np.random.default_rng([self.seed, zlib.crc32(repr(key).encode())])
        shape = use.kind.get_shape()
        if "{e}" in use.pattern:
            return [self._one(generator, shape[1:], use) for _ in range(shape[0])]
        return self._one(generator, shape, use)

    def _one(self, generator: np.random.Generator, shape: Sequence[int], use: WeightUse) -> Any:
        element = ELEMENT_NAMES[use.kind.element_type]
        if element.startswith("i"):
            rows = [generator.permutation(self.experts)[: shape[-1]] for _ in range(shape[0])]
            return np.array(rows, np.int64)
        if len(shape) == 1:
            values = 1 + 0.2 * generator.standard_normal(shape, np.float32)
        else:
            values = generator.standard_normal(shape, np.float32) * shape[-1] ** -0.5 * 1.2
        values = values.astype(np.float32)
        if not self.deployed:
            return values
        if use.kind.element_type in SCALED_ELEMENTS:
            form = declared_format(use)
            assert form.block is not None
            held = quantize_blocks(values.reshape(-1, shape[-1]), form.element, form.block)
            return held if len(shape) == 2 else held.dequantize().reshape(shape)
        return round_bf16(values) if element == "bf16" else values


def _sizes(plan: ModulePlan, entry: str) -> tuple[int, int]:
    """Batch and context: those that the entry is specialised to, else ours."""
    batch, context = len(CALLS[0]), CONTEXT
    for argument in plan.functions[entry].arguments:
        if argument.name == "length" and isinstance(argument.kind, TensorType):
            held = argument.kind.get_shape()[0]
            batch = batch if held == DYNAMIC else held
        state = argument.state
        if state is None or state.kind.data != "blocks":
            continue
        assert isinstance(argument.kind, TensorType)
        capacity = argument.kind.get_shape()[-_row_rank(argument.kind) - 1]
        if capacity != DYNAMIC:
            context = min(context, capacity * state.sizes[0])
    return batch, context


def _row_rank(kind: TensorType[Any]) -> int:
    return max(1, len(kind.get_shape()) - 3)


def _calls(plan: ModulePlan, entry: str) -> list[list[int]]:
    """New tokens of each sequence, call by call, within what the entry is specialised to."""
    batch, context = _sizes(plan, entry)
    tokens = DYNAMIC
    for argument in plan.functions[entry].arguments:
        if argument.name == "sequence" and isinstance(argument.kind, TensorType):
            tokens = argument.kind.get_shape()[0]
    if tokens != DYNAMIC:
        share, rest = divmod(tokens, batch)
        counts = [share + (b < rest) for b in range(batch)]
        return [counts] * max(1, min(4, context // max(counts)))
    calls = [[counts[b % len(counts)] for b in range(batch)] for counts in CALLS]
    total = np.cumsum(calls, axis=0).max(axis=1)
    return [call for call, needed in zip(calls, total, strict=True) if needed <= context]


def _inputs(session: Session, tokens: int, vocabulary: int, seed: int) -> dict[str, Any]:
    """Token ids, and for an entry that takes more, moderate numbers."""
    generator = np.random.default_rng(seed)
    inputs: dict[str, Any] = {}
    for argument in session.plan.arguments:
        if argument.name not in session.inputs:
            continue
        assert isinstance(argument.kind, TensorType)
        shape = [tokens, *argument.kind.get_shape()[1:]]
        if argument.name == "ids":
            inputs[argument.name] = generator.integers(0, vocabulary, tokens)
        else:
            inputs[argument.name] = round_bf16(generator.standard_normal(shape, np.float32))
    return inputs
