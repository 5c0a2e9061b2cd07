"""Sizes as exact expressions over names: `(2 + N) * N`, `H * C / G`, `T`.

Two sizes are the same size when their expressions are equal, whatever their values: a mismatch
shows for every config, not only for one in which the numbers differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from supertile.ir.types import DYNAMIC

Monomial = tuple[tuple[str, int], ...]  # sorted (name, power), powers may be negative


@dataclass(frozen=True)
class Size:
    """A sum of monomials with rational coefficients, sorted: equal sizes compare equal."""

    terms: tuple[tuple[Monomial, Fraction], ...]

    @staticmethod
    def of(value: str | int | Fraction) -> Size:
        if isinstance(value, str):
            return Size((((((value, 1),)), Fraction(1)),))
        return Size((((), Fraction(value)),)) if value else Size(())

    @staticmethod
    def _sum(terms: list[tuple[Monomial, Fraction]]) -> Size:
        total: dict[Monomial, Fraction] = {}
        for monomial, factor in terms:
            total[monomial] = total.get(monomial, Fraction(0)) + factor
        return Size(tuple(sorted((m, f) for m, f in total.items() if f)))

    def __add__(self, other: Size) -> Size:
        return Size._sum([*self.terms, *other.terms])

    def __sub__(self, other: Size) -> Size:
        return self + other * Size.of(-1)

    def __mul__(self, other: Size) -> Size:
        return Size._sum(
            [(_times(m, n), f * g) for m, f in self.terms for n, g in other.terms]
        )

    def divided(self, other: Size) -> Size | None:
        """The quotient by a single term; None when `other` has several."""
        if len(other.terms) != 1:
            return None
        ((monomial, factor),) = other.terms
        inverse = tuple((name, -power) for name, power in monomial)
        return self * Size(((inverse, 1 / factor),))

    def names(self) -> set[str]:
        return {name for monomial, _ in self.terms for name, _ in monomial}

    def constant(self) -> int | None:
        """The number that the size is, whatever the config; None if it depends on a name."""
        if not self.terms:
            return 0
        ((monomial, factor), *rest) = self.terms
        return int(factor) if not rest and not monomial and factor.denominator == 1 else None

    def value(self, known: Mapping[str, int]) -> int | Fraction:
        """The number under the config, or `DYNAMIC` if a name has none."""
        total = Fraction(0)
        for monomial, factor in self.terms:
            for name, power in monomial:
                if name not in known:
                    return DYNAMIC
                factor *= Fraction(known[name]) ** power
            total += factor
        return int(total) if total.denominator == 1 else total

    def __str__(self) -> str:
        return " + ".join(_shown(m, f) for m, f in reversed(self.terms)) or "0"


def _times(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for name, power in b:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _shown(monomial: Monomial, factor: Fraction) -> str:
    over = [name for name, power in monomial for _ in range(power)]
    under = [name for name, power in monomial for _ in range(-power)]
    text = " * ".join(([] if factor == 1 and over else [str(factor)]) + over)
    return " / ".join([text, *under])


def same_sizes(a: tuple[Size, ...], b: tuple[Size, ...]) -> bool:
    return a == b


def product(sizes: tuple[Size, ...]) -> Size:
    result = Size.of(1)
    for size in sizes:
        result = result * size
    return result


def show(sizes: tuple[Size, ...]) -> str:
    """`[T, H, C]`."""
    return "[" + ", ".join(str(size) for size in sizes) + "]"
