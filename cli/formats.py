"""What a change of number formats costs: bytes of the weights, and the logits of a small config.

    legalize-formats: f8e4m3, f4e2m1 -> i8; weights 864.7 GB -> 1,603.2 GB; logits of the seeded
    small config differ by at most 0.865 (relative 0.18), 44 of 185 selections

The logits are compared with equal selections; how many would differ is counted beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import TensorType

from supertile.cli.numerics import small_pass
from supertile.ir import graph
from supertile.ir.types import ELEMENT_NAMES, is_scaled, type_of
from supertile.ir.walk import operations
from supertile.ir.work import bytes_of
from supertile.passes.driver import Options, run_passes
from supertile.passes.legalize_formats import LegalizeFormats
from supertile.passes.pipeline import phase_of
from supertile.runtime.compare import tolerance_of
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.observe import Observer
from supertile.runtime.plan import plan_module
from supertile.runtime.seeded import SeededWeights, calls_of, inputs_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xdsl.dialects.builtin import ModuleOp

    from supertile.passes.rewriting import Pass

LOGITS = "logits"


@dataclass(frozen=True)
class FormatEffect:
    """How far the results of a module and of its converted form are apart."""

    difference: float
    """Largest absolute difference of a logit, selections pinned to those of the module."""
    relative: float
    """That, relative to the largest logit."""
    differing: int
    """Selections that the converted form would make otherwise."""
    selections: int


def format_effect(before: ModuleOp, after: ModuleOp, seed: int = 0) -> FormatEffect:
    """Run a small module and its converted form alike, on seeded weights and ragged calls."""
    weights = SeededWeights(plan_module(before), before, seed)
    first = Observer(plan_module(before), weights.get)
    second = Observer(
        plan_module(after), weights.get, earlier=first, tolerance=tolerance_of("convert", before)
    )
    pairs = list(zip(_logits(first, weights), _logits(second, weights), strict=True))
    difference = max((float(np.abs(a - b).max()) for a, b in pairs), default=0.0)
    largest = max((float(np.abs(a).max()) for a, _ in pairs), default=0.0)
    return FormatEffect(
        difference, difference / largest if largest else 0.0, len(second.ties), _selections(first)
    )


def _logits(executor: Executor, weights: SeededWeights) -> list[NDArray[np.float32]]:
    """The logits of every call of every entry that has any, in order."""
    found = []
    for entry in executor.plan.entries:
        calls = calls_of(executor.plan.functions[entry])
        session = Session(executor, entry, calls.batch, calls.context)
        for number, counts in enumerate(calls.counts):
            inputs = inputs_of(
                session.plan, session.inputs, sum(counts), weights.vocabulary, weights.seed + number
            )
            outputs = session.call(inputs, counts)
            found += [np.array(outputs[LOGITS])] if LOGITS in outputs else []
    return found


def _selections(run: Observer) -> int:
    """How many rows of candidates a run selected from."""
    chosen = (value for value in run.values.values() if isinstance(value.step.op, graph.TopK))
    return sum(value.parts[0][..., 0].size for value in chosen)


def weight_bytes(module: ModuleOp) -> int:
    """Bytes of all weights in the formats that the module holds them in, each tensor once."""
    plan = plan_module(module)
    layers: dict[str, set[int]] = {}
    sizes: dict[str, int] = {}
    for entry in plan.entries:
        for use, numbers in plan.weights_of(entry):
            layers.setdefault(use.text, set()).update(numbers if use.is_layered else [0])
            sizes[use.text] = bytes_of(use.kind, tuple(use.kind.get_shape()))
    return sum(size * len(layers[key]) for key, size in sizes.items())


def effect_lines(passes: Sequence[Pass], module: ModuleOp, small: ModuleOp) -> Iterator[str]:
    """A line for each pass legalize-formats that changes the module; both modules stay as they are.

    `passes` are those of the pipeline; `small` is the module of a config that can be executed.
    """
    for place, one in enumerate(passes):
        if not isinstance(one, LegalizeFormats):
            continue
        # What is placed on ranks runs on all of them; formats are the same on each.
        earlier = [each for each in passes[:place] if _is_before_ranks(each)]
        full = _before_and_after(module, earlier, one)
        names = [name for name in _codes(full[0]) if name not in _codes(full[1])]
        if names:
            shrunk = [small_pass(each) for each in earlier]
            effect = format_effect(*_before_and_after(small, shrunk, one))
            yield _line(one, names, [weight_bytes(each) for each in full], effect)


def _is_before_ranks(one: Pass) -> bool:
    return phase_of(one.name) == "graph" or isinstance(one, LegalizeFormats)


def _before_and_after(
    module: ModuleOp, earlier: Sequence[Pass], one: Pass
) -> tuple[ModuleOp, ModuleOp]:
    """Copies of a module: after the earlier passes, and after one more."""
    before = module.clone()
    run_passes(before, earlier, Options(verify=False))
    after = before.clone()
    run_passes(after, [one], Options(verify=False))
    return before, after


def _codes(module: ModuleOp) -> list[str]:
    """The formats with scales that a module holds, in the order of `ELEMENT_NAMES`."""
    held = {
        type_of(value).element_type
        for function in module.ops
        for op in operations(function)
        for value in op.results
        if isinstance(value.type, TensorType) and is_scaled(type_of(value))
    }
    return [name for element, name in ELEMENT_NAMES.items() if element in held]


def _line(
    one: LegalizeFormats, names: Sequence[str], sizes: Sequence[int], effect: FormatEffect
) -> str:
    before, after = (f"{size / 1e9:,.1f} GB" for size in sizes)
    return (
        f"{one.name}: {', '.join(names)} -> {one.to}; weights {before} -> {after}; logits of the "
        f"seeded small config differ by at most {effect.difference:.3g} (relative "
        f"{effect.relative:.2g}), {effect.differing:,} of {effect.selections:,} selections"
    )
