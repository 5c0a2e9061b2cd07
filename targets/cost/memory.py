"""The bytes of one device's memory by purpose, whether they fit, and what would fit.

    weights                   as the module has them on a rank; experts: as many as there are slots
    main cache                states of kind blocks, but the indexer's
    indexer cache             states of kind blocks whose name has "indexer"
    window and partial state  states of kind ring and partial
    activations, buffers      as the caller counts them

The device is the one with the most slots. What the ranks of a group have slices of is cut in the
module, by `shard-attention`; the rest each of them holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from supertile.ir.errors import UserError
from supertile.ir.formula import Formula
from supertile.targets.cost.sizes import drafted_tokens
from supertile.targets.cost.storage import StoredState, StoredWeight, cached_row
from supertile.targets.cost.values import number_text
from supertile.targets.deploy import COUNT_LIMIT, Deployment, Model, expert_slots
from supertile.targets.machine_types import Machine
from supertile.targets.timeline import MemoryUse

PURPOSES = (
    *("dense weights", "expert weights", "main cache", "indexer cache"),
    *("window and partial state", "activations", "communication buffers"),
)


def memory_use(
    weights: Sequence[StoredWeight],
    states: Sequence[StoredState],
    deployment: Deployment,
    model: Model,
    machine: Machine,
    activations: float = 0.0,
    buffers: float = 0.0,
) -> MemoryUse:
    """Bytes by purpose on the fullest device.

    Raises `machine.unknown_figure` if the machine's memory has no known capacity.
    """
    parts = dict.fromkeys(PURPOSES, 0.0)
    for weight in weights:
        purpose = "expert weights" if weight.experts else "dense weights"
        parts[purpose] += weight.layers * _weight_bytes(weight, deployment, model)
    sizes = state_sizes(states, deployment, model)
    for state in states:
        parts[_purpose(state)] += _state_bytes(state, deployment, model, sizes)
    parts["activations"] += activations
    parts["communication buffers"] += buffers
    return MemoryUse(tuple(parts.items()), usable_memory(machine))


def usable_memory(machine: Machine) -> float:
    """Bytes that a program may take of a device's main memory."""
    memory = machine.main_memory
    figure = f"memories.{memory.name}.{memory.size_figure}"
    return machine.need(figure, "whether the deployment fits")


def state_sizes(
    states: Sequence[StoredState], deployment: Deployment, model: Model
) -> dict[str, int]:
    """B, and the capacities that the states need once a step or a prompt is over."""
    tokens = deployment.context
    if deployment.phase == "decode":
        tokens += 1 + drafted_tokens(deployment, model)
    sizes = {"B": deployment.batch}
    rows = [state.rows for state in states if isinstance(state.rows, Formula)]
    for name in sorted({name for size in rows for name in size.names} - {"B"}):
        match = re.fullmatch(r"S:(\d+)", name)
        if match is None:
            raise ValueError(f"no capacity is known for the axis {name} of a state")
        sizes[name] = -(-tokens // int(match[1]))
    return sizes


def _weight_bytes(weight: StoredWeight, deployment: Deployment, model: Model) -> float:
    """Bytes of one layer."""
    if not weight.experts:
        return float(weight.size)
    slots = max(expert_slots(deployment, model), default=weight.experts)
    return weight.size / weight.experts * slots


def _state_bytes(
    state: StoredState, deployment: Deployment, model: Model, sizes: Mapping[str, int]
) -> float:
    rows = state.rows.evaluate(sizes) if isinstance(state.rows, Formula) else state.rows
    row = cached_row(state, deployment.cache, model.size("qk_rope_head_dim"))
    return float(rows * row)


def _purpose(state: StoredState) -> str:
    if state.kind != "blocks":
        return "window and partial state"
    return "indexer cache" if state.is_indexer else "main cache"


# ---- what fits --------------------------------------------------------------------------------


MOST = 2**53
"""Above it sizes are no whole floats, and no memory is that large."""
Use = Callable[[Deployment], MemoryUse]


@dataclass(frozen=True)
class Fit:
    """The most that fits, everything else being as it is; 0 where nothing does."""

    batch: int
    """Sequences of a rank, at the deployment's context, whatever batch it asks for."""
    context: int
    """Tokens of a sequence, at the deployment's batch; at most the model's positions."""


def what_fits(use: Use, deployment: Deployment, model: Model, least: Use | None = None) -> Fit:
    """The largest batch and the largest context that fit.

    `least` grows with both and is never above `use`, which may shrink where another route of the
    experts' rows needs less; without it `use` itself grows.
    """

    def holds(memory: Use, key: str) -> Callable[[int], bool]:
        return lambda size: memory(_resized(deployment, key, size)).fits

    def largest(key: str, limit: int) -> int:
        return _largest(holds(use, key), holds(least or use, key), limit)

    return Fit(largest("batch", MOST), largest("context", positions_of(model) or MOST))


def positions_of(model: Model) -> int:
    """The longest sequence that the model is made for; 0 if its configuration does not say."""
    return model.size("max_position_embeddings")


def fit_text(fit: Fit, deployment: Deployment, model: Model) -> str:
    """One sentence: the most that fits."""
    text = _would_fit(fit, deployment, model)
    return f"{text[0].upper()}{text[1:]}."


def check_fits(
    use: MemoryUse, fit: Fit, deployment: Deployment, model: Model, machine: Machine
) -> None:
    """Raise `cost.memory` unless everything fits."""
    if use.fits:
        return
    parts = ", ".join(f"{name} {number_text(size, 'B')}" for name, size in use.parts if size)
    raise UserError(
        "cost.memory",
        unit=machine.device_unit,
        machine=machine.name,
        capacity=number_text(use.capacity, "B"),
        found=f"{number_text(use.total, 'B')}: {parts}",
        hint=_would_fit(fit, deployment, model),
    )


def _would_fit(fit: Fit, deployment: Deployment, model: Model) -> str:
    options = []
    if fit.batch:
        options.append(f"batch={fit.batch}{_beyond(fit.batch)} at context={deployment.context}")
    if fit.context:
        whole = " (all positions of the model)" if fit.context == positions_of(model) else ""
        reached = f"context={fit.context}{whole or _beyond(fit.context)}"
        options.append(f"{reached} at batch={deployment.batch}")
    if not options:
        return "no batch and no context fits: take more ranks"
    return f"at most {' or '.join(options)} fits"


def _beyond(size: int) -> str:
    """What is told of a size that no deployment text can ask for."""
    return f" (a deployment names at most {COUNT_LIMIT})" if size > COUNT_LIMIT else ""


def _resized(deployment: Deployment, key: str, size: int) -> Deployment:
    if key == "batch":
        return replace(deployment, batch=size)
    chunk = deployment.chunk if deployment.chunk is None else min(deployment.chunk, size)
    return replace(deployment, context=size, chunk=chunk)


def _largest(holds: Callable[[int], bool], may: Callable[[int], bool], limit: int) -> int:
    """The largest size up to the limit that holds; 0 if not even 1 does.

    `may` is true of all sizes up to some, and of every size that holds. Below that size steps grow
    until one holds, and between it and the one above the last that does is looked for.
    """
    high, step = _last(may, limit) + 1, 1
    while high > step and not holds(high - step):
        high, step = high - step, 2 * step
    low = max(0, high - step)  # holds, as nothing at all does; high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _last(holds: Callable[[int], bool], limit: int) -> int:
    """The last size of those from 1 to the limit that hold; what is beyond one that does not, does
    not."""
    if not holds(1):
        return 0
    low, high = 1, 2
    while high <= limit and holds(high):
        low, high = high, 2 * high
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
