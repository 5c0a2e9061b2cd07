"""Do two modules compute the same numbers? Runs both on seeded weights and tokens and compares.

What "the same" means is the equivalence class of the pass between them:

exact        bit-equal results and state; where the library's sums differ, in exact arithmetic
reassociate  |a - b| <= 2 K u max|a|, u = 2^-24, K the terms of the longest sum times the layers
             (Higham 2002, section 3.1); and the roundings behind such sums, see `SHARES`
requantize   the same, with more codes that may differ by a step
convert      nothing is asked; the difference is reported

Under all but exact a selection may differ where its scores are within the bound. Such selections
are listed, and the second program goes on with the first one's.

Modules are run for their results alone. Only where these differ are both run again, every value
kept, to find the first op that differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.types import DYNAMIC, type_of
from supertile.runtime.blame import bit_equal, close, distance, first_difference
from supertile.runtime.engine import Session
from supertile.runtime.execute import ExecutionError, Executor
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.observe import (
    Array,
    NumericError,
    Observer,
    Tolerance,
    largest,
)
from supertile.runtime.plan import ModulePlan, plan_module
from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks
from supertile.runtime.seeded import CONTEXT, Calls, SeededWeights, calls_of, inputs_of

UNIT = 2.0**-24
# Share of the values that one op rounds to bfloat16, FP8 or FP4 that may be a step apart.
SHARES = {"reassociate": 0.02, "requantize": 0.1}
EXACTLY = " of exact arithmetic: the library adds in another order"
UNEXPLAINED = "results differ, but no op that both programs have"
LISTED = 20  # ties that are listed one by one
SUMS = (
    graph.Linear,
    graph.GroupedLinear,
    graph.Einsum,
    graph.RmsNorm,
    graph.ReduceSum,
    graph.Softmax,
    graph.Attend,
    graph.Hadamard,
)


@dataclass(frozen=True)
class Run:
    """What the calls of all entries gave: (what it is, numbers) of results and state."""

    calls: Mapping[str, Calls]
    results: list[tuple[str, Array]]


class NumericCheck:
    """Compares a module with its next version, pass after pass; `lines` tell how it went."""

    def __init__(self, module: ModuleOp, seed: int = 0) -> None:
        plan = plan_module(module)
        if not plan.entries:
            raise UserError("command.check_entries")
        self.seed = seed
        self.weights = SeededWeights(plan, module, seed)
        self.lines: list[str] = []
        self.last: tuple[ModuleOp, Run] | None = None
        """The last module that was compared, and what it gave; the next pass starts with both."""

    def compare(self, name: str, equivalence: str, before: ModuleOp, after: ModuleOp) -> None:
        """Raise `NumericError` unless both compute the same by that class."""
        if before.is_structurally_equivalent(after):
            self.lines.append(f"{name}: changes nothing")
            return
        pair = _Pair(self, before, after)
        if equivalence == "exact":
            arithmetic = pair.compare_exactly()
            self.lines.append(f"{name}: exact, bit-equal in {pair.extent()}{arithmetic}")
        else:
            tolerance = tolerance_of(equivalence, before)
            found = pair.compare_within(tolerance)
            self.lines.append(f"{name}: {equivalence}, {found} in {pair.extent()}")
            self.lines += pair.tie_lines()


class _Pair:
    """A module before and after a pass, called alike."""

    def __init__(self, check: NumericCheck, before: ModuleOp, after: ModuleOp) -> None:
        self.check = check
        self.modules = before, after
        self.before, self.after = plan_module(before), plan_module(after)
        if self.before.entries != self.after.entries:
            raise NumericError(f"entries {self.before.entries} became {self.after.entries}")
        # Where experts are on many ranks, the module before the placement runs on as many; where
        # attention is split over those of a group, on one rank for each group.
        self.groups = self.after.groups or self.before.groups
        self.calls = {
            entry: calls_of(self.after.functions[entry], self.groups or 1)
            for entry in self.after.entries
        }
        self.ties: list[str] = []

    def extent(self) -> str:
        """How much was compared."""
        counts = [sum(map(sum, calls.counts)) for calls in self.calls.values()]
        number = sum(len(calls.counts) for calls in self.calls.values())
        return f"{number} calls of {sum(counts)} tokens"

    def compare_exactly(self) -> str:
        """How the sums were added where the library's own order decides: no note, or `EXACTLY`."""
        first = self.known() or self.run_before(_executor(self.before, self.check.weights.get))
        second = self.run(_executor(self.after, self.check.weights.get))
        note = "" if _all_bit_equal(first, second) else self.compare_without_order()
        self.check.last = self.modules[1].clone(), second
        return note

    def compare_without_order(self) -> str:
        """`EXACTLY`, if both modules are bit-equal in exact arithmetic; else a NumericError."""
        # A library may add in another order where an array lies elsewhere: the pass is not to blame
        # if both modules are bit-equal in arithmetic that has no order.
        exactly = [plan_module(module, row_invariant=True) for module in self.modules]
        runs = [self.run(_executor(plan, self.check.weights.get)) for plan in exactly]
        if _all_bit_equal(*runs):
            return EXACTLY
        raise NumericError(self.blame())

    def known(self) -> Run | None:
        """What the module before the pass gave, if it was called alike after the last pass."""
        if self.check.last is None:
            return None
        module, run = self.check.last
        alike = run.calls == self.calls and module.is_structurally_equivalent(self.modules[0])
        return run if alike else None

    def compare_within(self, tolerance: Tolerance) -> str:
        """How large the differences are that the tolerance explains."""
        earlier = self.observer(self.before)
        later = self.observer(self.after, earlier, tolerance)
        first = self.run_before(earlier)
        try:
            second = self.run(later)
        except NumericError as error:
            # A selection that is no tie. What made the scores differ says more, if it is known.
            found = first_difference(earlier.values, later.values, tolerance.bound)
            raise NumericError(found or str(error)) from None
        self.ties = later.ties
        worst = 0.0
        for a, b in _matched(first, second):
            if not close(a, b, tolerance.bound):
                found = first_difference(earlier.values, later.values, tolerance.bound)
                raise NumericError(found or UNEXPLAINED)
            worst = max(worst, largest(distance(a, b)))
        apart = f", {later.steps_apart} rounded values a step apart" if later.steps_apart else ""
        return f"largest difference {worst:.3g}, {len(later.ties)} ties{apart}"

    def tie_lines(self) -> list[str]:
        rest = len(self.ties) - LISTED
        shown = [f"  {tie}" for tie in self.ties[:LISTED]]
        return [*shown, f"  and {rest} more ties"] if rest > 0 else shown

    def blame(self) -> str:
        """Run both again, keeping every value, and tell the first op that differs."""
        earlier, later = self.observer(self.before), self.observer(self.after)
        self.run(earlier)
        self.run(later)
        return first_difference(earlier.values, later.values) or UNEXPLAINED

    def observer(
        self, plan: ModulePlan, earlier: Observer | None = None, tolerance: Tolerance | None = None
    ) -> Observer:
        return Observer(plan, self.check.weights.get, earlier=earlier, tolerance=tolerance)

    def run_before(self, executor: Executor) -> Run:
        """As `run`; what fails here is not the fault of the pass."""
        try:
            return self.run(executor)
        except ExecutionError as error:
            raise NumericError(f"the module fails even before the pass: {error}") from None

    def run(self, executor: Executor) -> Run:
        results: list[tuple[str, Array]] = []
        for entry, calls in self.calls.items():
            session = self.session(executor, entry, calls)
            for number, counts in enumerate(calls.counts):
                vocabulary, seed = self.check.weights.vocabulary, self.check.seed + number
                tokens = sum(counts)
                inputs = inputs_of(session.plan, session.inputs, tokens, vocabulary, seed)
                outputs = session.call(inputs, counts)
                results += [(name, np.asarray(held)) for name, held in outputs.items()]
            results += [("a state", held) for held in session.whole_states()]
        return Run(self.calls, results)

    def session(self, executor: Executor, entry: str, calls: Calls) -> Session:
        if self.groups is None:
            return Session(executor, entry, calls.batch, calls.context)
        ranks = self.groups * executor.plan.group
        lockstep = LockstepExecutor(executor, ranks)
        if isinstance(executor, ScheduledExecutor):
            lockstep = ScheduledRanks(executor, ranks)
        return LockstepSession(lockstep, entry, calls.batch, calls.context)


