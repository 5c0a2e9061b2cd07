"""Sizes as exact expressions over names: `(2 + N) * N`, `H * C / G`, `T`.

Two sizes are the same size when their expressions are equal, whatever their values: a mismatch
shows for every config, not only for one in which the numbers differ.

Close to `ir.formula.Formula`, which counts work; but a size may be a quotient whose divisor the
config decides, and it has no value while one of its names has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

Monomial = tuple[tuple[str, int], ...]  # sorted (name, power), powers may be negative
Factor = int | Fraction
Term = tuple[Monomial, Factor]


@dataclass(frozen=True)
class Size:
    """A sum of monomials with rational coefficients, sorted: equal sizes compare equal."""

    terms: tuple[Term, ...]

    @staticmethod
    def of(value: str | int) -> Size:
        if isinstance(value, str):
            return Size(((((value, 1),), 1),))
        return Size((((), value),)) if value else Size(())

    def __add__(self, other: Size) -> Size:
        return _collect((*self.terms, *other.terms))

    def __sub__(self, other: Size) -> Size:
        return self + other * Size.of(-1)

    def __mul__(self, other: Size) -> Size:
        return _collect((_times(m, n), f * g) for m, f in self.terms for n, g in other.terms)

    def divided(self, other: Size) -> Size | None:
        """The quotient by a single term; None when `other` has none or several."""
        if len(other.terms) != 1:
            return None
        ((monomial, factor),) = other.terms
        inverse = tuple((name, -power) for name, power in monomial)
        return self * Size(((inverse, Fraction(1) / factor),))

    def value(self, known: Mapping[str, int]) -> int | Fraction | None:
        """The number under the config; None if a name has no number. May divide by zero."""
        total: Factor = 0
        for monomial, factor in self.terms:
            for name, power in monomial:
                number = known.get(name)
                if number is None:
                    return None
                factor *= number**power if power > 0 else Fraction(number) ** power
            total += factor
        return int(total) if total == int(total) else total

    def __str__(self) -> str:
        text = " + ".join(_shown(m, f) for m, f in reversed(self.terms))
        return text.replace("+ -", "- ") or "0"


def _collect(terms: Iterable[Term]) -> Size:
    """Like terms added, in the one order that all sizes keep."""
    total: dict[Monomial, Factor] = {}
    for monomial, factor in terms:
        total[monomial] = total.get(monomial, 0) + factor
    return Size(tuple(sorted((m, f) for m, f in total.items() if f)))


def _times(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for name, power in b:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _shown(monomial: Monomial, factor: Factor) -> str:
    over = [name for name, power in monomial for _ in range(power)]
    under = [name for name, power in monomial for _ in range(-power)]
    text = " * ".join(([] if factor == 1 and over else [str(factor)]) + over)
    return " / ".join([text, *under])


def product(sizes: Iterable[Size]) -> Size:
    result = Size.of(1)
    for size in sizes:
        result = result * size
    return result


def show(sizes: Iterable[Size]) -> str:
    """`[T, H, C]`."""
    return "[" + ", ".join(str(size) for size in sizes) + "]"
