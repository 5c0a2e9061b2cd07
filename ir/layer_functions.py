"""Which layers each function of a module serves, by number."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from supertile.ir import graph


@dataclass(frozen=True)
class LayerNumbers:
    """The layers that a function serves: `first` is number 0 of their `graph.layers`."""

    first: int
    layers: tuple[int, ...]
    """Numbered through all `graph.layers`."""


def layers_of_functions(module: ModuleOp) -> dict[str, LayerNumbers]:
    """The layers of each function of a module; one that serves none comes behind them all."""
    numbers: dict[str, LayerNumbers] = {}
    first = 0
    for op in [op for op in module.walk() if isinstance(op, graph.Layers)]:
        kinds = op.kinds.get_values()
        for kind, symbol in enumerate(op.functions):
            served = tuple(first + number for number, other in enumerate(kinds) if other == kind)
            numbers.setdefault(symbol.root_reference.data, LayerNumbers(first, served))
        first += len(kinds)
    for function in module.ops:
        if isinstance(function, FuncOp):
            numbers.setdefault(function.sym_name.data, LayerNumbers(first, ()))
    return numbers


def main_layers(module: ModuleOp) -> int:
    """How many layers the main model has: those of the first `graph.layers`; 0 without one."""
    first = next((op for op in module.walk() if isinstance(op, graph.Layers)), None)
    return 0 if first is None else len(first.kinds.get_values())
