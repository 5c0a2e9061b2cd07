"""The values of the symbols in kernels' formulas, for one deployment or for a sweep.

    T           tokens of a rank in one call
    B           sequences of a rank
    arrived     rows that a rank receives from dispatch, with balanced experts, on average
    S:4         entries of 4 tokens each that a token sees of its sequence, on average
    seen128     rows of a ring of 128 and the call's new rows, for each sequence
    share4      tokens of the rank that has the most of a group of 4
    windows4    windows of 4 tokens that end in a call, over all sequences, on average

The names are those of the argument attribute `graph.sizes` and of the shape rules
(`ir.work.function_shapes`). A decode step has one call, a prefill one for each chunk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from supertile.ir.comm_work import ARRIVED
from supertile.ir.formula import Formula
from supertile.ir.tile_work import Block, Extent, KernelWork, Size
from supertile.targets.cost.chance import tail_factor, touched_share
from supertile.targets.cost.values import Value, is_array
from supertile.targets.deploy import Deployment, Model, expert_slots


@dataclass(frozen=True)
class Load:
    """What one rank works on in one call; every field a number or an array of a sweep."""

    sequences: Value
    tokens: Value
    """Of each sequence, in one call."""
    calls: Value
    """Calls that a prompt takes (prefill); 1 while decoding."""
    context: Value
    is_decode: bool

    @property
    def positions(self) -> tuple[Value, Value]:
        """Positions of the tokens of all calls of a sequence: from, up to and without."""
        start = self.context if self.is_decode else 0 * self.context
        return start, start + self.tokens * self.calls


def load_of(
    deployment: Deployment,
    model: Model,
    batch: Value | None = None,
    context: Value | None = None,
) -> Load:
    """The load of a rank; arrays in place of the deployment's batch and context make a sweep.

    Chunks that do not divide the prompt count as equal ones, so that calls x tokens is the prompt.
    """
    sequences = deployment.batch if batch is None else batch
    length = deployment.context if context is None else context
    if deployment.phase == "decode":
        return Load(sequences, 1 + drafted_tokens(deployment, model), 1, length, True)
    chunk = length if deployment.chunk is None else np.minimum(deployment.chunk, length)
    calls = _whole(np.ceil(np.true_divide(length, chunk)))
    return Load(sequences, _whole(np.true_divide(length, calls)), calls, length, False)


def drafted_tokens(deployment: Deployment, model: Model) -> int:
    """Draft tokens that a step verifies: one of each draft layer, if they run at all."""
    if deployment.mtp is None:
        return 0
    return model.size("num_nextn_predict_layers")


def sizes_of(
    deployment: Deployment,
    model: Model,
    names: Iterable[str] = (),
    *,
    batch: Value | None = None,
    context: Value | None = None,
    ranks: Value | None = None,
) -> dict[str, Value]:
    """T, B, arrived and each of `names`.

    Arrays in place of the deployment's batch, context and ep make a sweep.
    """
    load = load_of(deployment, model, batch, context)
    tokens = load.sequences * load.tokens
    values = {"T": tokens, "B": load.sequences}
    values[ARRIVED] = received_rows(deployment, model, tokens, ranks)
    for name in names:
        values[name] = values[name] if name in values else _named(name, load)
    return values


def received_rows(
    deployment: Deployment, model: Model, tokens: Value, ranks: Value | None = None
) -> Value:
    """Rows that a rank's experts get in one call, on average.

    The tp ranks of a group share their tokens, and each sends the rows of its own. With ep = 1 each
    rank holds a slice of every expert and works on all rows of its group. `ranks` in place of ep
    keeps tp and a rank's load.
    """
    rows = tokens * (0 if model.experts is None else model.experts.choices)
    ep = deployment.ep if ranks is None else ranks
    return _whole(np.where(np.greater(ep, 1), np.true_divide(rows, deployment.tp), rows))


def own_tokens(deployment: Deployment, model: Model) -> float:
    """Tokens whose rows a rank sends to experts: its share of those of its group, on average."""
    tokens = float(sizes_of(deployment, model)["T"])
    return tokens / deployment.tp if deployment.ep > 1 else tokens


def imbalance(deployment: Deployment, model: Model, values: dict[str, Value]) -> Value:
    """Rows of the fullest rank over the average, by chance alone (`chance.tail_factor`)."""
    return tail_factor(values[ARRIVED], deployment.ep)


def touched_experts(deployment: Deployment, model: Model, rows: Value) -> Value:
    """The expected share of a rank's experts that get a row; the others' weights are not read."""
    return touched_share(rows, max(expert_slots(deployment, model), default=1))


def names_of(works: Iterable[KernelWork]) -> tuple[str, ...]:
    """The symbols that the kernels' formulas use, sorted."""
    found: set[str] = set()
    for work in works:
        sizes: list[Size | None] = [work.flops, *(size for _, size in (*work.read, *work.written))]
        for phase in work.phases:
            sizes += [size for extent in phase.grid for size in (extent.size, extent.groups)]
            sizes += [size for extent in _extents(phase.block) for size in _both(extent)]
        found.update(name for size in sizes if isinstance(size, Formula) for name in size.names)
    return tuple(sorted(found))


def _extents(block: Block) -> Iterable[Extent]:
    for loop in block.loops:
        yield loop.extent
        yield from _extents(loop.body)


def _both(extent: Extent) -> tuple[Size | None, Size | None]:
    return extent.size, extent.groups


# ---- names ------------------------------------------------------------------------------------


def _entries(ratio: int, load: Load) -> Value:
    """The mean over a sequence's tokens of floor((position + 1) / ratio), in closed form."""
    start, stop = load.positions
    total = _floors_below(stop, ratio) - _floors_below(start, ratio)
    return _whole(np.true_divide(total, stop - start))


def _floors_below(stop: Value, ratio: int) -> Value:
    """The sum over positions p < stop of floor((p + 1) / ratio)."""
    whole = np.floor_divide(stop, ratio)
    return ratio * whole * (whole - 1) / 2 + whole * (stop - whole * ratio + 1)


def _seen(window: int, load: Load) -> Value:
    return window + load.tokens


def _share(ranks: int, load: Load) -> Value:
    return np.ceil(np.true_divide(load.sequences * load.tokens, ranks))


def _windows(ratio: int, load: Load) -> Value:
    """Averaged over steps: one step of `ratio` ends a window, a call of a prompt as many as fit."""
    return load.sequences * load.tokens / ratio


NAMED: tuple[tuple[str, Callable[[int, Load], Value]], ...] = (
    (r"S:(\d+)", _entries),
    (r"seen(\d+)", _seen),
    (r"share(\d+)", _share),
    (r"windows(\d+)", _windows),
)


def _named(name: str, load: Load) -> Value:
    for pattern, rule in NAMED:
        match = re.fullmatch(pattern, name)
        if match:
            return rule(int(match[1]), load)
    raise ValueError(f"no value is known for the size {name}")


def _whole(value: Value) -> Value:
    """A whole scalar as an int, so that formulas stay exact; arrays as they are."""
    if is_array(value):
        return value
    number = float(value)
    return int(number) if number.is_integer() else number
