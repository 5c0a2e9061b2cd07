"""Numbers for people, and rounding up."""

from __future__ import annotations

import numpy as np
import pytest

from supertile.targets.cost.values import Value, ceil_divide, number_text


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.00123456, "s", "1.235 ms"),
        (4.2e-6, "s", "4.2 us"),
        (0.0, "s", "0 ns"),
        (1.6e12, "B/s", "1.6 TB/s"),
        (64e9, "B", "64 GB"),
        (12.0, "B", "12 B"),
        (896, "", "896"),
        (np.array([3e-6, 1e-3]), "s", "3 us to 1 ms"),
    ],
)
def test_numbers(value: Value, unit: str, expected: str) -> None:
    assert number_text(value, unit) == expected


def test_rounding_up_is_exact() -> None:
    assert ceil_divide(np.array([0, 1, 16, 17]), 16).tolist() == [0, 1, 1, 2]
    assert ceil_divide(2**40 + 1, 2**20) == 2**20 + 1
