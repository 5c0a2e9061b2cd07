"""Shape rules by hand: what each gives, and what it refuses, at the edges."""

from __future__ import annotations

from typing import Any

import pytest
from xdsl.utils.exceptions import VerifyException

from supertile.ir import comm, graph, shapes
from supertile.ir.formula import symbol
from supertile.ir.shapes import RULES, plus, same, times
from supertile.ir.types import DYNAMIC

T = symbol("T")
ROPE = {"dims": 8}

# op, its properties, shapes of operands -> shapes of results
GOOD: list[tuple[Any, dict[str, Any], list[tuple[Any, ...]], list[tuple[Any, ...]]]] = [
    (graph.Exp, {}, [(T, 3)], [(T, 3)]),
    (graph.Add, {}, [(T, 3), (T, 3)], [(T, 3)]),
    (graph.Add, {}, [(T, 1, 3), (5, 1)], [(T, 5, 3)]),
    (graph.Add, {}, [(), (2, 3)], [(2, 3)]),
    (graph.Reshape, {"shape": (-1, 2, 4)}, [(T, 8)], [(T, 2, 4)]),
    (graph.Reshape, {"shape": (6,)}, [(2, 3)], [(6,)]),
    (graph.Transpose, {"permutation": (1, 0, 2)}, [(2, 3, 4)], [(3, 2, 4)]),
    (graph.Slice, {"axis": 1, "start": 0, "size": 0}, [(T, 3)], [(T, 0)]),
    (graph.Slice, {"axis": 1, "start": 1, "size": 2}, [(T, 3)], [(T, 2)]),
    (graph.Split, {"axis": 1, "sizes": (1, 2)}, [(T, 3)], [(T, 1), (T, 2)]),
    (graph.Concat, {"axis": 1}, [(T, 3), (T, 4)], [(T, 7)]),
    (graph.Linear, {}, [(T, 8), (5, 8)], [(T, 5)]),
    (graph.RmsNorm, {}, [(T, 3)], [(T, 3)]),
    (graph.RmsNorm, {}, [(T, 3), (3,)], [(T, 3)]),
    (graph.Rope, {"rope": ROPE}, [(T, 2, 8), (T,)], [(T, 2, 8)]),
    (graph.Rope, {"rope": ROPE}, [(T, 2, 9), (T,)], [(T, 2, 9)]),
    (graph.Hadamard, {}, [(T, 8)], [(T, 8)]),
    (graph.Hadamard, {}, [(T, 1)], [(T, 1)]),
]
BAD: list[tuple[Any, dict[str, Any], list[tuple[Any, ...]], str]] = [
    (graph.Add, {}, [(2,), (3,)], "sizes differ: 2 and 3"),
    (graph.Reshape, {"shape": (7,)}, [(2, 3)], "element counts differ: 6 and 7"),
    (graph.Reshape, {"shape": (8,)}, [(T, 8)], "takes 0 run-time sizes of 1"),
    (graph.Transpose, {"permutation": (0, 0)}, [(2, 3)], "does not permute 2 axes"),
    (graph.Slice, {"axis": 1, "start": 2, "size": 2}, [(T, 3)], "2 to 4 of an axis of 3"),
    (graph.Slice, {"axis": 1, "start": 0, "size": -1}, [(T, 3)], "0 to -1"),
    (graph.Slice, {"axis": 1, "start": -1, "size": 1}, [(T, 3)], "-1 to 0"),
    (graph.Slice, {"axis": 2, "start": 0, "size": 1}, [(T, 3)], "axis 2 of a tensor with 2 axes"),
    (graph.Slice, {"axis": -1, "start": 0, "size": 1}, [(T, 3)], "axis -1"),
    (graph.Split, {"axis": 1, "sizes": (1, 1)}, [(T, 3)], "the axis and its parts"),
    (graph.Linear, {}, [(T, 8), (5, 9)], "8 and 9"),
    (graph.RmsNorm, {}, [(T, 3), (4,)], "channels of x and gain"),
    (graph.RmsNorm, {}, [(T, 3), (3, 1)], "gain has 1 axes, got 2"),
    (graph.Rope, {"rope": ROPE}, [(T, 8, 7), (T,)], "8 channels turn, x has 7"),
    (graph.Rope, {"rope": ROPE}, [(4, 8), (5,)], "rows of x and position differ: 4 and 5"),
    (graph.Hadamard, {}, [(T, 12)], "a power of two, got 12"),
]


def names(rows: list[Any]) -> list[str]:
    return [f"{row[0].name} {number}" for number, row in enumerate(rows)]


def rule(op: Any) -> shapes.Rule:
    found, _ = RULES[op]
    assert found is not None
    return found


@pytest.mark.parametrize(("op", "properties", "given", "expected"), GOOD, ids=names(GOOD))
def test_shapes_of_results(op: Any, properties: Any, given: Any, expected: Any) -> None:
    assert rule(op)(properties, given, symbol) == expected


@pytest.mark.parametrize(("op", "properties", "given", "message"), BAD, ids=names(BAD))
def test_shapes_that_do_not_fit(op: Any, properties: Any, given: Any, message: str) -> None:
    with pytest.raises(VerifyException, match=message):
        rule(op)(properties, given, symbol)


def test_rows_of_experts() -> None:
    given = [(4, 8), (4, 2), (4, 2)]
    assert rule(graph.Dispatch)({"experts": 5}, given, symbol) == [(8, 8), (8,), (5,), (8,)]
    assert rule(graph.Combine)({"choices": 2}, [(8, 6), (8,)], symbol) == [(4, 6)]
    rows = [("arrived", 6), ("arrived", 2), (T, 3)]
    assert rule(comm.Combine)({}, rows, symbol) == [(T, 6)]


def test_sizes_that_are_not_known_fit_any() -> None:
    assert same(DYNAMIC, 3, "x") == same(3, DYNAMIC, "x") == same(3, 3, "x") == 3
    assert times(2, DYNAMIC) == times(DYNAMIC, 2) == plus(DYNAMIC, 1) == DYNAMIC
    assert times() == 1 and times(2, 3) == 6 and plus(2, 3) == 5
