"""When a difference is a tie: the reference's margin is below 4 steps of float32 at its score."""

import math

import numpy as np
import pytest
from small_models import Array, planned

from supertile.runtime.selections import Difference, Selection, difference, selections

F = "tensor<?x4xf32>"
NAMED = f"""
  func.func @f(%s: {F}) -> tensor<?x2xi32> {{
    %a = graph.top_k %s {{k = 2}} : ({F}) -> tensor<?x2xi32>
    %c = graph.top_k %s {{k = 2}} : ({F}) -> tensor<?x2xi32> loc("chosen"("m.st":8:3))
    func.return %c : tensor<?x2xi32>
  }}
"""


def chosen() -> Selection:
    (only,) = selections(planned(NAMED), "f")
    return only


def compared(ours: list[int], theirs: list[int], scores: Array, reference: Array | None):  # type: ignore[no-untyped-def]
    return difference(chosen(), (0, 5), (np.array(ours), np.array(theirs)), (scores, reference))


def steps(count: int, start: float = 1.0) -> np.float32:
    """The float32 number so many steps above."""
    number = np.float32(start)
    for _ in range(count):
        number = np.nextafter(number, np.float32(np.inf))
    return number


def test_what_has_a_name_is_a_selection() -> None:
    selection = chosen()
    assert (selection.name, selection.width, selection.candidates) == ("chosen", 2, 4)
    assert selection.is_scored and not selection.is_route
    assert selection.scores_name == "chosen.scores"


@pytest.mark.parametrize(("apart", "is_tie"), [(0, True), (1, True), (3, True), (4, False)])
@pytest.mark.parametrize("start", [1.0, 1000.0, 3e-20])
def test_four_steps_are_no_tie(apart: int, is_tie: bool, start: float) -> None:
    reference = np.array([9e9, start, steps(apart, start), -1], np.float32)
    result = compared([0, 1], [0, 2], np.zeros(4), reference)
    assert result.ulps == pytest.approx(apart)
    assert result.is_tie is is_tie


@pytest.mark.parametrize(
    ("ours", "theirs", "is_tie"),
    [
        (0.0, 0.0, True),
        (-0.0, 0.0, True),
        (0.0, 1e-9, False),  # a step at 1e-9 is 1e-16
        (-1.0, steps(2, 1.0), False),  # the sign tells them apart, not the size
        (-math.inf, -math.inf, True),
        (-math.inf, 0.0, False),
        (1.0, math.inf, False),
    ],
)
def test_zeros_signs_and_infinities(ours: float, theirs: float, is_tie: bool) -> None:
    reference = np.array([9e9, ours, theirs, -math.inf])
    assert compared([0, 1], [0, 2], np.zeros(4), reference).is_tie is is_tie


def test_without_scores_there_is_no_margin() -> None:
    result = compared([0, 1], [0, 2], np.zeros(4), None)
    assert (result.margin, result.ulps, result.is_tie) == (None, None, False)


def test_the_pair_that_is_farthest_apart_decides() -> None:
    reference = np.array([0.0, 0.0, 5.0, 0.0], np.float32)
    result = compared([0, 1], [2, 3], np.array([7.0, 6.0, 1.0, 0.0]), reference)
    assert (result.ours, result.theirs, result.swapped) == (0, 2, 2)
    assert (result.our_scores, result.their_scores) == ((7, 1), (0, 5))
    assert not result.is_tie


def test_padding_is_no_choice() -> None:
    result = compared([1, -1], [-1, 2], np.zeros(4), np.zeros(4))
    assert isinstance(result, Difference)
    assert (result.ours, result.theirs, result.swapped) == (1, 2, 1)
