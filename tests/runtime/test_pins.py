"""Pinned choices: what a token could choose is taken, all else is refused."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import UserError
from supertile.runtime.pins import Kind, Rule, checked

EXPERTS, RATIO, TOKENS, K = 5, 2, 6, 3
PLACES = np.zeros(TOKENS, np.int32), np.arange(TOKENS, dtype=np.int32)
NUMBERS = st.integers(-2, EXPERTS + 1)


def right_row(row: list[int], limit: int) -> bool:
    """As many different candidates as there are, the rest -1."""
    chosen = [number for number in row if number != -1]
    in_range = all(0 <= number < limit for number in chosen)
    return in_range and len(set(chosen)) == len(chosen) == min(limit, len(row))


def computed(limits: list[int]) -> np.ndarray:
    rows = [[*range(min(limit, K)), *[-1] * K][:K] for limit in limits]
    return np.array(rows, np.int32)


@settings(max_examples=120)
@given(st.booleans(), st.integers(0, TOKENS - 1), st.lists(NUMBERS, min_size=K, max_size=K))
def test_choices(is_causal, token, row):
    limits = [(t + 1) // RATIO if is_causal else EXPERTS for t in range(TOKENS)]
    rule = Rule(Kind.CHOICES, None if is_causal else EXPERTS, RATIO if is_causal else None)
    ours = computed(limits)
    pin = ours.copy()
    pin[token] = row
    if right_row(row, limits[token]):
        assert np.array_equal(checked("x", pin, ours, PLACES, rule), pin)
        return
    with pytest.raises(UserError) as caught:
        checked("x", pin, ours, PLACES, rule)
    assert f"token {token} of sequence 0" in caught.value.message
    ranges = ("run.pin_not_causal", "run.pin_range")
    assert caught.value.code in (ranges[not is_causal], "run.pin_count")


@settings(max_examples=50)
@given(st.lists(NUMBERS, min_size=K, max_size=K))
def test_what_a_table_fixed_may_be_pinned_even_where_it_names_an_expert_twice(row):
    ours = np.array([row] * TOKENS, np.int64)
    assert np.array_equal(checked("x", ours, ours, PLACES, Rule(Kind.TABLE, EXPERTS)), ours)


def refusal(pin: np.ndarray, ours: np.ndarray, rule: Rule | None) -> str:
    with pytest.raises(UserError) as caught:
        checked("x", pin, ours, PLACES, rule)
    return caught.value.code


def test_counts_and_places():
    count = np.arange(TOKENS, dtype=np.int32)
    assert checked("x", count // 2, count, PLACES, Rule(Kind.COUNT)).tolist() == [0, 0, 1, 1, 2, 2]
    assert refusal(count + 1, count, Rule(Kind.COUNT)) == "run.pin_not_causal"
    window = np.stack([count, count - 1, np.full(TOKENS, -1)], axis=-1)
    assert checked("x", window[:, ::-1], window, PLACES, Rule(Kind.PLACES)).shape == (TOKENS, 3)
    assert refusal(window + 1, window, Rule(Kind.PLACES)) == "run.pin_not_causal"


def test_numbers_that_do_not_fit():
    """What becomes another number in the dtype of the value is no number of it."""
    ours = np.zeros((TOKENS, 2), np.float32)
    assert refusal(np.full((TOKENS, 2), 1e300), ours, None) == "run.pin_not_finite"
    assert refusal(np.full((TOKENS, 2), 2**32), ours.astype(np.int32), None) == "run.pin_range"


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_infinities_are_taken_where_the_model_has_them(number):
    ours = np.zeros((TOKENS, 2), np.float32)
    pin = ours.copy()
    pin[3, 1] = number
    assert refusal(pin, ours, None) == "run.pin_not_finite"
    if np.isinf(number):
        assert np.array_equal(checked("x", pin, pin, PLACES, None), pin)
    else:
        assert refusal(pin, pin, None) == "run.pin_not_finite"
