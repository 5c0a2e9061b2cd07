"""Sizes: equal when their expressions are equal, numbers when a config says so."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from supertile.frontend.dimensions import Size, product, show

H, C, G, N = (Size.of(name) for name in "HCGN")
ONE, TWO = Size.of(1), Size.of(2)
KNOWN = {"H": 6, "C": 4, "G": 3, "N": 5}

sizes = st.recursive(
    st.sampled_from([H, C, G, N]) | st.integers(-3, 3).map(Size.of),
    lambda inner: st.builds(
        lambda op, a, b: a + b if op == "+" else a - b if op == "-" else a * b,
        st.sampled_from("+-*"),
        inner,
        inner,
    ),
    max_leaves=6,
)


def value(size: Size) -> Fraction:
    held = size.value(KNOWN)
    assert held is not None
    return Fraction(held)


@given(sizes, sizes, sizes)
def test_a_ring(a: Size, b: Size, c: Size) -> None:
    assert a + b == b + a and a * b == b * a
    assert (a + b) + c == a + (b + c)
    assert (a * b) * c == a * (b * c)
    assert a * (b + c) == a * b + a * c
    assert a - a == Size.of(0) and a * ONE == a


@given(sizes, sizes)
def test_values_follow(a: Size, b: Size) -> None:
    assert value(a + b) == value(a) + value(b)
    assert value(a - b) == value(a) - value(b)
    assert value(a * b) == value(a) * value(b)


@given(sizes, st.sampled_from([H, C * G, TWO * N, Size.of(3)]))
def test_division_by_one_term(a: Size, b: Size) -> None:
    quotient = a.divided(b)
    assert quotient is not None and quotient * b == a
    assert value(quotient) == value(a) / value(b)


def test_no_division_by_sums_or_nothing() -> None:
    assert H.divided(C + G) is None
    assert H.divided(Size.of(0)) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (H * C, "C * H"),
        ((H * C).divided(G), "C * H / G"),
        ((TWO + N) * N, "N * N + 2 * N"),
        (H.divided(Size.of(3)), "1/3 * H"),
        (H - Size.of(9), "H - 9"),
        (Size.of(0), "0"),
        (ONE.divided(G), "1 / G"),
    ],
)
def test_text(size: Size, text: str) -> None:
    assert str(size) == text


def test_names_without_a_number() -> None:
    assert (Size.of("T") * H).value(KNOWN) is None
    assert (Size.of("T") - Size.of("T") + H).value(KNOWN) == 6
    assert H.divided(Size.of(4)).value(KNOWN) == Fraction(3, 2)  # type: ignore[union-attr]
    with pytest.raises(ZeroDivisionError):
        H.divided(C).value({"H": 1, "C": 0})  # type: ignore[union-attr]


def test_products_and_lists() -> None:
    assert product([H, C]) == H * C and product([]) == ONE
    assert show([H, ONE]) == "[H, 1]"
