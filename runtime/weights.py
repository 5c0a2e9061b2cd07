"""The weights that a plan reads, from a checkpoint, in the form that its numerics need.

Reference numerics multiply plain float32, so scaled weights are dequantised once. Deployed numerics
keep codes with scales, and bring a wider checkpoint to the declared format first. Where a machine
lacks the declared format, what it has instead is made of it here, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from supertile.ir.types import ELEMENT_NAMES, MxAttr
from supertile.runtime.checkpoint import Checkpoint, Format
from supertile.runtime.execute import ROUNDING
from supertile.runtime.numerics import Scaled, quantize_blocks
from supertile.runtime.plan import ModulePlan, WeightUse
from supertile.runtime.surplus import check_surplus


class Weights:
    """Weights by name and layer, read at first use and kept."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: ModulePlan,
        entries: list[str],
        ranks: Sequence[int] | None = None,
        allow_unused: bool = False,
        drafts: int = 0,
    ) -> None:
        """`ranks`: those whose experts the checkpoint must hold; None: all.

        `allow_unused`: it may hold layers and experts that the model has not. `drafts`: layers
        behind the last one that hold drafts, which no entry of the model runs.
        """
        self.checkpoint = checkpoint
        self.ranks = ranks
        self.deployed = plan.numerics == "deployed"
        self._held: dict[tuple[Any, int], Any] = {}
        checkpoint.check(self._required(plan, entries))
        if not allow_unused:
            check_surplus(checkpoint, plan, drafts)

    def _required(
        self, plan: ModulePlan, entries: list[str]
    ) -> list[tuple[str, tuple[int, ...], Format]]:
        """Every tensor that the entries read, once, in the order of their first use."""
        uses = [pair for entry in entries for pair in plan.weights_of(entry)]
        required = [
            (name, shape, declared_format(use))
            for whole, layers in uses
            for use in self._on_ranks(whole)
            for shape in [stored_shape(use)]
            for name in _names(use, layers)
        ]
        return list(dict.fromkeys(required))

    def _on_ranks(self, use: WeightUse) -> list[WeightUse]:
        return [use] if self.ranks is None else [use.on(rank) for rank in self.ranks]

    def get(self, use: WeightUse, layer: int | None) -> Any:
        """An array, a `Scaled`, or a list of them, one for each expert."""
        key = use.key(layer), (layer or 0) if use.is_layered else 0
        if key not in self._held:
            self._held[key] = self._read(use, layer)
        return self._held[key]

    def _read(self, use: WeightUse, layer: int | None) -> Any:
        shape, form = stored_shape(use), declared_format(use)
        read = [
            self._prepared(self.checkpoint.tensor(name, shape, form), use)
            for name in _names(use, [layer or 0])
        ]
        return read[0] if use.experts(layer) is None else read

    def _prepared(self, held: Any, use: WeightUse) -> Any:
        if self.deployed:
            held = _narrowed(held, declared_format(use))
        return executed_form(held, use, self.deployed)


def executed_form(held: Any, use: WeightUse, deployed: bool) -> Any:
    """A tensor in its declared format as the executor takes it: its slice, converted if need be.

    Of experts it is the tensor of one.
    """
    shape = stored_shape(use)
    # Only products of matrices are taken on codes.
    keeps_codes = deployed and len(shape) == 2
    if use.shard is not None:
        held = _sliced(held if keeps_codes else _plain(held).reshape(shape), use)
        shape = tuple(held.shape)
    if use.stored is not None:
        held = _converted(held, shape, use)
    if isinstance(held, Scaled) and not keeps_codes:
        return np.ascontiguousarray(held.dequantize()).reshape(shape)
    return held


def _plain(held: Any) -> Any:
    return held.dequantize() if isinstance(held, Scaled) else held


def _sliced(held: Any, use: WeightUse) -> Any:
    """The part that the rank has, of codes with their scales. ValueError where it cuts a block."""
    assert use.shard is not None
    axis, parts = use.shard.axis - use.is_stacked, use.shard.parts
    if not isinstance(held, Scaled):
        return _part(held, axis, parts, use.part)
    step = held.block[axis - 2]
    if held.shape[axis] % (parts * step):
        raise ValueError(f"{held.shape[axis]} in {parts} parts would cut blocks of {step}")
    codes = _part(held.codes, axis, parts, use.part)
    return replace(held, codes=codes, scales=_part(held.scales, axis, parts, use.part))


def _part(held: Any, axis: int, parts: int, number: int) -> Any:
    """A copy, so that the whole tensor need not stay in memory."""
    return np.split(held, parts, axis)[number].copy()


def _converted(held: Any, shape: tuple[int, ...], use: WeightUse) -> Any:
    """The numbers in the format of `use.kind`; a 32-bit float holds them all as they are."""
    plain = _plain(held)
    encoding, element = use.kind.encoding, ELEMENT_NAMES[use.kind.element_type]
    if isinstance(encoding, MxAttr):
        return quantize_blocks(plain.reshape(-1, shape[-1]), element, encoding.sizes[-2:])
    rounded = ROUNDING[element](plain) if element in ROUNDING else plain
    return np.ascontiguousarray(rounded).reshape(shape)


def _narrowed(held: Any, form: Format) -> Any:
    """The declared format of a tensor from a checkpoint that may hold a wider one."""
    if form.element in ("bf16", "f16"):
        return ROUNDING[form.element](held)
    if form.block is None or (isinstance(held, Scaled) and held.element == form.element):
        return held
    plain = _plain(held)
    return quantize_blocks(plain.reshape(-1, plain.shape[-1]), form.element, form.block)


def declared_format(use: WeightUse) -> Format:
    """The format that the model declares, which the checkpoint holds or one wider."""
    encoding = use.declared.encoding
    element = ELEMENT_NAMES[use.declared.element_type]
    if not isinstance(encoding, MxAttr):
        return Format(element)
    return Format(element, encoding.sizes[-2:])


def stored_shape(use: WeightUse) -> tuple[int, ...]:
    """The shape of one stored tensor."""
    shape = tuple(use.kind.get_shape())
    whole = shape if use.shard is None else use.shard.whole(shape)
    return whole[1:] if use.is_stacked else whole


def _names(use: WeightUse, layers: list[int]) -> list[str]:
    names = []
    for layer in layers if use.is_layered else layers or [0]:
        name = use.pattern.replace("{l}", str(layer))
        experts = use.experts(layer)
        names += [name] if experts is None else [name.replace("{e}", str(e)) for e in experts]
    return list(dict.fromkeys(names))
