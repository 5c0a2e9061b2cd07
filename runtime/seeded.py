"""What a numeric comparison feeds a module: calls, inputs and weights that follow from a seed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.ir import Operation

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.types import DYNAMIC, ELEMENT_NAMES, is_integer, type_of
from supertile.runtime.numerics import quantize_blocks, round_bf16
from supertile.runtime.plan import FunctionPlan, ModulePlan, WeightUse
from supertile.runtime.weights import declared_format, executed_form, stored_shape

CONTEXT = 48
LIMIT = 200_000_000  # numbers of weights and of state that a comparison may hold
# New tokens of each of two sequences, call by call: prefill, a chunk, one side idle, decode.
CALLS: tuple[tuple[int, int], ...] = ((11, 7), (5, 9), (0, 3), (1, 1))


# ---- calls -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """How an entry is called: the sizes of its state, and the new tokens of each sequence."""

    batch: int
    context: int
    counts: tuple[tuple[int, ...], ...]


def calls_of(entry: FunctionPlan, ranks: int = 1) -> Calls:
    """Calls within the sizes that an entry is specialised to; those left open are ours.

    Fixed sizes are those of each of the ranks; else the few sequences are split over them.
    """
    sizes = dict(_fixed_sizes(entry))
    tokens = sizes.get("T")
    if tokens is not None and ranks > 1:
        one = calls_of(entry)
        return Calls(one.batch * ranks, one.context, tuple(call * ranks for call in one.counts))
    batch = sizes["B"] * ranks if "B" in sizes else len(CALLS[0])
    share, rest = divmod(tokens or 0, batch)
    fixed = tuple(share + (b < rest) for b in range(batch))
    capacities = [
        size * int(axis.removeprefix("S:")) for axis, size in sizes.items() if axis.startswith("S:")
    ]
    context = min(capacities, default=max(CONTEXT, *fixed))
    if tokens is None:
        return Calls(batch, context, tuple(_open_calls(batch, context)))
    if max(fixed) > context:
        raise UserError("command.check_call", tokens=tokens, batch=batch, context=context)
    return Calls(batch, context, (fixed,) * min(4, context // max(fixed)))


def _open_calls(batch: int, context: int) -> Iterator[tuple[int, ...]]:
    used = [0] * batch
    for counts in CALLS:
        call = tuple(min(counts[b % 2], context - used[b]) for b in range(batch))
        used = [held + new for held, new in zip(used, call, strict=True)]
        if any(call):
            yield call


def _fixed_sizes(entry: FunctionPlan) -> Iterator[tuple[str, int]]:
    """The named axes of an entry's arguments that have a fixed size."""
    for argument in entry.arguments:
        if isinstance(argument.kind, TensorType):
            for axis, size in zip(argument.axes, argument.kind.get_shape(), strict=False):
                if size != DYNAMIC:
                    yield axis, size


def inputs_of(
    function: FunctionPlan, names: Sequence[str], tokens: int, vocabulary: int, seed: int
) -> dict[str, Any]:
    """Token ids, and for an entry that takes more, moderate numbers."""
    generator = np.random.default_rng(seed)
    inputs: dict[str, Any] = {}
    for argument in function.arguments:
        if argument.name not in names:
            continue
        assert isinstance(argument.kind, TensorType)
        shape = [tokens, *argument.kind.get_shape()[1:]]
        if is_integer(argument.kind.element_type):
            inputs[argument.name] = generator.integers(0, vocabulary, shape)
        else:
            inputs[argument.name] = round_bf16(generator.standard_normal(shape, np.float32))
    return inputs


# ---- weights -----------------------------------------------------------------------------------


class SeededWeights:
    """Weights that depend on their names and the seed alone, at sizes that keep values moderate."""

    def __init__(self, plan: ModulePlan, module: ModuleOp, seed: int) -> None:
        self.deployed = plan.numerics == "deployed"
        self.seed = seed
        ops = list(module.walk())
        self.experts = min(_expert_counts(ops), default=1)
        tables = [type_of(op.table).get_shape()[0] for op in ops if isinstance(op, graph.Gather)]
        self.vocabulary = min((size for size in tables if size > 0), default=2)
        self._by_name: dict[tuple[str, int | None, Any], Any] = {}
        # The same by the identity of the type, which is quicker; holding it keeps it its own.
        self._by_type: dict[tuple[str, int | None, int, int | None], tuple[Any, Any]] = {}
        _check_size(plan)

    def get(self, use: WeightUse, layer: int | None) -> Any:
        """What `Weights.get` gives for a checkpoint."""
        quick = (use.pattern, layer, id(use.kind), use.rank)
        if quick not in self._by_type:
            name = use.pattern, layer if use.is_layered else None
            key = (*name, use.key(layer))
            if key not in self._by_name:
                made = self._make(use, layer, zlib.crc32(repr(name).encode()))
                self._by_name[key] = made
            self._by_type[quick] = (use.kind, self._by_name[key])
        return self._by_type[quick][1]

    def _make(self, use: WeightUse, layer: int | None, number: int) -> Any:
        generator = np.random.default_rng([self.seed, number])
        experts = use.experts(layer)
        if experts is not None:
            # One after the other, so that an expert is the same on every rank.
            made = [self._one(generator, use) for _ in range(max(experts) + 1)]
            return [made[expert] for expert in experts]
        return self._one(generator, use)

    def _one(self, generator: np.random.Generator, use: WeightUse) -> Any:
        shape = stored_shape(use)
        element = ELEMENT_NAMES[use.declared.element_type]
        if element.startswith("i"):
            width = max(self.experts, shape[-1])
            order = generator.random((prod(shape[:-1]), width)).argsort(-1) % self.experts
            return order[:, : shape[-1]].reshape(shape)
        values = generator.standard_normal(shape, np.float32)
        if len(shape) == 1:
            values = np.float32(1) + np.float32(0.2) * values
        else:
            values *= np.float32(1.2 * shape[-1] ** -0.5)
        held = self._rounded(values, use) if self.deployed else values
        return executed_form(held, use, self.deployed)

    def _rounded(self, values: Any, use: WeightUse) -> Any:
        """The numbers in the format that the model declares."""
        form = declared_format(use)
        if form.block is not None:
            return quantize_blocks(values.reshape(-1, values.shape[-1]), form.element, form.block)
        return round_bf16(values) if form.element == "bf16" else values


def _expert_counts(ops: Sequence[Operation]) -> Iterator[int]:
    for op in ops:
        if isinstance(op, graph.Dispatch):
            yield op.experts.value.data
        if isinstance(op, comm.Dispatch):
            yield op.placement.expert_count


def _check_size(plan: ModulePlan) -> None:
    """Full-size models have more weights than any comparison could hold."""
    total = 0
    for entry in plan.entries:
        for use, layers in plan.weights_of(entry):
            total += prod(use.kind.get_shape()) * max(1, len(layers) if use.is_layered else 1)
    if total > LIMIT:
        raise UserError("command.check_size", found=total, limit=LIMIT)
