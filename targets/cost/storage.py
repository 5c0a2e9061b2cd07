"""What a model keeps in device memory, read off its IR: weights with their layers, and states.

    routed experts    a name with {e}: the first axis counts experts, or slots once placed
    dense             every other weight
    state             an argument with `graph.state`; its axes are named by `graph.sizes`

Formats are those of the IR's types. What the machine does not store counts as what it would be
converted to: INT8 with a scale for each output channel where it stores that, or else BF16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute

from supertile.ir.formula import Formula, symbol
from supertile.ir.types import DYNAMIC, ELEMENT_NAMES
from supertile.ir.work import bytes_of
from supertile.runtime.plan import Argument, ModulePlan
from supertile.targets.machine_types import Machine
from supertile.targets.machine_units import FORMATS

ENTRY_ALIGNMENT = 4  # bytes: 448 + 2 x 64 + 7 scales = 583 is kept as 584
SCALE_BLOCK = 64  # channels of a cached entry that share a scale of one byte

Size = int | Formula


@dataclass(frozen=True)
class StoredWeight:
    """One weight of all the layers that have it."""

    name: str
    """Of the checkpoint, with {l} for the layer and {e} for the expert."""
    layers: int
    size: int
    """Bytes in one layer, of all experts that the type holds."""
    experts: int
    """Experts, or slots, that the type holds; 0: no routed expert."""


@dataclass(frozen=True)
class StoredState:
    """One state of all the layers that have it."""

    name: str
    kind: str
    """ring, blocks or partial"""
    rows: Size
    """Layers x sequences x capacity, over B and S:r."""
    row: int
    """Bytes of one row as the type has it."""
    channels: int
    """Elements of one row, over all heads."""
    heads: int
    """Key-value heads of a row that has an axis for them; else 1."""

    @property
    def is_indexer(self) -> bool:
        return "indexer" in self.name


def stored_weights(
    plan: ModulePlan, entries: Sequence[str], machine: Machine
) -> list[StoredWeight]:
    """The weights that the entries read, each tensor once, in the formats that the machine has."""
    found: dict[tuple[str, tuple[int, ...]], StoredWeight] = {}
    for entry in entries:
        for use, layers in plan.weights_of(entry):
            shape = tuple(use.kind.get_shape())
            experts = shape[0] if "{e}" in use.pattern else 0
            held = StoredWeight(
                use.pattern,
                len(layers) or 1,
                stored_bytes(use.kind, machine),
                experts,
            )
            key = (use.pattern, tuple(layers))
            if key not in found or found[key].size < held.size:  # one tensor in two shapes
                found[key] = held
    return list(found.values())


def stored_states(plan: ModulePlan, entries: Sequence[str]) -> list[StoredState]:
    """The states of the entries, over the symbols of their axes."""
    return [_state(state) for entry in entries for state in plan.functions[entry].states]


def stored_bytes(kind: TensorType[Attribute], machine: Machine) -> int:
    """Bytes of a weight in the machine's memory; integers and scales lie there as they are."""
    shape = tuple(kind.get_shape())
    element = ELEMENT_NAMES[kind.element_type]
    if element not in FORMATS or element in machine.stored_formats:
        return int(bytes_of(kind, shape))
    if "i8" in machine.stored_formats and len(shape) > 1:
        return math.prod(shape) + 4 * math.prod(shape[:-1])
    return 2 * math.prod(shape)


def cached_row(state: StoredState, cache: str, rope_channels: int) -> int:
    """Bytes of one cached entry: as its type has it, or with FP8 for what is not rotated.

    584 bytes of DeepSeek-V4: 448 in FP8, 64 in BF16, a scale for each 64 in FP8, to 4 bytes.
    """
    if cache != "fp8" or state.kind == "partial":
        return state.row
    rotated = rope_channels if state.heads == 1 and not state.is_indexer else 0
    rotated = rotated if rotated < state.channels else 0
    narrow = state.channels - rotated
    size = narrow + 2 * rotated + -(-narrow // SCALE_BLOCK)
    return -(-size // ENTRY_ALIGNMENT) * ENTRY_ALIGNMENT


def _state(argument: Argument) -> StoredState:
    kind = argument.kind
    assert isinstance(kind, TensorType) and argument.state is not None
    shape, axes = kind.get_shape(), argument.axes
    # Layers lead in entries; the capacity follows the sequences, and then a row's own axes.
    after = axes.index("B") + 2
    rows: Size = 1
    for size, name in zip(shape[:after], axes, strict=False):
        rows = rows * (symbol(name) if size == DYNAMIC else size)
    channels = list(shape[after:])
    form = argument.state.kind.data
    has_heads = form != "partial" and len(channels) > 1
    return StoredState(
        argument.name,
        form,
        rows,
        int(bytes_of(kind, (1,) * after + tuple(channels))),
        math.prod(channels),
        channels[0] if has_heads else 1,
    )
