"""What pinned choices may be: numbers of experts, blocks and places that a token could choose.

A value of integers that says where to look has a rule, read from the op that makes it in the graph.
A pin that breaks it would let a token see what comes after it, or what is nowhere, and nothing in
the logits would tell.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import SSAValue

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.runtime.plan import ModulePlan
from supertile.runtime.selections import (
    candidates_of,
    choosable,
    miscounted,
    misplaced,
    routed_steps,
)

Array = NDArray[Any]


class Kind(Enum):
    """What the numbers of a value are."""

    CHOICES = "choices"  # of the first candidates, as many different ones as there are to choose
    TABLE = "table"  # experts that a table of the checkpoint fixes
    COUNT = "count"  # how many blocks a token sees
    PLACES = "places"  # of what a window shows


@dataclass(frozen=True)
class Rule:
    """What the numbers of one value may be."""

    kind: Kind
    candidates: int | None = None
    """How many there are to choose from; None: those that `ratio` gives, or unknown."""
    ratio: int | None = None
    """A token may choose from the blocks of so many tokens that it completes."""

    def check(self, name: str, pin: Array, computed: Array, places: tuple[Array, Array]) -> None:
        """Raise for the first row of `pin` [T, ..] that a token could not have; rows that were
        `computed` [T, ..] are right. `places`: the sequence and position of each.
        """
        if not pin.size:
            return
        width = pin.shape[-1] if pin.ndim > 1 else 1
        sequence, position = (
            np.repeat(numbers, pin.size // width // len(pin)) for numbers in places
        )
        shape = len(sequence), width
        rows = _Rows(name, pin.reshape(shape), computed.reshape(shape), sequence, position)
        match self.kind:
            case Kind.COUNT:
                rows.check_counts()
            case Kind.PLACES:
                rows.check_places()
            case Kind.TABLE | Kind.CHOICES:
                rows.check_choices(self._limits(rows), self.ratio is not None, self.kind)

    def _limits(self, rows: _Rows) -> Array:
        """How many candidates each token has: [T]."""
        if self.candidates is not None:
            return np.full(len(rows.pin), self.candidates)
        if self.ratio is not None:
            return (rows.position + 1) // self.ratio
        # Where fewer were chosen than fit, they were all; else no token sees more than tokens.
        chosen = np.count_nonzero(rows.computed >= 0, axis=-1)
        return np.where(chosen < rows.pin.shape[1], chosen, rows.position + 1)


@dataclass(frozen=True)
class _Rows:
    """The pinned and the computed rows of a value, [T, k] each, and whose they are, [T] each."""

    name: str
    pin: Array
    computed: Array
    sequence: Array
    position: Array

    def check_choices(self, limits: Array, is_causal: bool, kind: Kind) -> None:
        differ = (np.sort(self.pin) != np.sort(self.computed)).any(-1)
        beyond = misplaced(self.pin, limits, differ)
        if beyond is not None:
            row, column = beyond
            code = "run.pin_not_causal" if is_causal else "run.pin_range"
            raise self._error(code, row, column, choosable(int(limits[row])))
        least = np.minimum(limits, self.pin.shape[1]) if kind is Kind.CHOICES else None
        wrong = miscounted(self.pin, least, differ)
        if wrong is not None:
            row, distinct, number = wrong
            found = f"{distinct} different ones, {self.pin[row].tolist()[:16]}"
            raise self._told("run.pin_count", row, wanted=number, found=found)

    def check_counts(self) -> None:
        wrong = np.argwhere((self.pin < 0) | (self.pin > self.computed))
        for row, column in wrong[:1].tolist():
            wanted = f"0 to {int(self.computed[row, column])}"
            raise self._error("run.pin_not_causal", row, column, wanted)

    def check_places(self) -> None:
        for row in np.flatnonzero((self.pin != self.computed).any(-1)).tolist():
            strange = ~np.isin(self.pin[row], [-1, *self.computed[row].tolist()])
            for column in np.flatnonzero(strange)[:1].tolist():
                wanted = f"-1, or of {np.unique(self.computed[row]).tolist()[:16]}"
                raise self._error("run.pin_not_causal", row, column, wanted)

    def _error(self, code: str, row: int, column: int, wanted: str) -> UserError:
        return self._told(code, row, wanted=wanted, found=int(self.pin[row, column]))

    def _told(self, code: str, row: int, **texts: Any) -> UserError:
        token, sequence = int(self.position[row]), int(self.sequence[row])
        return UserError(code, name=self.name, token=token, sequence=sequence, **texts)


def pin_rules(plan: ModulePlan, entries: Iterable[str]) -> dict[str, Rule]:
    """The rule of every named value of a module of the graph level that has one, by name."""
    rules: dict[str, Rule] = {}
    for entry in entries:
        for (name, step, *_), experts in routed_steps(plan, entry):
            match step.op:
                case graph.TopK():
                    rules[name] = _choices(step.op)
                case graph.VisibleCount():
                    rules[name] = Rule(Kind.COUNT)
                case graph.WindowIndex():
                    rules[name] = Rule(Kind.PLACES)
                case _ if experts is not None:
                    rules[name] = Rule(Kind.TABLE, experts)
    return rules


def _choices(op: graph.TopK) -> Rule:
    if op.count is None:
        return Rule(Kind.CHOICES, candidates_of(op))
    return Rule(Kind.CHOICES, ratio=_ratio(op.count))


def _ratio(count: SSAValue) -> int | None:
    """The tokens of a block, where a count is of the blocks that a token completes."""
    op = count.owner
    return op.ratio.value.data if isinstance(op, graph.VisibleCount) else None


def checked(
    name: str, pin: Array, computed: Array, places: tuple[Array, Array], rule: Rule | None
) -> Array:
    """The pinned rows [T, ..] in the dtype of the `computed` rows whose place they take.

    Raises `run.pin_not_finite`, `.pin_range`, `.pin_not_causal` or `.pin_count`, each with the
    first sequence and token that are wrong.
    """
    if rule is not None:
        rule.check(name, pin, computed, places)
    with np.errstate(over="ignore", invalid="ignore"):  # what does not fit is told below
        rows = pin.astype(computed.dtype)
    _check_numbers(name, pin, rows, computed, places)
    return rows


def _check_numbers(
    name: str, pin: Array, rows: Array, computed: Array, places: tuple[Array, Array]
) -> None:
    """No NaN, no infinity but those that were computed there, no integer that does not fit."""
    if rows.dtype.kind == "f":
        wrong = ~np.isfinite(rows) & ~(rows == computed)
        code = "run.pin_not_finite"
    else:
        wrong, code = rows != pin, "run.pin_range"
    for row, *where in np.argwhere(wrong)[:1].tolist():
        sequence, position = places
        raise UserError(
            code,
            name=name,
            token=int(position[row]),
            sequence=int(sequence[row]),
            wanted=f"numbers of {rows.dtype}",
            found=f"{pin[(row, *where)]}" + (f" at {where}" if where else ""),
        )
