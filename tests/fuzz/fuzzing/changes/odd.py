"""Values that readers meet rarely and must have an answer to."""

from __future__ import annotations

import math
from random import Random

NUMBERS: tuple[float, ...] = (
    0, -1, 1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30,
    0.0, -0.0, 0.5, -0.5, 1.5, 1e-9, 1e9, 1e18, 1e308, -1e308, 5e-324, 1e-320,
    math.nan, math.inf, -math.inf,
)  # fmt: skip
FACTORS = (2, 3, -1, 0.5, 10, 0.1, 1000, 0.001, 1e12, 1e-12)
TEXTS = (
    "", " ", "0", "-1", "1", "none", "null", "nan", "inf", "true", "x", "x" * 5000, "\0", "\n",
    "\t", "é", "漢", "\ud800", "../..", "/dev/null", "%s%n", "{0}", "{x}", "{l}", "1e999", "0x10",
    "1_000", "٣", "²", "a.b", "a b", '"', "'", "\\", "#", "[", "]", "float32", "silu", "utf-8",
)  # fmt: skip
DEPTHS = (2, 5, 40, 200)


def number(random: Random) -> float:
    """An odd number, or any."""
    return random.choice(
        [
            random.choice(NUMBERS),
            random.randint(-10, 1000),
            random.randint(-(2**40), 2**70),
            random.uniform(-2, 2),
            random.lognormvariate(0, 20),
        ]
    )


def text(random: Random) -> str:
    """An odd text, or a short one of any characters."""
    if random.random() < 0.7:
        return random.choice(TEXTS)
    return "".join(chr(random.randint(0, 0x24FF)) for _ in range(random.randint(1, 4)))


def value(random: Random) -> object:
    """Anything that JSON has."""
    kind = random.randrange(8)
    if kind < 3:
        return number(random)
    if kind < 5:
        return text(random)
    return random.choice(
        [None, True, False, [], {}, [number(random)] * random.randint(1, 3), {text(random): 1}]
    )