def _executor(plan: ModulePlan, weights: Callable[..., Any]) -> Executor:
    """Programs count the bytes of a device: here their buffers have memory of their own."""
    return ScheduledExecutor(plan, weights, planned=False)


def tolerance_of(equivalence: str, module: ModuleOp) -> Tolerance:
    """What a class lets differ in a module."""
    if equivalence == "convert":
        return Tolerance(np.inf, 0.0)
    return Tolerance(2 * _terms(module) * UNIT, SHARES[equivalence])


def _terms(module: ModuleOp) -> int:
    """Terms of the longest sum, times the layers that pass its error on."""
    longest, layers = 1, 1
    for op in module.walk():
        if isinstance(op, SUMS):
            shapes = [type_of(value).get_shape() for value in op.operands]
            sizes = [CONTEXT if size == DYNAMIC else size for shape in shapes for size in shape]
            longest = max(longest, *sizes)
        if isinstance(op, graph.Layers):
            layers = max(layers, len(op.kinds))
    return longest * layers


def _all_bit_equal(first: Run, second: Run) -> bool:
    return all(bit_equal(a, b) for a, b in _matched(first, second))


def _matched(first: Run, second: Run) -> list[tuple[Array, Array]]:
    """The results of two runs side by side; raises where there are others."""
    if len(first.results) != len(second.results):
        raise NumericError(f"{len(first.results)} results became {len(second.results)}")
    pairs = []
    for (name, a), (_, b) in zip(first.results, second.results, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            forms = f"{a.dtype} {list(a.shape)} became {b.dtype} {list(b.shape)}"
            raise NumericError(f"{name}: {forms}")
        pairs.append((a, b))
    return pairs
