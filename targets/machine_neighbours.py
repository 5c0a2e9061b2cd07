"""Which figures of a machine file lie far from those of every shipped machine.

Figures are compared by what they mean: rates by kind of engine, as on 16-bit operands; memories by
their place (main memory, cache, a core's); protocols by name, within the fast network and beyond
it. A CPU is held against the shipped CPU and an accelerator against the accelerators, whichever
fits better.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from supertile.targets.machine import load_machine, machine_names
from supertile.targets.machine_relations import Doubt, written
from supertile.targets.machine_types import Domain, Figure, Machine, Memory
from supertile.targets.machine_units import FORMATS

FAR = 10.0
"""A figure farther than this from all of its kind is told. The shipped ones of a kind are within
90 of each other, so that one off by 1,000 is far from each."""
COUNTED = ("devices", "ports")
"""Machines have any number of these."""
Kind = tuple[str, ...]


class Placed(NamedTuple):
    """A figure by what it is for."""

    kind: Kind
    path: str
    figure: Figure
    value: float
    """In SI units; a rate as on 16-bit operands."""


class Neighbour(NamedTuple):
    """A shipped machine's figure of a kind."""

    machine: str
    figure: Figure
    value: float


def far_figures(machine: Machine) -> list[Doubt]:
    """The figures that are far from those of all shipped machines of the sort that fits best."""
    placed = [*placed_figures(machine)]
    return min(([*_far(placed, shipped)] for shipped in (_shipped(True), _shipped(False))), key=len)


def _far(placed: list[Placed], shipped: Mapping[Kind, list[Neighbour]]) -> Iterator[Doubt]:
    for kind, path, figure, value in placed:
        others = shipped.get(kind) or shipped.get(kind[-1:], [])
        if not others:
            continue
        nearest = min(others, key=lambda other: _times(value, other.value))
        ratio = value / nearest.value
        if not 1 / FAR <= ratio <= FAR:
            stands = written(nearest.figure)
            yield Doubt("neighbours", path, written(figure), nearest.machine, stands, ratio)


def _times(first: float, second: float) -> float:
    """How many times the larger of two figures above 0 is the smaller one."""
    return max(first / second, second / first)


@cache
def _shipped(is_linked: bool) -> Mapping[Kind, list[Neighbour]]:
    """Kind -> what shipped machines have: those of several devices, or of one."""
    by_kind: dict[Kind, list[Neighbour]] = defaultdict(list)
    for name in machine_names():
        machine = load_machine(name)
        if bool(machine.domains) != is_linked:
            continue
        for kind, _, figure, value in placed_figures(machine):
            # Under the last part too, for a kind that no shipped machine has.
            for key in {kind, kind[-1:]}:
                by_kind[key].append(Neighbour(name, figure, value))
    return dict(by_kind)


def placed_figures(machine: Machine) -> Iterator[Placed]:
    """Every known figure but for the counts of devices."""
    for path, figure in machine.figures():
        name = path.rpartition(".")[2]
        if figure.value is not None and name not in COUNTED:
            kind = _kind(machine, path.split("."))
            value = figure.value
            if "rate" in kind:
                value *= FORMATS[name].bits / 16
            yield Placed(kind, path, figure, value)


def _kind(machine: Machine, parts: list[str]) -> Kind:
    match parts:
        case ["engines", name, "rate", _]:
            return ("engine", machine.engines[name].kind, "rate")
        case ["engines", name, figure]:
            return ("engine", machine.engines[name].kind, figure)
        case ["memories", name, figure]:
            return ("memory", _place(machine.memories[name]), figure)
        case ["domains", name, "protocols", protocol, figure]:
            return ("protocol", _reach(machine.domain(name)), protocol, figure)
        case ["domains", _, figure]:
            return ("domain", figure)
        case _:
            return tuple(parts)


def _place(memory: Memory) -> str:
    if memory.per != "device":
        return "core"
    return "cache" if memory.outer else "main"


def _reach(domain: Domain | None) -> str:
    return "beyond" if domain is None or domain.name == "scale_out" else "inside"
