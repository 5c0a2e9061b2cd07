"""Formulas: ring laws, evaluation as a homomorphism, exact division, one text for one value."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from supertile.ir.formula import Formula, constant, symbol

T, S = symbol("T"), symbol("S")
NAMES = ("B", "S", "T")

fractions = st.fractions(min_value=-20, max_value=20, max_denominator=8)
values = st.fixed_dictionaries(dict.fromkeys(NAMES, fractions))


def sums(coefficients: st.SearchStrategy[Fraction | int]) -> st.SearchStrategy[Formula]:
    """Formulas of up to four terms of degree up to three."""
    names = st.lists(st.sampled_from(NAMES), max_size=3)
    return st.lists(st.tuples(coefficients, names), max_size=4).map(
        lambda terms: sum((term(*each) for each in terms), constant(0))
    )


def term(coefficient: Fraction | int, names: list[str]) -> Formula:
    result = constant(coefficient)
    for name in names:
        result = result * symbol(name)
    return result


formulas = sums(fractions)
whole = sums(st.integers(-9, 9))


@given(formulas, formulas, formulas)
def test_ring_laws(a: Formula, b: Formula, c: Formula) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a * b == b * a
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a + 0 == a == a * 1
    assert a - a == 0 == a * 0
    assert a - b == -(b - a)


@given(formulas, formulas)
def test_equal_formulas_have_one_hash_and_one_text(a: Formula, b: Formula) -> None:
    left, right = (a + b) * (a - b), a * a - b * b
    assert left == right
    assert hash(left) == hash(right)
    assert str(left) == str(right)


@given(fractions)
def test_a_constant_formula_is_its_number(value: Fraction) -> None:
    assert constant(value) == value
    assert hash(constant(value)) == hash(value)
    assert constant(value).substitute({}) == value


@given(formulas, formulas, values)
def test_evaluation_is_a_homomorphism(a: Formula, b: Formula, at: dict[str, Fraction]) -> None:
    assert (a + b).evaluate(at) == a.evaluate(at) + b.evaluate(at)
    assert (a * b).evaluate(at) == a.evaluate(at) * b.evaluate(at)
    assert (3 - a).evaluate(at) == 3 - a.evaluate(at)


@given(formulas, formulas, values)
def test_substitution_then_evaluation(a: Formula, b: Formula, at: dict[str, Fraction]) -> None:
    inner = a.substitute({"T": b})
    assert (inner + constant(0)).evaluate(at) == a.evaluate({**at, "T": b.evaluate(at)})
    assert a.substitute(at) == a.evaluate(at)


@given(whole, st.integers(1, 9), st.lists(st.sampled_from(NAMES), max_size=2))
def test_division_undoes_multiplication(a: Formula, number: int, names: list[str]) -> None:
    divisor = term(number, names)
    assert (a * divisor) // divisor == a
    assert (a * number) // number == a


@pytest.mark.parametrize(
    ("dividend", "divisor"),
    [(T, 2), (6 * T + 3, 6), (T * T, S), (T * S + S * S, S + T), (T, 0), (T, T - T)],
)
def test_inexact_division_raises(dividend: Formula, divisor: Formula | int) -> None:
    with pytest.raises(ValueError, match="//"):
        dividend // divisor


@pytest.mark.parametrize(
    ("formula", "text"),
    [
        (T - T, "0"),
        (constant(2), "2"),
        (2 + T * S * 6, "6*S*T + 2"),
        (S - T * T, "-T^2 + S"),
        (T - S - 1, "-S + T - 1"),
        (T * Fraction(1, 2) - Fraction(3, 2), "1/2*T - 3/2"),
        (symbol("S:4") * 3 * T, "3*S:4*T"),
    ],
)
def test_text(formula: Formula, text: str) -> None:
    assert str(formula) == text


def test_arrays_evaluate_in_floating_point_without_overflow() -> None:
    tokens = np.array([1, 1 << 20, 1 << 40])
    flops = (1 << 40) * T + Fraction(1, 2)
    found = flops.evaluate({"T": tokens})
    assert found.dtype == np.float64
    assert found.tolist() == [2.0**40 + 0.5, 2.0**60 + 0.5, 2.0**80 + 0.5]


def test_a_missing_name_is_an_error_and_integers_stay_integers() -> None:
    with pytest.raises(KeyError):
        T.evaluate({})
    assert isinstance((T * Fraction(1, 2)).evaluate({"T": 4}), int)
    assert (T * S).substitute({"T": 4}) == 4 * S


def test_other_operands_are_refused() -> None:
    assert T != "T"
    with pytest.raises(TypeError):
        T + "S"  # type: ignore[operator]
    with pytest.raises(TypeError):
        T * 1.5  # type: ignore[operator]
