"""The sequences of a call in two halves, each with its part of all that layers are given.

A half is like a call with fewer sequences: its tokens number them from 0 on. Parts are views, so
that states, and results whose memory is given, are written within the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from supertile.ir.microbatches import MOST, SEQUENCES, TOKENS
from supertile.runtime.numerics import Scaled
from supertile.runtime.plan import Argument, FunctionPlan, ModulePlan, Step

SEQUENCE = "sequence"
"""The argument that says for each token which sequence it belongs to, ascending."""


class Given(NamedTuple):
    """What layers are given on one rank: `states` are stacks with a row for each layer."""

    carried: list[Any]
    shared: list[Any]
    states: list[Any]


@dataclass(frozen=True)
class Half:
    """A run of sequences, and the run of their tokens."""

    sequences: slice
    tokens: slice

    def part(self, argument: Argument, value: Any, leading: int = 0) -> Any:
        """The half's part of an argument of a layer; a stack of them has `leading` axes before."""
        if argument.name == SEQUENCE:
            return value[self.tokens] - self.sequences.start
        for axis, name in enumerate(argument.axes, leading):
            if name in (TOKENS, SEQUENCES):
                run = self.tokens if name == TOKENS else self.sequences
                return _along(value, (*(slice(None),) * axis, run))
        return value

    def parts(self, arguments: Sequence[Argument], values: Sequence[Any]) -> list[Any]:
        return [self.part(one, value) for one, value in zip(arguments, values, strict=True)]


def halves_of(plan: ModulePlan, step: Step, ranks: Sequence[Given]) -> list[list[Half]]:
    """The halves of each rank's call, the second perhaps empty.

    None at all without micro-batches, or where no rank has more than one sequence.
    """
    if step.properties.get("microbatches", 1) == 1 or not step.properties["kinds"]:
        return []
    function = plan.functions[step.properties["functions"][0]]
    found = [_halves(function, given) for given in ranks]
    split = any(last.sequences.stop > last.sequences.start for _, last in found)
    return found if split else []


def in_halves(
    plan: ModulePlan, step: Step, ranks: Sequence[Given], halves: Sequence[Sequence[Half]]
) -> list[Given]:
    """What each half of each rank is given, the halves of a rank side by side."""
    stacks = _stacks(plan, step)
    function = plan.functions[step.properties["functions"][0]]
    found = []
    for given, own in zip(ranks, halves, strict=True):
        count = len(given.carried)
        arguments = function.arguments
        for half in own:
            states = [
                half.part(stacks[number], stack, leading=1) if number in stacks else stack
                for number, stack in enumerate(given.states)
            ]
            carried = half.parts(arguments[:count], given.carried)
            shared = half.parts(arguments[count : count + len(given.shared)], given.shared)
            found.append(Given(carried, shared, states))
    return found


def _halves(function: FunctionPlan, given: Given) -> list[Half]:
    values = [*given.carried, *given.shared]
    held = list(zip(function.arguments, values, strict=False))
    sequence = next(value for one, value in held if one.name == SEQUENCE)
    count = next(
        value.shape[one.axes.index(SEQUENCES)] for one, value in held if SEQUENCES in one.axes
    )
    middle = -(-count // MOST)
    first = int(sequence.searchsorted(middle))
    return [
        Half(slice(0, middle), slice(0, first)),
        Half(slice(middle, count), slice(first, len(sequence))),
    ]


def _stacks(plan: ModulePlan, step: Step) -> dict[int, Argument]:
    """For each stack that layers use, the argument that takes a row of it."""
    found: dict[int, Argument] = {}
    for name, uses in zip(step.properties["functions"], step.properties["uses"], strict=True):
        found |= dict(zip(uses, plan.functions[name].states, strict=True))
    return found


def _along(value: Any, where: tuple[slice, ...]) -> Any:
    if isinstance(value, Scaled):
        return replace(value, codes=value.codes[where], scales=value.scales[where])
    return value[where]
