"""An executor that goes on with what a reference chose, and tells where it would choose otherwise.

Each choice is compared where everything before it was chosen as in the reference, so that every
difference stands for itself: none is the consequence of another. Of a token whose choices are the
same, in whatever order, our own go on: a run without differences has the bits of a free run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.runtime.execute import Executor
from supertile.runtime.plan import Step
from supertile.runtime.reference import Reference
from supertile.runtime.selections import (
    Difference,
    Selection,
    choosable,
    difference,
    miscounted,
    misplaced,
)
from supertile.runtime.trace import Recorder

Array = NDArray[Any]


@dataclass
class Follower(Executor):
    """Pins every selection to the reference; `recorder` knows the tokens of each call."""

    observes: ClassVar[bool] = True

    reference: Reference = field(kw_only=True)
    recorder: Recorder = field(kw_only=True)
    selections: Iterable[Selection] = field(kw_only=True)
    differences: list[Difference] = field(default_factory=list)
    compared: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    """How many tokens' choices were compared, of routes (True) and of other selections."""
    scores_apart: dict[str, float] = field(default_factory=dict)
    """By selection: how far both sides' scores are apart at most, of what a token may see."""

    def __post_init__(self) -> None:
        self._selections = {
            (id(selection.step), selection.layer): selection for selection in self.selections
        }

    def observed(
        self, step: Step, registers: Any, results: list[Any], layer: int | None
    ) -> list[Any]:
        selection = self._selections.get((id(step), layer))
        if selection is None or selection.name not in self.reference.chosen:
            return results
        return [self._followed(selection, registers, results[0]), *results[1:]]

    def _followed(self, selection: Selection, registers: Any, ours: Array) -> Array:
        """Our choices [T, k], where they differ those of the reference."""
        places = self.recorder.places(selection.step)
        assert places is not None, "selections have rows of tokens"
        call = _Call(self.reference, selection, *places)
        self.compared[selection.is_route] += len(ours)
        differs = np.flatnonzero((np.sort(ours) != np.sort(call.chosen)).any(-1))
        if not selection.is_scored:
            call.refuse_other_table(ours, differs)
            return ours
        scores, count = (_register(registers, group) for group in selection.step.inputs)
        count = np.full(len(ours), scores.shape[-1]) if count is None else count
        call.check(count)
        if call.scores is not None:
            apart = max(
                self.scores_apart.get(selection.name, 0.0), call.scores_apart(scores, count)
            )
            self.scores_apart[selection.name] = apart
        result = ours.copy()
        for row in differs.tolist():
            theirs = call.chosen[row]
            place = int(call.sequence[row]), int(call.position[row])
            both = scores[row], None if call.scores is None else call.scores[row]
            self.differences.append(difference(selection, place, (ours[row], theirs), both))
            result[row] = theirs[np.argsort(theirs < 0, kind="stable")]
        return result


def _register(registers: Any, group: Any) -> Any:
    return None if group is None else registers[group]


class _Call:
    """What the reference chose for the tokens of one call."""

    def __init__(
        self, reference: Reference, selection: Selection, sequence: Array, position: Array
    ) -> None:
        self.file = reference.file
        self.name = selection.name
        self.width = selection.width
        self.sequence, self.position = sequence, position
        self.chosen: Array = reference.chosen[self.name][sequence, position]
        """[T, k]"""
        scores = reference.scores.get(self.name)
        self.scores: Array | None = None if scores is None else scores[sequence, position]
        """[T, N']"""

    def check(self, count: Array) -> None:
        """Raise unless each token chooses from its first `count` candidates, as many different
        ones as there are to choose, and those that the reference's own scores say."""
        self._check_range(count)
        self._check_number(np.minimum(count, self.width))
        if self.scores is not None:
            self._check_scores(self.scores, count)

    def refuse_other_table(self, ours: Array, differs: Array) -> None:
        """Raise where the reference goes by another table than the checkpoint's."""
        for row in differs[:1].tolist():
            ours_here, theirs = ours[row].tolist(), self.chosen[row].tolist()
            raise self._error("reference.table", row, wanted=ours_here, found=theirs)

    def scores_apart(self, ours: Array, count: Array) -> float:
        """How far the scores of both sides, [T, N] and [T, N'], are apart at most."""
        assert self.scores is not None
        size = min(ours.shape[-1], self.scores.shape[-1])
        a, b = ours[:, :size], self.scores[:, :size]
        seen = (np.arange(size) < count[:, None]) & np.isfinite(a) & np.isfinite(b)
        apart = np.where(seen, a, 0) - np.where(seen, b, 0)
        return float(np.abs(apart).max(initial=0))

    def _check_range(self, count: Array) -> None:
        wrong = misplaced(self.chosen, count)
        if wrong is not None:
            row, column = wrong
            wanted, chosen = choosable(int(count[row])), int(self.chosen[row, column])
            raise self._error("reference.beyond", row, wanted=wanted, found=chosen)

    def _check_number(self, wanted: Array) -> None:
        wrong = miscounted(self.chosen, wanted)
        if wrong is not None:
            row, distinct, least = wrong
            raise self._error("reference.count", row, wanted=least, found=distinct)

    def _check_scores(self, scores: Array, count: Array) -> None:
        size = scores.shape[-1]
        if len(count) and size < count.max():
            shape = f"[B, S, {int(count.max())} or more]"
            raise UserError(
                "reference.shape",
                file=self.file,
                name=f"{self.name}.scores",
                wanted=shape,
                found=f"[B, S, {size}]",
            )
        if not size:  # no block is complete yet
            return
        seen = np.arange(size) < count[:, None]
        for row in np.flatnonzero((np.isnan(scores) & seen).any(-1))[:1].tolist():
            raise self._error("reference.not_finite", row, ".scores", found="NaN")
        taken = np.zeros((len(scores), size + 1), np.bool_)
        np.put_along_axis(taken, self.chosen, True, axis=-1)  # -1 falls on the last column
        taken = taken[:, :size]
        least = np.where(taken, scores, np.inf)
        best = np.where(seen & ~taken, scores, -np.inf)
        for row in np.flatnonzero(least.min(-1) < best.max(-1))[:1].tolist():
            chosen, better = int(least[row].argmin()), int(best[row].argmax())
            texts = {"chosen_score": scores[row, chosen], "better_score": scores[row, better]}
            raise self._error("reference.order", row, chosen=chosen, better=better, **texts)

    def _error(self, code: str, row: int, part: str = "", **texts: Any) -> UserError:
        texts |= {"token": int(self.position[row]), "sequence": int(self.sequence[row])}
        return UserError(code, file=self.file, name=f"{self.name}{part}", **texts)
