"""Numbers are shown with three digits and a fitting unit."""

import pytest
from hypothesis import given, strategies as st

from supertile.targets.output.units import (
    bytes_text,
    label_text,
    number_text,
    scaled_text,
    seconds_text,
    share_text,
    value_text,
)


@pytest.mark.parametrize(
    ("function", "value", "shown"),
    [
        (seconds_text, 0.0, "0 ns"),
        (seconds_text, 1.5, "1.5 s"),
        (seconds_text, 0.9996e-3, "1 ms"),
        (seconds_text, 45.67e-6, "45.7 µs"),
        (seconds_text, 3.2e-12, "0.0032 ns"),
        (seconds_text, float("inf"), "inf"),
        (bytes_text, 64e9, "64 GB"),
        (bytes_text, 999.7e6, "1 GB"),
        (bytes_text, 12.0, "12 B"),
        (bytes_text, 2.5e18, "2.5 EB"),
        (bytes_text, 7e22, "70000 EB"),
        (share_text, 0.1234, "12.3 %"),
        (share_text, 0.0001, "< 0.1 %"),
        (share_text, 0.0, "0.0 %"),
        (number_text, 384, "384"),
        (number_text, 28414.25, "28,414.2"),
        (number_text, 1e6, "1,000,000"),
        (number_text, 22.414, "22.41"),
        (label_text, "time_per_output_token_ms", "time per output token"),
    ],
)
def test_texts(function, value, shown):
    assert function(value) == shown


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("step_ms", 45.04, "45.04 ms"),
        ("launch_us", 5, "5 µs"),
        (
            "memory_bytes_by_purpose",
            {"main cache": 18.2e9, "weights": 1e9},
            "main cache 18.2 GB, weights 1 GB",
        ),
        ("memory", {"weights_bytes": 18.2e9, "ranks": 2}, "weights bytes 18.2 GB, ranks 2"),
        ("notes", ["a", "b"], "a, b"),
        ("fits", True, "yes"),
        ("time_to_first_token_ms", None, "not applicable"),
        ("nothing", {}, "none"),
    ],
)
def test_fields_of_the_summary(key, value, shown):
    assert value_text(key, value) == shown


@given(st.floats(1e-9, 1e15))
def test_what_is_shown_is_within_half_a_percent(value):
    digits, _, prefix = scaled_text(value, "").partition(" ")
    power = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}[prefix]
    assert float(digits) * power == pytest.approx(value, rel=0.0051, abs=6e-10)
