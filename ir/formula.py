"""Exact polynomials over named sizes: what work is counted in, so that sweeps evaluate arrays.

    T = symbol("T")
    str(6 * T * T + T - 2)                      6*T^2 + T - 2
    (6 * T).evaluate({"T": array([1, 8])})      [6. 48.]

Coefficients are rational, so that half a byte is exact. A formula stands wherever a size does:
shape rules add, multiply and compare sizes, and divide them where the division is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Number = int | Fraction
Monomial = tuple[tuple[str, int], ...]  # names in order, each with a power of at least 1
Term = tuple[Monomial, Fraction]


@dataclass(frozen=True, eq=False, repr=False)
class Formula:
    """A sum of terms, highest degree first, no coefficient zero: equal sums have equal terms."""

    terms: tuple[Term, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for monomial, _ in self.terms for name, _ in monomial}))

    def __add__(self, other: Formula | Number) -> Formula:
        if not isinstance(other, Formula | Number):
            return NotImplemented
        return _collect((*self.terms, *_formula(other).terms))

    def __mul__(self, other: Formula | Number) -> Formula:
        if not isinstance(other, Formula | Number):
            return NotImplemented
        return _collect(
            (_join(a, b), x * y) for a, x in self.terms for b, y in _formula(other).terms
        )

    def __neg__(self) -> Formula:
        return self * -1

    def __sub__(self, other: Formula | Number) -> Formula:
        return self + -1 * other

    def __rsub__(self, other: Number) -> Formula:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def exact_divide(self, divisor: Formula | Number) -> Formula:
        """The quotient by a number or a single term; an error unless it is a whole polynomial."""
        terms = _formula(divisor).terms
        if len(terms) != 1:
            raise ValueError(f"({self}) // ({divisor}): the divisor is not one term")
        inverse = tuple((name, -power) for name, power in terms[0][0])
        quotient = [(_join(monomial, inverse), c / terms[0][1]) for monomial, c in self.terms]
        for monomial, coefficient in quotient:
            if coefficient.denominator != 1 or any(power < 0 for _, power in monomial):
                raise ValueError(f"({self}) // ({divisor}) is not exact")
        return _collect(quotient)

    __floordiv__ = exact_divide

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Formula | Number):
            return NotImplemented
        return self.terms == _formula(other).terms

    def __hash__(self) -> int:
        # A constant formula equals its number, so that both hash alike.
        return hash(self.terms) if self.names else hash(sum(c for _, c in self.terms))

    def __str__(self) -> str:
        text = " + ".join(_term_text(*term) for term in self.terms)
        return text.replace("+ -", "- ") or "0"

    def __repr__(self) -> str:
        return f"Formula({self})"

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value where every name has one: exact for integers and fractions.

        Arrays and floats give float64: FLOPs of a long prefill do not fit 64-bit integers.
        """
        exact = all(isinstance(values[name], Number) for name in self.names)
        total: Any = 0
        for monomial, coefficient in self.terms:
            total = total + _times(coefficient if exact else float(coefficient), monomial, values)
        return _plain(total)

    def substitute(self, values: Mapping[str, Formula | Number]) -> Formula | Number:
        """The formula with some names replaced by numbers or formulas; a number if none is left."""
        held = {name: values.get(name, symbol(name)) for name in self.names}
        products = [_times(coefficient, monomial, held) for monomial, coefficient in self.terms]
        result = sum(products, constant(0))
        return result if result.names else _plain(sum(c for _, c in result.terms))


def symbol(name: str) -> Formula:
    return Formula(((((name, 1),), Fraction(1)),))


def constant(value: Number) -> Formula:
    return Formula((((), Fraction(value)),) if value else ())


def _formula(value: Formula | Number) -> Formula:
    return value if isinstance(value, Formula) else constant(value)


def _plain(value: Any) -> Any:
    """A whole fraction as an integer; everything else as it is."""
    return int(value) if isinstance(value, Fraction) and value.denominator == 1 else value


def _join(a: Monomial, b: Monomial) -> Monomial:
    powers: Counter[str] = Counter(dict(a))
    powers.update(dict(b))
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _collect(terms: Iterable[Term]) -> Formula:
    """Like terms added, in the one order that all formulas keep."""
    sums: dict[Monomial, Fraction] = {}
    for monomial, coefficient in terms:
        sums[monomial] = sums.get(monomial, Fraction(0)) + coefficient
    kept = [term for term in sums.items() if term[1]]
    return Formula(tuple(sorted(kept, key=lambda term: (-_degree(term[0]), term[0]))))


def _degree(monomial: Monomial) -> int:
    return sum(power for _, power in monomial)


def _times(product: Any, monomial: Monomial, values: Mapping[str, Any]) -> Any:
    for name, power in monomial:
        for _ in range(power):
            product = product * values[name]
    return product


def _term_text(monomial: Monomial, coefficient: Fraction) -> str:
    factors = [name if power == 1 else f"{name}^{power}" for name, power in monomial]
    if factors and abs(coefficient) == 1:
        return "-" * (coefficient < 0) + "*".join(factors)
    return "*".join([str(coefficient), *factors])
