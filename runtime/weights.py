"""The weights that a plan reads, from a checkpoint, in the form that its numerics need.

Reference numerics multiply plain float32, so scaled weights are dequantised once. Deployed numerics
keep codes with scales, and bring a wider checkpoint to the declared format first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from supertile.ir.types import ELEMENT_NAMES, MxAttr
from supertile.runtime.checkpoint import Checkpoint, Format
from supertile.runtime.execute import ROUNDING
from supertile.runtime.numerics import Scaled, quantize_blocks
from supertile.runtime.plan import ModulePlan, WeightUse


class Weights:
    """Weights by name and layer, read at first use and kept."""

    def __init__(self, checkpoint: Checkpoint, plan: ModulePlan, entries: list[str]) -> None:
        self.checkpoint = checkpoint
        self.deployed = plan.numerics == "deployed"
        self._held: dict[tuple[str, int], Any] = {}
        checkpoint.check(self._required(plan, entries))

    def _required(
        self, plan: ModulePlan, entries: list[str]
    ) -> list[tuple[str, tuple[int, ...], Format]]:
        """Every tensor that the entries read, once, in the order of their first use."""
        uses = [pair for entry in entries for pair in plan.weights_of(entry)]
        required = [
            (name, shape, declared_format(use))
            for use, layers in uses
            for shape, count in [_one_expert(use)]
            for name in _names(use, layers, count)
        ]
        return list(dict.fromkeys(required))

    def get(self, use: WeightUse, layer: int | None) -> Any:
        """An array, a `Scaled`, or a list of them, one for each expert."""
        key = (use.key, layer or 0) if use.is_layered else (use.key, 0)
        if key not in self._held:
            self._held[key] = self._read(use, layer or 0)
        return self._held[key]

    def _read(self, use: WeightUse, layer: int) -> Any:
        shape, count = _one_expert(use)
        form = declared_format(use)
        read = [
            self._prepared(self.checkpoint.tensor(name, shape, form), shape, form)
            for name in _names(use, [layer], count)
        ]
        return read if count else read[0]

    def _prepared(self, held: Any, shape: tuple[int, ...], form: Format) -> Any:
        if self.deployed:
            held = _narrowed(held, form)
        # Only products of matrices are taken on codes.
        if isinstance(held, Scaled) and (not self.deployed or len(shape) != 2):
            return np.ascontiguousarray(held.dequantize()).reshape(shape)
        return held


def _narrowed(held: Any, form: Format) -> Any:
    """The declared format of a tensor from a checkpoint that may hold a wider one."""
    if form.element in ("bf16", "f16"):
        return ROUNDING[form.element](held)
    if form.block is None or (isinstance(held, Scaled) and held.element == form.element):
        return held
    plain = held.dequantize() if isinstance(held, Scaled) else held
    return quantize_blocks(plain.reshape(-1, plain.shape[-1]), form.element, form.block)


def declared_format(use: WeightUse) -> Format:
    encoding = use.kind.encoding
    element = ELEMENT_NAMES[use.kind.element_type]
    if not isinstance(encoding, MxAttr):
        return Format(element)
    return Format(element, encoding.sizes[-2:])


def _one_expert(use: WeightUse) -> tuple[tuple[int, ...], int]:
    """The shape of one stored tensor, and how many are stacked (0: none)."""
    shape = use.kind.get_shape()
    if "{e}" not in use.pattern:
        return tuple(shape), 0
    return tuple(shape[1:]), shape[0]


def _names(use: WeightUse, layers: list[int], experts: int) -> list[str]:
    held = layers if use.is_layered else [0]
    by_layer = [use.pattern.replace("{l}", str(layer)) for layer in held]
    if not experts:
        return by_layer
    return [name.replace("{e}", str(e)) for name in by_layer for e in range(experts)]
