"""What a model chooses for every token: experts, blocks of the past; and where two runs differ.

A selection is a named value of rows of tokens that `graph.top_k` gives, or that says which experts
a token goes to: `layers.3.ffn.router.chosen`, `layers.2.attn.far.index`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import TensorType

from supertile.ir import comm, graph
from supertile.ir.types import DYNAMIC, type_of
from supertile.runtime.plan import FunctionPlan, ModulePlan, NamedStep, Step

TIE_ULPS = 4
"""A difference is a tie where the reference's margin is below so many float32 ulp of the score."""


@dataclass(frozen=True)
class Selection:
    """One selection of one layer."""

    name: str
    step: Step
    layer: int | None
    is_route: bool
    """Whether it says which experts a token goes to."""

    @property
    def is_scored(self) -> bool:
        """Whether it goes by scores; if not, a table says what is chosen."""
        return isinstance(self.step.op, graph.TopK)

    @property
    def width(self) -> int:
        """How many are chosen at most."""
        return int(type_of(self.step.op.results[0]).get_shape()[-1])

    @property
    def candidates(self) -> int | None:
        """How many there are to choose from; None: that grows with the tokens."""
        return candidates_of(self.step.op) if isinstance(self.step.op, graph.TopK) else None

    @property
    def scores_name(self) -> str:
        """What a reference calls the scores."""
        return f"{self.name}.scores"


def selections(plan: ModulePlan, entry: str) -> Iterator[Selection]:
    """Every selection of an entry, in the order in which a call makes them."""
    for (name, step, layer, _), experts in routed_steps(plan, entry):
        if not step.op.results or not isinstance(step.op.results[0].type, TensorType):
            continue
        shape = type_of(step.op.results[0]).get_shape()
        is_route = experts is not None
        is_choice = is_route or isinstance(step.op, graph.TopK)
        if is_choice and len(shape) == 2 and shape[0] == DYNAMIC:
            yield Selection(name, step, layer, is_route)


def candidates_of(op: graph.TopK) -> int | None:
    """How many there are to choose from; None: that grows with the tokens."""
    size = type_of(op.scores).get_shape()[-1]
    return None if size == DYNAMIC else int(size)


def routed_steps(plan: ModulePlan, entry: str) -> Iterator[tuple[NamedStep, int | None]]:
    """Every step of a call of an entry that makes a named value, in order, and how many experts
    there are where it says which ones tokens go to."""
    routes: dict[str, dict[int, int]] = {}
    for named in plan.named_steps(entry):
        if named.function.name not in routes:
            routes[named.function.name] = _routes_of(named.function)
        yield named, routes[named.function.name].get(id(named.step))


def _routes_of(function: FunctionPlan) -> dict[int, int]:
    """By the id of each step that says which experts tokens go to: how many experts there are."""
    writers: dict[int, Step] = {}
    routes = {}
    for step in function.steps:
        if isinstance(step.op, graph.Dispatch | comm.Dispatch):
            chosen = step.inputs[1]
            if isinstance(chosen, int) and chosen in writers:
                routes[id(writers[chosen])] = _experts(step)
        writers.update(dict.fromkeys(step.outputs, step))
    return routes


def _experts(step: Step) -> int:
    if isinstance(step.op, graph.Dispatch):
        return int(step.properties["experts"])
    assert step.placements is not None, "experts are placed"
    return step.placements.experts


# ---- what can be chosen --------------------------------------------------------------------------


def choosable(count: int) -> str:
    """Which of the first `count` candidates a token can choose, in words."""
    return f"0 to {count - 1}" if count > 0 else "-1: the token sees nothing to choose"


def misplaced(
    chosen: NDArray[Any], count: NDArray[Any], rows: NDArray[np.bool_] | None = None
) -> tuple[int, int] | None:
    """The first row and column of `chosen` [T, k] that is neither -1 nor one of the first
    `count` [T] candidates; only `rows` [T] are looked at."""
    wrong = (chosen < -1) | (chosen >= count[:, None])
    if rows is not None:
        wrong &= rows[:, None]
    for row, column in np.argwhere(wrong)[:1].tolist():
        return row, column
    return None


def miscounted(
    chosen: NDArray[Any], wanted: NDArray[Any] | None, rows: NDArray[np.bool_] | None = None
) -> tuple[int, int, int] | None:
    """The first row of `chosen` [T, k] without `wanted` [T] different candidates (None: without
    k), or with one of them twice; how many it has, and how many it should."""
    ordered = np.sort(chosen)
    fresh = (ordered >= 0) & np.diff(ordered, prepend=-1).astype(np.bool_)
    number = np.count_nonzero(fresh, axis=-1)
    least = np.full(len(chosen), chosen.shape[-1]) if wanted is None else wanted
    wrong = (number != least) | (np.count_nonzero(ordered >= 0, axis=-1) != number)
    if rows is not None:
        wrong &= rows
    for row in np.flatnonzero(wrong)[:1].tolist():
        return row, int(number[row]), int(least[row])
    return None


# ---- where two runs differ -----------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A token for which we choose otherwise than the reference.

    Of what only one side chooses, `ours` and `theirs` are what decides the margin: our pick with
    the smallest and the reference's with the largest score, both by the reference.
    """

    name: str
    is_route: bool
    sequence: int
    token: int
    swapped: int
    """How many of its choices are not ours."""
    ours: int
    theirs: int
    our_scores: tuple[float, float]
    """Our scores of `ours` and of `theirs`."""
    their_scores: tuple[float, float] | None
    """The reference's scores of these two; None if its file has none."""

    @property
    def margin(self) -> float | None:
        """By how much the reference prefers its choice."""
        if self.their_scores is None:
            return None
        ours, theirs = self.their_scores
        return 0.0 if ours == theirs else theirs - ours

    @property
    def ulps(self) -> float | None:
        """The margin in steps between neighbouring float32 numbers at the larger score."""
        margin = self.margin
        if margin is None or self.their_scores is None:
            return None
        largest = max(abs(score) for score in self.their_scores)
        if margin == 0 or not np.isfinite(margin):
            return margin
        return margin / float(np.spacing(np.float32(largest)))

    @property
    def is_tie(self) -> bool:
        """Whether rounding alone could decide: see `TIE_ULPS`. Without scores nobody knows."""
        return self.ulps is not None and self.ulps < TIE_ULPS


def difference(
    selection: Selection,
    place: tuple[int, int],
    chosen: tuple[NDArray[Any], NDArray[Any]],
    scores: tuple[NDArray[Any], NDArray[Any] | None],
) -> Difference:
    """Of one token, at (sequence, token): what we and the reference choose, [k] each, -1 for none,
    as many on both sides, and both sides' scores [N]."""
    ours, theirs = (choice[choice >= 0] for choice in chosen)
    only_ours, only_theirs = np.setdiff1d(ours, theirs), np.setdiff1d(theirs, ours)
    our_scores, their_scores = scores
    deciding = our_scores if their_scores is None else their_scores
    us = int(only_ours[np.argmin(deciding[only_ours])])
    them = int(only_theirs[np.argmax(deciding[only_theirs])])
    return Difference(
        selection.name,
        selection.is_route,
        *place,
        swapped=len(only_theirs),
        ours=us,
        theirs=them,
        our_scores=(float(our_scores[us]), float(our_scores[them])),
        their_scores=None
        if their_scores is None
        else (float(their_scores[us]), float(their_scores[them])),
    )
