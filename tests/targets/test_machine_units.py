"""Units and sizes by hand: what one of each is in SI units, and which texts are sizes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from supertile.targets.machine_units import (
    DIMENSION_OF,
    FORMATS,
    LIMITS,
    SI_UNITS,
    STORED,
    UNITS,
    parse_bytes,
    scale_of,
)

SIZES = {
    "1B": 1.0,
    "512 MiB": 512 * 1024 * 1024,
    "1.5GB": 1.5e9,
    "2KB": 2000.0,
    "3KiB": 3072.0,
    "1 TiB": 1024.0**4,
    "7TB": 7e12,
    "0.25 PB": 2.5e14,
    "0.001KB": 1.0,
}
NO_SIZES = (
    "", "1", "B", "GB", "1 gb", "1kB", "0B", "0.5B", "0.9999B", "-1GB", "+1GB", "1e3B", "1..5GB",
    "1.GB", ".5GB", "1  GB", " 1GB", "1GB ", "1PiB", "1EB", "1GB/s", "1_0GB", "١GB", "1" * 16 + "B",
)  # fmt: skip


@pytest.mark.parametrize("text", SIZES)
def test_sizes(text: str) -> None:
    assert parse_bytes(text) == SIZES[text]


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size(text: str) -> None:
    assert parse_bytes(text) is None


@given(
    st.integers(1, 10**15 - 1), st.sampled_from(sorted(UNITS["bytes"])), st.sampled_from(["", " "])
)
def test_a_size_is_its_number_times_its_unit(number: int, unit: str, space: str) -> None:
    assert parse_bytes(f"{number}{space}{unit}") == number * scale_of(unit)


ONE = {
    "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
    "KiB": 1024.0, "MiB": 1048576.0, "GiB": 1073741824.0, "TiB": 1099511627776.0,
    "GB/s": 1e9, "GiB/s": 1073741824.0, "bit/s": 0.125, "Gbit/s": 1.25e8, "Tbit/s": 1.25e11,
    "FLOP/s": 1.0, "TFLOP/s": 1e12, "PFLOP/s": 1e15, "TOP/s": 1e12,
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9,
    "Hz": 1.0, "KHz": 1e3, "MHz": 1e6, "GHz": 1e9, "count": 1.0, "fraction": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("unit", ONE)
def test_one_of_a_unit(unit: str) -> None:
    assert scale_of(unit) == ONE[unit]


def test_every_unit_is_of_one_dimension() -> None:
    assert len(DIMENSION_OF) == sum(map(len, UNITS.values()))
    assert set(LIMITS) == set(UNITS)


BITS = {
    "f32": 32, "tf32": 32, "bf16": 16, "f16": 16, "f8e4m3": 8, "hif8": 8, "i8": 8, "f4e2m1": 4,
    "i4": 4,
}  # fmt: skip


def test_bits_of_formats() -> None:
    assert {name: kind.bits for name, kind in FORMATS.items()} == BITS
    assert set(STORED) == set(BITS) - {"tf32"}, "memory never holds tf32"


def test_figures_lie_between_an_exascale_rack_and_a_single_bit() -> None:
    """Limits far from any machine, so that no formula over- or underflows."""
    assert LIMITS == {
        "bytes": (1, 10**18),
        "bandwidth": (1000, 10**18),
        "rate": (1000, 1e24),
        "time": (1e-12, 1000),
        "frequency": (1000, 10**15),
        "count": (1, 2147483648),
        "fraction": (1e-6, 1),
    }


def test_the_unit_of_an_error_is_that_of_a_figure_of_one() -> None:
    shown = {"bytes": "B", "bandwidth": "B/s", "time": "s", "frequency": "Hz"}
    assert {dimension: SI_UNITS[dimension] for dimension in shown} == shown
    assert all(scale_of(unit) == 1 for unit in shown.values())
