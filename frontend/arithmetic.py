"""Arithmetic on numbers and sizes that are known when a model is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from supertile.frontend.dimensions import Size
from supertile.frontend.values import Number, SizeValue
from supertile.ir.errors import Spot, UserError

LARGEST = 2**63 - 1  # of whole numbers
POWER_LIMIT = 64


def combine(symbol: str, values: Sequence[Number | SizeValue], where: Spot) -> Number | SizeValue:
    """`a symbol b`, or `neg` of one; whole numbers keep their expression over names."""
    sizes = [value.size for value in values if value.size is not None]
    size = _size(symbol, sizes) if len(sizes) == len(values) else None
    numbers = [value.value for value in values if isinstance(value, Number)]
    if len(numbers) == len(values):
        return Number(_number(symbol, numbers, where), size)
    if size is None:
        raise UserError("language.size_operation", where, symbol=symbol.replace("neg", "-"))
    return SizeValue(size)


def _size(symbol: str, sizes: list[Size]) -> Size | None:
    """The expression of the result; None where it is no size."""
    match symbol:
        case "+":
            return sizes[0] + sizes[1]
        case "-":
            return sizes[0] - sizes[1]
        case "*":
            return sizes[0] * sizes[1]
        case "/":
            return sizes[0].divided(sizes[1])
        case _:
            return None


def _number(symbol: str, numbers: list[int | float], where: Spot) -> int | float:
    try:
        result = _computed(symbol, numbers)
    except (ZeroDivisionError, OverflowError):
        raise UserError("language.number", where) from None
    if isinstance(result, complex) or math.isnan(result):
        raise UserError("language.number", where)
    too_large = abs(result) > LARGEST if isinstance(result, int) else math.isinf(result)
    if too_large and not any(math.isinf(number) for number in numbers):
        raise UserError("language.number", where)
    return result


def _computed(symbol: str, numbers: list[int | float]) -> int | float | complex:
    match symbol:
        case "neg":
            return -numbers[0]
        case "+":
            return numbers[0] + numbers[1]
        case "-":
            return numbers[0] - numbers[1]
        case "*":
            return numbers[0] * numbers[1]
        case "/":
            return _quotient(*numbers)
        case "%":
            return numbers[0] % numbers[1]
        case _:
            if abs(numbers[1]) > POWER_LIMIT:
                raise OverflowError
            power: int | float | complex = numbers[0] ** numbers[1]
            return power


def _quotient(a: int | float, b: int | float) -> int | float:
    """Exact where both are whole; a whole result stays whole."""
    if not isinstance(a, int) or not isinstance(b, int):
        return a / b
    exact = Fraction(a, b)
    return exact.numerator if exact.denominator == 1 else float(exact)
